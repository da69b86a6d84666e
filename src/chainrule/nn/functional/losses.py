"""Losses as functions. ``reduction`` is 'mean' (the default), 'sum' or 'none' (the loss of each element), as in PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import real_number, whole_number
from chainrule.errors import UserError, unknown_value
from chainrule.graph import Array
from chainrule.graph.dtypes import bool_, float32, int64, is_float, is_integer, largest_number, promote
from chainrule.nn.conversion import as_input, on_tensors
from chainrule.tensor import Tensor, functions, verify
from chainrule.tensor.axes import Axes, as_axes

_REDUCTIONS = ("mean", "sum", "none")


def _reduced(losses: Tensor, reduction: str, known: tuple[str, ...] = _REDUCTIONS) -> Tensor:
    """The mean, the sum, or all of the ``losses``, as ``reduction`` says; a UserError lists the ``known`` reductions."""
    if reduction not in _REDUCTIONS:
        raise unknown_value("reduction", reduction, known)
    return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()


def _alike(name: str, x: Tensor, target: Any) -> Tensor:
    """The target as a tensor of the prediction's dtype; a UserError if their shapes differ."""
    converted = as_input(f"{name}: target", target, x.dtype)
    if converted.shape != x.shape:
        raise UserError(f"{name}: the prediction has shape {x.shape}, the target {converted.shape}: reshape one of them")
    return converted


def _weighed(score: Tensor, weight: Tensor) -> Tensor:
    """score * weight, but 0 where the weight is 0, even if the score is infinite: for example, 0 ln 0 is 0."""
    largest = largest_number(score.dtype)
    return functions.where(weight == 0, score.clip(-largest, largest), score) * weight


@on_tensors
def softmax(x: Tensor, dim: Axes = -1) -> Tensor:
    """e^x / sum e^x along an axis or several. The largest x is subtracted first, so that nothing overflows."""
    wide = x.astype(promote(x.dtype, float32))  # z in bfloat16 has too few digits for e^z
    probabilities = log_softmax(wide, dim).exp()
    return probabilities.astype(x.dtype) if is_float(x.dtype) else probabilities


@on_tensors
def log_softmax(x: Tensor, dim: Axes = -1) -> Tensor:
    """x - ln sum e^x along an axis or several: the logarithm of ``softmax``, but accurate also for small probabilities."""
    axes = as_axes("softmax", dim, x.ndim)
    x = x if is_float(x.dtype) else x.astype(float32)
    if len(axes) == 1:
        return Tensor(ops.log_softmax(x.node, axis=axes[0]))
    if not axes:
        return x * 0.0
    order = (*(i for i in range(x.ndim) if i not in axes), *axes)
    last = x.transpose(order)
    flat = last.reshape(*last.shape[: -len(axes)], -1)
    result = Tensor(ops.log_softmax(flat.node, axis=flat.ndim - 1)).reshape(last.shape)
    return result.transpose(sorted(range(x.ndim), key=order.__getitem__))


@on_tensors
def mse_loss(x: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """The squared error (x - target)^2; both have the same shape."""
    return _reduced((x - _alike("mse_loss", x, target)) ** 2, reduction)


@on_tensors
def l1_loss(x: Tensor, target: Any, *, reduction: str = "mean") -> Tensor:
    """The absolute error |x - target|; both have the same shape."""
    return _reduced((x - _alike("l1_loss", x, target)).abs(), reduction)


@on_tensors
def smooth_l1_loss(x: Tensor, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """d^2 / (2 beta) where d = |x - target| < beta, else d - beta / 2. Girshick, "Fast R-CNN" (2015)."""
    if real_number("smooth_l1_loss: beta", beta) < 0:
        raise UserError(f"smooth_l1_loss: beta must not be negative, got {beta}")
    if beta == 0:
        return l1_loss(x, target, reduction=reduction)
    difference = x - _alike("smooth_l1_loss", x, target)
    distance = difference.abs()
    near = difference.clip(
        -beta, beta
    )  # clipped, so that the square is finite also where it is not chosen: 0 times an infinite slope would be nan
    return _reduced(functions.where(distance < beta, near * near * (0.5 / beta), distance - beta / 2), reduction)


@on_tensors
def binary_cross_entropy_with_logits(
    x: Tensor, target: Any, weight: Any = None, *, reduction: str = "mean", pos_weight: Any = None
) -> Tensor:
    """-(t ln s(x) + (1 - t) ln(1 - s(x))) with s the sigmoid and t the target, of the shape of x.

    It is computed as t ln(1 + e^-x) + (1 - t) ln(1 + e^x), which is accurate for all x. ``pos_weight`` multiplies the term with
    t, and ``weight`` the whole loss.
    """
    t = _alike("binary_cross_entropy_with_logits", x, target)
    positive = t if pos_weight is None else t * as_input("binary_cross_entropy_with_logits: pos_weight", pos_weight, x.dtype)
    losses = _weighed(Tensor(ops.softplus((-x).node)), positive) + _weighed(Tensor(ops.softplus(x.node)), 1 - t)
    if weight is not None:
        losses = _weighed(losses, as_input("binary_cross_entropy_with_logits: weight", weight, x.dtype))
    return _reduced(losses, reduction)


@on_tensors
def binary_cross_entropy(x: Tensor, target: Any, weight: Any = None, *, reduction: str = "mean") -> Tensor:
    """-(t ln x + (1 - t) ln(1 - x)) for probabilities x, with t the target, of the shape of x. ``weight`` multiplies it.

    The logarithms are at least -100, and where one is that of 0 its slope is 10^12, as in PyTorch. From scores,
    ``binary_cross_entropy_with_logits`` keeps more digits. A UserError names an x that is no probability.
    """
    t = _alike("binary_cross_entropy", x, target)
    if not is_float(x.dtype):
        raise UserError(f"binary_cross_entropy: needs a float, got {x.node.type}: cast to float32 first")
    verify(x.node, _check_probabilities)
    never, surely = x == 0, x == 1
    log_of_x = functions.where(never, x * 1e12 - 100.0, functions.where(never, 1.0, x).log().clip(-100.0))
    log_of_rest = functions.where(surely, (1.0 - x) * 1e12 - 100.0, (-functions.where(surely, 0.0, x)).log1p().clip(-100.0))
    losses = -(t * log_of_x + (1 - t) * log_of_rest)
    if weight is not None:
        losses = losses * as_input("binary_cross_entropy: weight", weight, x.dtype)
    return _reduced(losses, reduction)


def _check_probabilities(value: Array) -> None:
    wrong = (value < 0) | (value > 1)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise UserError(
            f"binary_cross_entropy: x must be probabilities, 0 to 1, got {float(value[place]):.6g} at {list(place)}: pass "
            "sigmoid(x), or use binary_cross_entropy_with_logits"
        )


@on_tensors
def huber_loss(x: Tensor, target: Any, *, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """d^2 / 2 where d = |x - target| < delta, else delta (d - delta / 2). Huber, "Robust estimation of a location parameter"
    (1964)."""
    if real_number("huber_loss: delta", delta) <= 0:
        raise UserError(f"huber_loss: delta must be positive, got {delta}")
    _alike("huber_loss", x, target)
    return smooth_l1_loss(x, target, reduction=reduction, beta=delta) * delta


@on_tensors
def kl_div(x: Tensor, target: Any, *, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """t (ln t - x), with x the logarithms of probabilities and t the target, of the shape of x; 0 where t is 0.

    Kullback and Leibler's divergence of x from the target is its sum over the classes: ``reduction="batchmean"`` gives the mean
    of that over the first axis; "mean" is the mean over all elements. With ``log_target`` the target holds logarithms, too.
    """
    t = _alike("kl_div", x, target)
    if log_target:
        losses = t.exp() * (t - x)
    else:
        none = t == 0
        losses = functions.where(none, 0.0, t * functions.where(none, 1.0, t).log()) - _weighed(x, t)
    if reduction != "batchmean":
        return _reduced(losses, reduction, (*_REDUCTIONS, "batchmean"))
    if not x.ndim or not x.shape[0]:
        raise UserError(f"kl_div: reduction='batchmean' needs a batch (N, ...), got {x.shape}")
    return losses.sum() * (1 / x.shape[0])


@on_tensors
def cross_entropy(
    logits: Tensor,
    target: Any,
    weight: Any = None,
    *,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-ln softmax(logits)[target]: logits (N, classes, ...), integer labels (N, ...) or probabilities (N, classes, ...).

    ``weight`` (classes) weights the classes. Labels equal to ``ignore_index`` do not count. ``label_smoothing`` is the share of
    the uniform distribution that is mixed into the target. The mean is weighted by the class weights of the labels that count.
    """
    labels = as_input("cross_entropy: target", target)
    if logits.ndim < 2 or not is_float(logits.dtype):
        swapped = labels.ndim == logits.ndim + 1 and is_float(labels.dtype)
        hint = f", and a target {labels.node.type}: swap them, it is cross_entropy(logits, labels)" if swapped else ""
        raise UserError(f"cross_entropy: logits must be floats (N, classes, ...), got {logits.node.type}{hint}")
    if not 0 <= real_number("cross_entropy: label_smoothing", label_smoothing) <= 1:
        raise UserError(f"cross_entropy: label_smoothing must be from 0 to 1, got {label_smoothing}")
    if is_float(labels.dtype) and labels.shape != logits.shape and labels.ndim == logits.ndim - 1:
        raise UserError(_float_labels("cross_entropy", labels, logits.shape))
    scores = log_softmax(logits, dim=1)
    if is_float(labels.dtype):
        return _probability_loss(scores, _alike("cross_entropy", logits, labels), weight, reduction, label_smoothing)
    return _label_loss("cross_entropy", scores, labels, weight, ignore_index, reduction, label_smoothing)


@on_tensors
def nll_loss(
    log_probabilities: Tensor, target: Any, weight: Any = None, *, ignore_index: int = -100, reduction: str = "mean"
) -> Tensor:
    """-log_probabilities[target]: (N, classes, ...), labels (N, ...). This is ``cross_entropy`` without its log_softmax."""
    return _label_loss(
        "nll_loss", log_probabilities, as_input("nll_loss: target", target), weight, ignore_index, reduction, 0.0
    )


def _probability_loss(scores: Tensor, target: Tensor, weight: Any, reduction: str, smoothing: float) -> Tensor:
    """The cross-entropy for a target of probabilities. ``scores`` are the logarithms of the predicted ones."""
    classes = scores.shape[1]
    if smoothing:
        target = target * (1 - smoothing) + smoothing / classes
    if weight is not None:
        target = target * _class_weights(weight, scores)
    losses = -_weighed(scores, target).sum(1)
    return losses.sum() * (1 / (losses.size or 1)) if reduction == "mean" else _reduced(losses, reduction)


def _class_weights(weight: Any, scores: Tensor) -> Tensor:
    """The weights of the classes in a shape that broadcasts against ``scores`` (N, classes, ...)."""
    weights = as_input("weight", weight, scores.dtype)
    if weights.shape != (scores.shape[1],):
        raise UserError(f"weight must have one number for each of the {scores.shape[1]} classes, got shape {weights.shape}")
    return weights.reshape(1, -1, *(1,) * (scores.ndim - 2))


def _label_loss(
    name: str, scores: Tensor, labels: Tensor, weight: Any, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    """The cross-entropy for labels. ``scores`` are the logarithms of the predicted probabilities."""
    ignore_index = whole_number(f"{name}: ignore_index", ignore_index)
    check_labels(name, labels, scores.shape, ignore_index)
    classes = scores.shape[1]
    if 0 <= ignore_index < classes:
        labels = functions.where(labels == ignore_index, -1, labels.astype(int64))
    chosen = _one_hot(labels, classes)  # an ignored label is none of the classes, so its row is all False
    weighed = scores if weight is None else _weighed(scores, _class_weights(weight, scores))
    kept = functions.where(chosen, weighed, 0.0)  # other classes may score -inf
    if smoothing:
        counted = functions.where(chosen.any(1, keepdims=True), weighed, 0.0)
        kept = kept * (1 - smoothing) + counted * (smoothing / classes)
    if reduction == "mean":
        counts = chosen.astype(scores.dtype)
        return -kept.sum() / (counts if weight is None else counts * _class_weights(weight, scores)).sum()
    return _reduced(-kept.sum(1), reduction)


def _one_hot(labels: Tensor, classes: int) -> Tensor:
    """True at each label's own class: (N, ...) -> bool (N, classes, ...)."""
    rows = Tensor(ops.one_hot(labels.node, classes=classes, dtype=bool_))
    return rows.transpose(0, rows.ndim - 1, *range(1, rows.ndim - 1)) if rows.ndim > 2 else rows


def check_labels(name: str, labels: Tensor, scores: tuple[int, ...], ignore_index: int = -100) -> None:
    """Raise a UserError unless ``labels`` are integers (N, ...) from 0 to classes - 1, or ``ignore_index``.

    ``scores`` is the shape (N, classes, ...). While tracing, the values are checked when the program runs.
    """
    if len(scores) < 2:
        raise UserError(f"{name}: scores must be (N, classes, ...), got shape {scores}")
    expected = (scores[0], *scores[2:])
    if not is_integer(labels.dtype):
        raise UserError(_float_labels(name, labels, scores))
    if labels.shape != expected:
        one_hot = ""
        if labels.shape == scores and name == "cross_entropy":
            one_hot = ": are they one-hot rows? Pass labels.argmax(1), or labels.astype('float32') as probabilities"
        raise UserError(f"{name}: scores {scores} need labels of shape {expected}, got {labels.shape}{one_hot}")
    verify(labels.node, lambda value: _check_label_values(name, value, scores, ignore_index))


def _float_labels(name: str, labels: Tensor, scores: tuple[int, ...]) -> str:
    """The message for labels that are not integers."""
    probabilities = f", or pass probabilities of shape {scores}" if name == "cross_entropy" else ""
    return (
        f"{name}: labels must be integers {(scores[0], *scores[2:])}, got {labels.node.type}: "
        f"convert them, labels.astype('int64'){probabilities}"
    )


def _check_label_values(name: str, value: Array, scores: tuple[int, ...], ignore_index: int) -> None:
    if not value.size or (value.min() >= 0 and value.max() < scores[1]):
        return
    wrong = ((value < 0) | (value >= scores[1])) & (value != ignore_index)
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        row = f"row {place[0]}" if len(place) == 1 else f"position {list(place)}"
        raise UserError(
            f"{name}: the label {int(value[place])} in {row} is out of range: the scores have {scores[1]} classes, "
            f"so labels go from 0 to {scores[1] - 1}; mend the labels or give the last layer more outputs"
        )
