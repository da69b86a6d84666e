"""Normalisation layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.arguments import real_number, shape_of, whole_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import as_dtype
from chainrule.nn import functional as F
from chainrule.nn.functional.batches import IMAGE, SIGNAL, on_batch
from chainrule.nn.functional.normalisation import track
from chainrule.nn.module import Module, layer_name
from chainrule.tensor import Buffer, Parameter, Tensor, no_grad


def _positive_or_zero(what: str, value: float) -> float:
    """``value``; a UserError that begins with ``what`` if it is no number of at least 0."""
    number = real_number(what, value)
    if not number >= 0:
        raise UserError(f"{what} must be at least 0, got {value}")
    return number


class _ChannelNorm(Module):
    """Base of the normalisations by statistics of channels: arguments, parameters, buffers, the check of the input."""

    input_shapes: tuple[tuple[str, ...], ...] = ()

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        num_features = whole_number(f"{type(self).__name__}: num_features", num_features, 1)
        kind = type(self).__name__
        self.num_features, self.eps, self.affine = num_features, _positive_or_zero(f"{kind}: eps", eps), affine
        self.momentum = None if momentum is None else real_number(f"{kind}: momentum", momentum)
        if self.momentum is not None and not 0 <= self.momentum <= 1:
            raise UserError(f"{kind}: momentum must be from 0 to 1, the share of the new batch, got {momentum}")
        self.track_running_stats = track_running_stats
        wide = as_dtype(dtype)
        self.weight = Parameter(np.ones(num_features, wide)) if affine else None
        self.bias = Parameter(np.zeros(num_features, wide)) if affine else None
        self.running_mean = Buffer(np.zeros(num_features, wide)) if track_running_stats else None
        self.running_var = Buffer(np.ones(num_features, wide)) if track_running_stats else None
        self.num_batches_tracked = Buffer(np.array(0, np.int64)) if track_running_stats else None

    def _check(self, x: Tensor) -> None:
        if all(x.ndim != len(shape) for shape in self.input_shapes):
            shapes = " or ".join(f"({', '.join(shape)})" for shape in self.input_shapes)
            raise UserError(f"{layer_name(self)} needs an input {shapes}, got shape {x.shape}")
        if x.shape[1] != self.num_features:
            if x.shape[-1] == self.num_features:
                raise UserError(
                    f"{layer_name(self)} got shape {x.shape} with num_features={self.num_features}: the channels seem to come "
                    f"last, but they are the second axis: pass x.transpose{(0, x.ndim - 1, *range(1, x.ndim - 1))}"
                )
            raise UserError(
                f"{layer_name(self)} got shape {x.shape} with {x.shape[1]} channels, but num_features={self.num_features}: "
                f"pass num_features={x.shape[1]}"
            )

    def extra_repr(self) -> str:
        """The number of features, eps, momentum, and whether there are weight and bias."""
        return f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}"


class _BatchNorm(_ChannelNorm):
    """Batch normalisation over the axes that a subclass names; documented at ``BatchNorm2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, ...) -> the same shape; a UserError in training if a channel has only a single value."""
        self._check(x)
        if not self.training and self.track_running_stats:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        count = x.size // self.num_features
        if self.training and count < 2:
            raise UserError(
                f"{layer_name(self)} got shape {x.shape}: one value per channel has no variance to normalise by; "
                "train on batches of at least 2 (drop a last batch of one), or call eval()"
            )
        axes = (0, *range(2, x.ndim))
        result, mean, variance = F.normalised(x, axes, self.eps)
        if self.training and self.track_running_stats:
            self._track(mean.reshape(-1), variance.reshape(-1), count)
        return F.affine(result, self.weight, self.bias, (1, self.num_features, *(1,) * (x.ndim - 2)))

    def _track(self, mean: Tensor, variance: Tensor, count: int) -> None:
        """Move the running statistics towards those of the batch: by ``momentum``, or to the mean of all batches."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        with no_grad():
            batches = self.num_batches_tracked + 1
            self.num_batches_tracked.assign(batches)
            share = 1 / batches.astype(mean.dtype) if self.momentum is None else self.momentum
        track("batch_norm", self.running_mean, self.running_var, mean, variance, count, share)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of features: (N, C) or (N, C, L) -> the same shape. All else is as in ``BatchNorm2d``."""

    input_shapes = (("N", "C"), ("N", "C", "L"))


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images: (N, C, H, W) -> the same shape.

    Normalises each channel: in training by the mean and variance of the batch, after ``eval()`` by their running means.
    ``weight``, ``bias``, ``running_mean``, ``running_var`` (num_features), ``num_batches_tracked`` (). The running variance
    averages unbiased estimates, as in PyTorch. ``momentum`` is the share of the new batch in the running means; with None they
    are the means over all batches. Ioffe and Szegedy, "Batch normalization" (2015).
    """

    input_shapes = (("N", "C", "H", "W"),)


class _InstanceNorm(_ChannelNorm):
    """Normalisation of each channel of each example; documented at ``InstanceNorm2d``."""

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        dtype: Any = "float32",
    ) -> None:
        super().__init__(num_features, eps, momentum, affine, track_running_stats, dtype)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, ...) -> the same shape; the batch axis may be missing."""
        return on_batch(layer_name(self), x, self.input_shapes[0], self._normalised)

    def _normalised(self, x: Tensor) -> Tensor:
        self._check(x)
        by_its_own = self.training or not self.track_running_stats
        momentum = 0.0 if self.momentum is None else self.momentum
        return F.instance_norm(x, self.running_mean, self.running_var, self.weight, self.bias, by_its_own, momentum, self.eps)


class InstanceNorm1d(_InstanceNorm):
    """Normalises each channel of each signal: (N, C, L) -> the same shape. All else is as in ``InstanceNorm2d``."""

    input_shapes = (SIGNAL,)


class InstanceNorm2d(_InstanceNorm):
    """Normalises each channel of each image by its own mean and variance: (N, C, H, W) -> the same shape.

    With ``affine`` there are ``weight`` and ``bias`` (num_features). With ``track_running_stats`` there are running statistics,
    as in ``BatchNorm2d``, by which it normalises after ``eval()``. Ulyanov, Vedaldi and Lempitsky, "Instance normalization"
    (2016).
    """

    input_shapes = (IMAGE,)


class LayerNorm(Module):
    """Normalises each example over its last axes, ``normalized_shape``: (..., *normalized_shape) -> the same shape.

    ``weight`` and ``bias`` have the shape ``normalized_shape``. Ba, Kiros and Hinton, "Layer normalization" (2016).
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        shape = shape_of("LayerNorm: normalized_shape", normalized_shape)
        if not shape or math.prod(shape) < 1:
            raise UserError(f"LayerNorm: normalized_shape must be sizes of at least 1, got {normalized_shape!r}")
        self.normalized_shape, self.eps = shape, _positive_or_zero("LayerNorm: eps", eps)
        self.weight = Parameter(np.ones(shape, as_dtype(dtype))) if elementwise_affine else None
        self.bias = Parameter(np.zeros(shape, as_dtype(dtype))) if elementwise_affine and bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., *normalized_shape) -> the same shape; a UserError if the last axes are others."""
        if x.shape[max(x.ndim - len(self.normalized_shape), 0) :] != self.normalized_shape:
            raise UserError(
                f"{layer_name(self)} got shape {x.shape}, whose last axes are not normalized_shape={self.normalized_shape}: "
                f"pass normalized_shape={x.shape[-len(self.normalized_shape) :]}"
            )
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The shape that is normalised over, and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class RMSNorm(Module):
    """Divides by the root of the mean of the squares over the last axes, ``normalized_shape``: (..., *normalized_shape).

    ``weight`` has the shape ``normalized_shape``. ``eps`` is by default that of the dtype. Zhang and Sennrich, "Root mean
    square layer normalization" (2019).
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        dtype: Any = "float32",
    ) -> None:
        super().__init__()
        shape = shape_of("RMSNorm: normalized_shape", normalized_shape)
        if not shape or math.prod(shape) < 1:
            raise UserError(f"RMSNorm: normalized_shape must be sizes of at least 1, got {normalized_shape!r}")
        self.normalized_shape, self.eps = shape, None if eps is None else _positive_or_zero("RMSNorm: eps", eps)
        self.weight = Parameter(np.ones(shape, as_dtype(dtype))) if elementwise_affine else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., *normalized_shape) -> the same shape; a UserError if the last axes are others."""
        if x.shape[max(x.ndim - len(self.normalized_shape), 0) :] != self.normalized_shape:
            raise UserError(
                f"{layer_name(self)} got shape {x.shape}, whose last axes are not normalized_shape={self.normalized_shape}: "
                f"pass normalized_shape={x.shape[-len(self.normalized_shape) :]}"
            )
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self) -> str:
        """The shape that is normalised over, and eps."""
        return f"{self.normalized_shape}, eps={self.eps}"


class GroupNorm(Module):
    """Normalises each example over groups of channels: (N, num_channels, ...) -> the same shape.

    ``weight`` and ``bias`` (num_channels). Wu and He, "Group normalization" (2018).
    """

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True, dtype: Any = "float32"
    ) -> None:
        super().__init__()
        num_groups = whole_number("GroupNorm: num_groups", num_groups, 1)
        num_channels = whole_number("GroupNorm: num_channels", num_channels, 1)
        if num_channels % num_groups:
            raise UserError(f"GroupNorm: num_channels={num_channels} must divide into num_groups={num_groups}")
        self.num_groups, self.num_channels = num_groups, num_channels
        self.eps = _positive_or_zero("GroupNorm: eps", eps)
        self.weight = Parameter(np.ones(num_channels, as_dtype(dtype))) if affine else None
        self.bias = Parameter(np.zeros(num_channels, as_dtype(dtype))) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, num_channels, ...) -> the same shape; a UserError for another number of channels."""
        if x.ndim < 2 or x.shape[1] != self.num_channels:
            have = x.shape[1] if x.ndim > 1 else 0
            raise UserError(
                f"{layer_name(self)} got shape {x.shape} with {have} channels, but num_channels={self.num_channels}: "
                f"pass num_channels={have}"
            )
        return F.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self) -> str:
        """The number of groups and of channels, and eps."""
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}"


class LocalResponseNorm(Module):
    """x / (k + alpha mean)^beta, with the mean of the squares of ``size`` channels around each: (N, C, ...) -> the same shape.

    Krizhevsky, Sutskever and Hinton, "ImageNet classification with deep convolutional neural networks" (2012); ``alpha`` is
    divided by ``size``, as in PyTorch.
    """

    def __init__(self, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0) -> None:
        super().__init__()
        self.size = whole_number("LocalResponseNorm: size", size, 1)
        self.alpha, self.beta = real_number("LocalResponseNorm: alpha", alpha), real_number("LocalResponseNorm: beta", beta)
        self.k = real_number("LocalResponseNorm: k", k)

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (N, C, ...), of at least three axes -> the same shape."""
        return F.local_response_norm(x, self.size, self.alpha, self.beta, self.k)

    def extra_repr(self) -> str:
        """The number of channels, alpha, beta and k."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
