"""RMSprop: steps divided by a running mean of the gradient's size."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from chainrule.optim.optimizer import Group, Optimizer
from chainrule.tensor import Tensor


class RMSprop(Optimizer):
    """w <- w - lr q, where q = g / (sqrt(v) + eps), and v is a running mean of g^2.

    With momentum, the step is lr m instead, where m <- momentum m + q. ``maximize`` takes -de/dw for de/dw, so that e rises.

    Tieleman and Hinton, "Lecture 6.5 - RMSprop" (2012). With ``centered``, v is the running variance of g, updated as
    v <- alpha (v + (1 - alpha) (g - mean)^2). This equals the running mean of g^2 minus the square of the running mean of g,
    but is never negative, while rounding can make that difference negative where gradients hardly change.
    """

    changing = ("lr", "momentum")
    slots = ("square", "variance", "mean", "momentum")
    always = ("square",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "alpha": alpha, "eps": eps, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(params, {**options, "centered": centered, "maximize": maximize})

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        if group["weight_decay"]:
            gradient = gradient + parameter * group["weight_decay"]
        alpha, rate = group["alpha"], group["lr"].astype(gradient.dtype)
        if group["centered"]:
            square, mean = self._slot(parameter, "variance"), self._slot(parameter, "mean")
            deviation = gradient - mean
            square.assign((square + deviation * deviation * (1 - alpha)) * alpha)
            mean.assign(mean * alpha + gradient * (1 - alpha))
        else:
            square = self._slot(parameter, "square")
            square.assign(square * alpha + gradient * gradient * (1 - alpha))
        quotient = gradient / (square.sqrt() + group["eps"])
        if group.initial["momentum"] > 0:
            velocity = self._slot(parameter, "momentum")
            velocity.assign(velocity * group["momentum"].astype(gradient.dtype) + quotient)
            quotient = velocity
        parameter.assign(parameter - quotient * rate)

    def _always(self, group: Group) -> tuple[str, ...]:
        return ("variance", "mean") if group["centered"] else self.always

    def _used(self, group: Group) -> tuple[str, ...]:
        return (*self._always(group), "momentum") if group.initial["momentum"] > 0 else self._always(group)
