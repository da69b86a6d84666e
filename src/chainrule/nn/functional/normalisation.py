"""Normalisation over a batch, a layer, groups of channels or channels nearby."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule import ops
from chainrule.arguments import explained, real_number, shape_of, whole_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import bfloat16, float32, is_float
from chainrule.nn.conversion import on_tensors, remark_on_dtype
from chainrule.ops import compose
from chainrule.tensor import Cell, Tensor, functions, no_grad
from chainrule.tensor.axes import Axes, as_axis


@explained
def normalised(x: Tensor, axes: tuple[int, ...], eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x - mean) / sqrt(variance + eps) over ``axes``; also the mean and the biased variance, in which these axes have size 1.

    Where the squares overflow (in float32, for numbers beyond 1e19), the variance is infinite and the result nan.
    """
    mean = x.mean(axes, keepdims=True)
    deviation = x - mean
    variance = (deviation * deviation).mean(axes, keepdims=True)
    return deviation * _inverse_deviation(variance, eps), mean, variance


def _inverse_deviation(variance: Tensor, eps: float) -> Tensor:
    return Tensor(ops.inverse_deviation((variance + eps).node))


@explained
def affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """x * weight + bias, both reshaped to ``shape``, which must broadcast against x. None for either leaves it out."""
    if weight is not None:
        if x.dtype is not weight.dtype:
            remark_on_dtype("normalisation", x, weight)
        x = x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


@on_tensors
def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel by the running statistics; in training, or without them, by those of the batch.

    (N, C, ...) -> (N, C, ...). In training, the running statistics, which must be buffers, move by ``momentum`` towards those
    of the batch. Ioffe and Szegedy, "Batch normalization" (2015).
    """
    if x.ndim < 2:
        raise UserError(f"batch_norm: needs an input (N, C, ...), got {x.shape}")
    if isinstance(eps, bool):
        raise UserError(f"batch_norm: eps must be a number, got {eps!r}")
    if (running_mean is None) is not (running_var is None):
        raise UserError("batch_norm: pass both running_mean and running_var, or None for both")
    shape = (1, x.shape[1], *(1,) * (x.ndim - 2))
    for name, given in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        if given is not None and given.shape != shape[1:2]:
            raise UserError(f"batch_norm: {name} must have one number for each of the {x.shape[1]} channels, got {given.shape}")
    if running_mean is None or running_var is None or training:
        result, mean, variance = normalised(x, (0, *range(2, x.ndim)), eps)
        if running_mean is not None and running_var is not None:
            means = mean.reshape(-1), variance.reshape(-1)
            track("batch_norm", running_mean, running_var, *means, x.size // x.shape[1], momentum)
    else:
        result = (x - running_mean.reshape(shape)) * _inverse_deviation(running_var.reshape(shape), eps)
    return affine(result, weight, bias, shape)


def track(name: str, running_mean: Tensor, running_var: Tensor, mean: Tensor, variance: Tensor, count: int, share: Any) -> None:
    """Move running statistics by ``share`` towards those of a batch of ``count`` values per channel.

    ``variance`` is the biased one; the running variance gets the unbiased one, as in PyTorch. ``name`` is the caller's, for
    messages.
    """
    if not isinstance(running_mean, Cell) or not isinstance(running_var, Cell):
        other = "training=False" if name == "batch_norm" else "use_input_stats=False"
        raise UserError(
            f"{name}: in training the running statistics are assigned, which needs buffers: pass cr.Buffer(mean) and "
            f"cr.Buffer(variance), or None for both, or {other}"
        )
    if count < 2:
        raise UserError(f"{name}: one value per channel has no variance to track: train on batches of at least 2")
    with no_grad():
        running_mean.assign(running_mean * (1 - share) + mean.detach() * share)
        running_var.assign(running_var * (1 - share) + (variance * (count / (count - 1))).detach() * share)


@on_tensors
def layer_norm(
    x: Tensor,
    normalized_shape: int | Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each example over its last axes: (..., *normalized_shape) -> the same shape.

    Ba, Kiros and Hinton, "Layer normalization" (2016).
    """
    shape = shape_of("layer_norm: normalized_shape", normalized_shape)
    if x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise UserError(f"layer_norm: normalized_shape {shape} does not match the last axes of {x.shape}")
    result, _, _ = normalised(x, tuple(range(x.ndim - len(shape), x.ndim)), real_number("layer_norm: eps", eps))
    return affine(result, weight, bias, shape)


@on_tensors
def group_norm(
    x: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise each example over groups of channels: (N, C, ...) -> the same shape; weight and bias (C).

    Wu and He, "Group normalization" (2018).
    """
    if x.ndim < 2:
        raise UserError(f"group_norm: needs an input (N, C, ...), got {x.shape}")
    channels, num_groups = x.shape[1], whole_number("group_norm: num_groups", num_groups)
    if num_groups < 1 or channels % num_groups:
        raise UserError(f"group_norm: {channels} channels do not divide into num_groups={num_groups}")
    grouped = x.reshape(x.shape[0], num_groups, math.prod(x.shape[1:]) // num_groups)
    result, _, _ = normalised(grouped, (2,), real_number("group_norm: eps", eps))
    return affine(result.reshape(x.shape), weight, bias, (1, channels, *(1,) * (x.ndim - 2)))


@on_tensors
def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel of each example: (N, C, ...), of at least three axes -> the same shape; weight and bias (C).

    With ``use_input_stats``, by the mean and variance of the channel; the running statistics, if given, must be buffers and
    move by ``momentum`` towards their means over the batch. Otherwise by the running statistics. Ulyanov, Vedaldi and
    Lempitsky, "Instance normalization" (2016).
    """
    if x.ndim < 3:
        raise UserError(f"instance_norm: needs an input (N, C, ...) of at least three axes, got {x.shape}")
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise UserError("instance_norm: use_input_stats=False needs running_mean and running_var")
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if (running_mean is None) is not (running_var is None):
        raise UserError("instance_norm: pass both running_mean and running_var, or None for both")
    shape = (1, x.shape[1], *(1,) * (x.ndim - 2))
    for name, given in (("running_mean", running_mean), ("running_var", running_var), ("weight", weight), ("bias", bias)):
        if given is not None and given.shape != shape[1:2]:
            raise UserError(
                f"instance_norm: {name} must have one number for each of the {x.shape[1]} channels, got {given.shape}"
            )
    count = math.prod(x.shape[2:])
    if count < 2:
        raise UserError(f"instance_norm: needs several elements in each channel, got {x.shape}: one has no variance")
    result, mean, variance = normalised(x, tuple(range(2, x.ndim)), real_number("instance_norm: eps", eps))
    if running_mean is not None and running_var is not None:
        momentum = real_number("instance_norm: momentum", momentum)
        means = mean.mean(0).reshape(-1), variance.mean(0).reshape(-1)
        track("instance_norm", running_mean, running_var, *means, count, momentum)
    return affine(result, weight, bias, shape)


@on_tensors
def rms_norm(
    x: Tensor, normalized_shape: int | Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / sqrt(mean of x^2 + eps), the mean over the last axes: (..., *normalized_shape) -> the same shape.

    ``eps`` is by default the distance from 1 to the next number of the dtype of x. Zhang and Sennrich, "Root mean square layer
    normalization" (2019).
    """
    shape = shape_of("rms_norm: normalized_shape", normalized_shape)
    if x.shape[max(x.ndim - len(shape), 0) :] != shape:
        raise UserError(f"rms_norm: normalized_shape {shape} does not match the last axes of {x.shape}")
    if eps is None:
        eps = 2.0**-7 if x.dtype == bfloat16 else float(np.finfo(x.dtype if is_float(x.dtype) else float32).eps)
    squares = (x * x).mean(tuple(range(x.ndim - len(shape), x.ndim)), keepdims=True)
    return affine(x * _inverse_deviation(squares, real_number("rms_norm: eps", eps)), weight, None, shape)


@on_tensors
def normalize(x: Tensor, p: float = 2.0, dim: Axes = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its norm of order ``p`` along the axis ``dim``, or by ``eps`` where that is larger: (...) -> (...)."""
    return x / functions.maximum(_norm(x, real_number("normalize: p", p), dim), real_number("normalize: eps", eps))


def _norm(x: Tensor, order: float, axis: Axes) -> Tensor:
    """The norm along an axis, which stays with size 1; where it is 0, its gradient is 0."""
    if order in (1, 2, math.inf):
        return x.norm(order, axis, keepdims=True)
    if order <= 0:
        raise UserError(f"normalize: p must be positive, got {order}")
    total = (x.abs() ** order).sum(axis, keepdims=True)
    nothing = total == 0
    return functions.where(nothing, 0.0, functions.where(nothing, 1.0, total) ** (1 / order))


@on_tensors
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between vectors along the axis ``dim``, which vanishes: (..., n, ...) twice -> (..., ...).

    The lengths that it is divided by are at least ``eps``. The shapes broadcast.
    """
    eps = real_number("cosine_similarity: eps", eps)
    nodes = compose.together("cosine_similarity", x1.node, x2.node)
    axis = as_axis("cosine_similarity", dim, nodes[0].ndim)
    first, second = (one / functions.maximum(_norm(one, 2.0, axis), eps) for one in map(Tensor, nodes))
    return (first * second).sum(axis)


@on_tensors
def local_response_norm(x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> Tensor:
    """x / (k + alpha mean)^beta, with the mean of the squares of ``size`` channels around each: (N, C, ...) -> the same shape.

    Channels beyond the first and the last count as zeros. Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep
    convolutional neural networks" (2012), where alpha is not divided by ``size``; here it is, as in PyTorch.
    """
    size = whole_number("local_response_norm: size", size, 1)
    alpha, beta = real_number("local_response_norm: alpha", alpha), real_number("local_response_norm: beta", beta)
    k = real_number("local_response_norm: k", k)
    if x.ndim < 3:
        raise UserError(f"local_response_norm: needs an input (N, C, ...) of at least three axes, got {x.shape}")
    channels = x.shape[1]
    padded = (x * x).pad([(0, 0), (size // 2, (size - 1) // 2), *[(0, 0)] * (x.ndim - 2)])
    total = padded[:, :channels]
    for first in range(1, size):
        total = total + padded[:, first : first + channels]
    return x * (total * (alpha / size) + k) ** -beta
