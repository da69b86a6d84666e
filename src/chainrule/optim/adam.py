"""Adam and its relatives: running means of the gradient and of its square."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from chainrule.arguments import members_of
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.tensor import Tensor


def _two_betas(kind: str, betas: Any) -> tuple[float, float]:
    """The two decay rates of Adam; their range is checked later, with the other options."""
    pair = members_of(f"{kind}: betas", betas, "pass two numbers, such as (0.9, 0.999)")
    if len(pair) != 2:
        raise UserError(f"{kind}: betas must be two numbers, such as (0.9, 0.999), got {betas!r}")
    return pair[0], pair[1]


class Adam(Optimizer):
    """w <- w - lr m' / (sqrt(v') + eps). m and v are running means of g and g^2; m' and v' correct them for their start at 0.

    Kingma and Ba, "Adam" (2015). ``weight_decay`` is added to the gradient (for the decoupled kind see AdamW).
    """

    changing = ("lr", "beta1")
    slots = always = ("count", "mean", "square")
    decoupled = False

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        first, second = _two_betas(type(self).__name__, betas)
        super().__init__(params, {"lr": lr, "beta1": first, "beta2": second, "eps": eps, "weight_decay": weight_decay})

    def _unfolded(self, options: dict[str, Any]) -> dict[str, Any]:
        if "betas" not in options:
            return options
        first, second = _two_betas(type(self).__name__, options.pop("betas"))
        return {**options, "beta1": first, "beta2": second}

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        rate, first, second = group["lr"], group["beta1"], group["beta2"]
        value: Tensor = parameter
        if group["weight_decay"] and self.decoupled:
            value = value * (1 - rate * group["weight_decay"]).astype(gradient.dtype)
        elif group["weight_decay"]:
            gradient = gradient + parameter * group["weight_decay"]
        count, mean, square = (self._slot(parameter, name) for name in self.slots)
        count.assign(count + 1)
        share = first.astype(gradient.dtype)
        mean.assign(mean * share + gradient * (1 - first).astype(gradient.dtype))
        square.assign(square * second + gradient * gradient * (1 - second))
        # The divisors that correct for the start at 0 are small at first. Rounding to float32 would change the first steps.
        rate = rate / (1 - (count * first.log()).exp()) if group.initial["beta1"] > 0 else rate
        correction = (1 - (count * math.log(second)).exp()).sqrt() if second > 0 else 1.0 + count * 0
        denominator = square.sqrt() / correction.astype(gradient.dtype) + group["eps"]
        parameter.assign(value - mean / denominator * rate.astype(gradient.dtype))


class AdamW(Adam):
    """Adam whose weight decay acts on the weights directly: w <- w - lr weight_decay w, before the step.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
