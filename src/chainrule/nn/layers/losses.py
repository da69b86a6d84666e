"""Losses as modules, which hold the options of the functions in ``nn.functional.losses``.

``reduction`` is 'mean', 'sum' or 'none', the loss of each element.
"""

from __future__ import annotations

from typing import Any

from chainrule.nn.functional import losses
from chainrule.nn.module import Module
from chainrule.tensor import Tensor


class MSELoss(Module):
    """The squared error (x - target)^2."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """``x`` and ``target`` of the same shape -> a number, or that shape with ``reduction="none"``."""
        return losses.mse_loss(x, target, reduction=self.reduction)


class L1Loss(Module):
    """The absolute error |x - target|."""

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """``x`` and ``target`` of the same shape -> a number, or that shape with ``reduction="none"``."""
        return losses.l1_loss(x, target, reduction=self.reduction)


class SmoothL1Loss(Module):
    """d^2 / (2 beta) where d = |x - target| < beta, else d - beta / 2."""

    def __init__(self, *, reduction: str = "mean", beta: float = 1.0) -> None:
        super().__init__()
        self.reduction, self.beta = reduction, beta

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """``x`` and ``target`` of the same shape -> a number, or that shape with ``reduction="none"``."""
        return losses.smooth_l1_loss(x, target, reduction=self.reduction, beta=self.beta)


class CrossEntropyLoss(Module):
    """-ln softmax(logits)[target]; for the arguments see ``losses.cross_entropy``."""

    def __init__(
        self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean", label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.weight, self.ignore_index = weight, ignore_index
        self.reduction, self.label_smoothing = reduction, label_smoothing

    def forward(self, logits: Tensor, target: Any) -> Tensor:
        """Logits (N, classes, ...), labels (N, ...) or probabilities -> a number, or (N, ...) with ``reduction="none"``."""
        return losses.cross_entropy(
            logits,
            target,
            self.weight,
            ignore_index=self.ignore_index,
            reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )


class NLLLoss(Module):
    """-log_probabilities[target]: the cross-entropy of a model that ends with log_softmax."""

    def __init__(self, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean") -> None:
        super().__init__()
        self.weight, self.ignore_index, self.reduction = weight, ignore_index, reduction

    def forward(self, log_probabilities: Tensor, target: Any) -> Tensor:
        """Log probabilities (N, classes, ...), labels (N, ...) -> a number, or (N, ...) with ``reduction="none"``."""
        return losses.nll_loss(log_probabilities, target, self.weight, ignore_index=self.ignore_index, reduction=self.reduction)


class BCEWithLogitsLoss(Module):
    """Binary cross-entropy of sigmoid(x), computed from the logits x, which is accurate for all x."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None) -> None:
        super().__init__()
        self.weight, self.reduction, self.pos_weight = weight, reduction, pos_weight

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """``x`` and ``target`` of the same shape -> a number, or that shape with ``reduction="none"``."""
        return losses.binary_cross_entropy_with_logits(
            x, target, self.weight, reduction=self.reduction, pos_weight=self.pos_weight
        )


class BCELoss(Module):
    """Binary cross-entropy of probabilities. From scores, BCEWithLogitsLoss keeps more digits."""

    def __init__(self, weight: Any = None, *, reduction: str = "mean") -> None:
        super().__init__()
        self.weight, self.reduction = weight, reduction

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """``x``, probabilities, and ``target`` of the same shape -> a number, or that shape with ``reduction="none"``."""
        return losses.binary_cross_entropy(x, target, self.weight, reduction=self.reduction)


class HuberLoss(Module):
    """d^2 / 2 where d = |x - target| < delta, else delta (d - delta / 2)."""

    def __init__(self, *, reduction: str = "mean", delta: float = 1.0) -> None:
        super().__init__()
        self.reduction, self.delta = reduction, delta

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """``x`` and ``target`` of the same shape -> a number, or that shape with ``reduction="none"``."""
        return losses.huber_loss(x, target, reduction=self.reduction, delta=self.delta)


class KLDivLoss(Module):
    """t (ln t - x), with x the logarithms of probabilities and t the target; ``log_target`` if it holds logarithms, too.

    ``reduction="batchmean"`` gives Kullback and Leibler's divergence: the sum over the classes, the mean over the first axis.
    """

    def __init__(self, *, reduction: str = "mean", log_target: bool = False) -> None:
        super().__init__()
        self.reduction, self.log_target = reduction, log_target

    def forward(self, x: Tensor, target: Any) -> Tensor:
        """``x`` and ``target`` of the same shape -> a number, or that shape with ``reduction="none"``."""
        return losses.kl_div(x, target, reduction=self.reduction, log_target=self.log_target)
