"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.tensor import Tensor


class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - lr v with v = momentum v + g, g = de/dw + weight_decay w.

    ``nesterov`` takes g + momentum v instead of v. Sutskever, Martens, Dahl and Hinton, "On the importance of
    initialization and momentum in deep learning" (2013).
    """

    changing = ("lr", "momentum")
    slots = always = ("momentum",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        *,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "nesterov": nesterov})

    def _check(self, options: Mapping[str, Any]) -> None:
        super()._check(options)
        if options["nesterov"] and options["momentum"] <= 0:
            raise UserError("SGD: nesterov=True needs a momentum above 0, for example momentum=0.9")

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        if group["weight_decay"]:
            gradient = gradient + parameter * group["weight_decay"]
        if group.initial["momentum"] > 0:
            momentum = group["momentum"].astype(gradient.dtype)
            velocity = self._slot(parameter, "momentum")
            velocity.assign(velocity * momentum + gradient)
            gradient = gradient + velocity * momentum if group["nesterov"] else velocity
        parameter.assign(parameter - gradient * group["lr"].astype(gradient.dtype))
