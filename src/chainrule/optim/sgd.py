"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from chainrule.errors import UserError
from chainrule.graph.dtypes import float64
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.tensor import Tensor, functions, making


class SGD(Optimizer):
    """Stochastic gradient descent: w <- w - lr v with v = momentum v + (1 - dampening) g, g = de/dw + weight_decay w.

    v begins as the first g, which ``dampening`` does not diminish. ``nesterov`` takes g + momentum v instead of v, and needs a
    momentum without dampening. ``maximize`` takes -de/dw for de/dw, so that e rises.

    Sutskever, Martens, Dahl and Hinton, "On the importance of initialization and momentum in deep learning" (2013).
    """

    changing = ("lr", "momentum")
    slots = ("momentum", "count")
    always = ("momentum",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        options = {"lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
        super().__init__(params, {**options, "nesterov": nesterov, "maximize": maximize})

    def _check(self, options: Mapping[str, Any]) -> None:
        super()._check(options)
        if options["nesterov"] and options["momentum"] <= 0:
            raise UserError("SGD: nesterov=True needs a momentum above 0, for example momentum=0.9")
        if options["nesterov"] and options["dampening"]:
            raise UserError(f"SGD: nesterov=True needs dampening=0, got {options['dampening']}")

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        if group["weight_decay"]:
            gradient = gradient + parameter * group["weight_decay"]
        if group.initial["momentum"] > 0:
            momentum = group["momentum"].astype(gradient.dtype)
            velocity = self._slot(parameter, "momentum")
            velocity.assign(velocity * momentum + self._dampened(group, parameter, gradient))
            gradient = gradient + velocity * momentum if group["nesterov"] else velocity
        parameter.assign(parameter - gradient * group["lr"].astype(gradient.dtype))

    def _dampened(self, group: Group, parameter: Tensor, gradient: Tensor) -> Tensor:
        """What is added to the velocity: all of the first gradient, the share 1 - dampening of later ones."""
        if not group["dampening"]:
            return gradient
        count = self._slot(parameter, "count")
        later = making.full((), 1 - group["dampening"], float64)  # two Python numbers would meet in float32
        share = functions.where(count > 0, later, 1.0)
        count.assign(count + 1)
        return gradient * share.astype(gradient.dtype)

    def _always(self, group: Group) -> tuple[str, ...]:
        return self.slots if group["dampening"] else self.always

    def _used(self, group: Group) -> tuple[str, ...]:
        return self._always(group) if group.initial["momentum"] > 0 else ()
