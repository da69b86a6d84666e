"""Adam and its relatives: running means of the gradient and of its square."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from chainrule.arguments import members_of
from chainrule.errors import UserError
from chainrule.optim.optimizer import Group, Optimizer
from chainrule.tensor import Buffer, Tensor, functions


def _two_betas(kind: str, betas: Any) -> tuple[float, float]:
    """The two decay rates of Adam; their range is checked later, with the other options."""
    pair = members_of(f"{kind}: betas", betas, "pass two numbers, such as (0.9, 0.999)")
    if len(pair) != 2:
        raise UserError(f"{kind}: betas must be two numbers, such as (0.9, 0.999), got {betas!r}")
    return pair[0], pair[1]


class _Adaptive(Optimizer):
    """What Adam and its relatives share: m and v, running means of the gradient and its square, and the weight decay."""

    changing = ("lr", "beta1")
    slots: tuple[str, ...] = ("count", "mean", "square")
    always: tuple[str, ...] = slots

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float],
        eps: float,
        weight_decay: float,
        decoupled_weight_decay: bool,
        maximize: bool,
        **others: Any,
    ) -> None:
        first, second = _two_betas(type(self).__name__, betas)
        options = {"lr": lr, "beta1": first, "beta2": second, "eps": eps, "weight_decay": weight_decay, **others}
        super().__init__(params, {**options, "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay})

    def _unfolded(self, options: dict[str, Any]) -> dict[str, Any]:
        if "betas" not in options:
            return options
        first, second = _two_betas(type(self).__name__, options.pop("betas"))
        return {**options, "beta1": first, "beta2": second}

    def _decayed(self, group: Group, parameter: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """The value to step from and the gradient, one of them with the weight decay."""
        if not group["weight_decay"]:
            return parameter, gradient
        if group["decoupled_weight_decay"]:
            return parameter * (1 - group["lr"] * group["weight_decay"]).astype(gradient.dtype), gradient
        return parameter, gradient + parameter * group["weight_decay"]

    def _means(self, group: Group, parameter: Tensor, gradient: Tensor) -> tuple[Buffer, Buffer, Buffer]:
        """The number of steps with this one, m and v, all of them updated."""
        first, second = group["beta1"], group["beta2"]
        count, mean, square = (self._slot(parameter, name) for name in ("count", "mean", "square"))
        count.assign(count + 1)
        mean.assign(mean * first.astype(gradient.dtype) + gradient * (1 - first).astype(gradient.dtype))
        square.assign(square * second + gradient * gradient * (1 - second))
        return count, mean, square

    # The divisors that correct for the start at 0 are small at first: they are float64, as rounding to float32 would change the
    # first steps.

    def _corrected_rate(self, group: Group, count: Tensor) -> Tensor:
        """The learning rate divided by 1 - beta1^count, which corrects for the start of m at 0: float64."""
        rate: Tensor = group["lr"]
        return rate / (1 - (count * group["beta1"].log()).exp()) if group.initial["beta1"] > 0 else rate

    def _correction(self, group: Group, count: Tensor) -> Tensor:
        """1 - beta2^count, which corrects for the start of v at 0: float64."""
        second = group["beta2"]
        return 1 - (count * math.log(second)).exp() if second > 0 else 1.0 + count * 0


class Adam(_Adaptive):
    """w <- w - lr m' / (sqrt(v') + eps). m and v are running means of g and g^2; m' and v' correct them for their start at 0.

    ``weight_decay`` w is added to the gradient, or, with ``decoupled_weight_decay``, lr weight_decay w is subtracted from w, as
    in AdamW. ``amsgrad`` takes the largest v so far for v. ``maximize`` takes -de/dw for de/dw, so that e rises.

    Kingma and Ba, "Adam" (2015); Reddi, Kale and Kumar, "On the convergence of Adam and beyond" (2018).
    """

    slots = ("count", "mean", "square", "largest")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize, amsgrad=amsgrad)

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        value, gradient = self._decayed(group, parameter, gradient)
        count, mean, square = self._means(group, parameter, gradient)
        rate, correction = self._corrected_rate(group, count), self._correction(group, count)
        if group["amsgrad"]:
            largest = self._slot(parameter, "largest")
            largest.assign(functions.maximum(largest, square))
            square = largest
        denominator = square.sqrt() / correction.sqrt().astype(gradient.dtype) + group["eps"]
        parameter.assign(value - mean / denominator * rate.astype(gradient.dtype))

    def _always(self, group: Group) -> tuple[str, ...]:
        return self.slots if group["amsgrad"] else self.always

    def _used(self, group: Group) -> tuple[str, ...]:
        return self._always(group)


class AdamW(Adam):
    """Adam whose weight decay acts on the weights directly: w <- w - lr weight_decay w, before the step.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True)


class NAdam(_Adaptive):
    """Adam with Nesterov's momentum: w <- w - lr ((1 - a) g' + b m') / (sqrt(v') + eps).

    a = beta1 (1 - 0.96^(t momentum_decay) / 2) in step t, counted from 1, is the momentum of this step, and b that of the next.
    g' = g / (1 - the product of all a) and m' = m / (1 - that product times b) correct for the start at 0, as v' does.
    ``weight_decay`` w is added to the gradient, or, with ``decoupled_weight_decay``, lr weight_decay w is subtracted from w.
    ``maximize`` takes -de/dw for de/dw, so that e rises.

    Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    """

    slots = always = ("count", "mean", "square", "correction")
    scalars = ("count", "correction")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize, momentum_decay=momentum_decay)

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        value, gradient = self._decayed(group, parameter, gradient)
        count, mean, square = self._means(group, parameter, gradient)
        decay = group["momentum_decay"] * math.log(0.96)
        now, then = (group["beta1"] * (1 - 0.5 * (step * decay).exp()) for step in (count, count + 1))
        # 1 - the product of all momenta is kept, not the product: it begins as 0, as all state does, and 1 - p a is
        # (1 - p) a + (1 - a), which loses no digits where it is small.
        correction = self._slot(parameter, "correction")
        correction.assign(correction * now + (1 - now))
        of_gradient = (group["lr"] * (1 - now) / correction).astype(gradient.dtype)
        of_mean = (group["lr"] * then / (correction * then + (1 - then))).astype(gradient.dtype)
        denominator = square.sqrt() / self._correction(group, count).sqrt().astype(gradient.dtype) + group["eps"]
        parameter.assign(value - (gradient * of_gradient + mean * of_mean) / denominator)


class RAdam(_Adaptive):
    """Adam that takes plain steps of m' until v' can be trusted, and then lr r m' / (sqrt(v') + eps).

    r = sqrt((p - 4) (p - 2) q / ((q - 4) (q - 2) p)) rectifies the variance of v', with q = 2 / (1 - beta2) - 1 and
    p = q - 2 t beta2^t / (1 - beta2^t) in step t, counted from 1; steps are plain while p <= 5, that is for the first five with
    the default betas. ``weight_decay`` w is added to the gradient, or, with ``decoupled_weight_decay``, lr weight_decay w is
    subtracted from w. ``maximize`` takes -de/dw for de/dw, so that e rises.

    Liu, Jiang, He, Chen, Liu, Gao and Han, "On the variance of the adaptive learning rate and beyond" (2020).
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay, maximize)

    def _update(self, group: Group, parameter: Tensor, gradient: Tensor) -> None:
        value, gradient = self._decayed(group, parameter, gradient)
        count, mean, square = self._means(group, parameter, gradient)
        step = mean * self._corrected_rate(group, count).astype(gradient.dtype)
        second = group["beta2"]
        longest = 2 / (1 - second) - 1
        if longest > 5:  # else p, which is smaller, never is above 5
            correction = self._correction(group, count)
            length = longest - 2 * count * (1 - correction) / correction
            reached = functions.maximum(length, 5.0)  # so that no root is of a negative number where it is not used
            rectified = (reached - 4) * (reached - 2) * longest / ((longest - 4) * (longest - 2) * reached)
            factor = (rectified * correction).sqrt().astype(gradient.dtype) / (square.sqrt() + group["eps"])
            step = step * functions.where(length > 5, factor, 1.0)
        parameter.assign(value - step)
