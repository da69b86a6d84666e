"""Adagrad: steps divided by the size of all gradients so far."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.optim.optimizer import Group, Optimizer
from chainrule.tensor import Tensor


class Adagrad(Optimizer):
    """w <- w - lr / (1 + t lr_decay) g / (sqrt(s) + eps), where s is the sum of all g^2, and t counts the steps from 0.

    s begins as ``initial_accumulator_value``. ``weight_decay`` w is added to the gradient. ``maximize`` takes -de/dw for de/dw,
    so that e rises.

    Duchi, Hazan and Singer, "Adaptive subgradient methods for online learning and stochastic optimization" (2011).
    """

    slots = always = ("count", "square")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "lr_decay": lr_decay, "weight_decay": weight_decay}
        options |= {"initial_accumulator_value": initial_accumulator_value, "eps": eps}
        super().__init__(params, {**options, "maximize": maximize})

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        if group["weight_decay"]:
            gradient = gradient + parameter * group["weight_decay"]
        count, square = self._slot(parameter, "count"), self._slot(parameter, "square")
        rate = group["lr"] / (1 + count * group["lr_decay"])
        count.assign(count + 1)
        square.assign(square + gradient * gradient)  # without what s begins as, as all state begins as 0
        quotient = gradient / ((square + group["initial_accumulator_value"]).sqrt() + group["eps"])
        parameter.assign(parameter - quotient * rate.astype(gradient.dtype))
