"""Convolutions over one, two and three axes, and the transposed convolution.

Signals are (N, C, L), images (N, C, H, W), volumes (N, C, D, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

from chainrule import ops
from chainrule.arguments import whole_number
from chainrule.errors import UserError
from chainrule.graph.dtypes import is_float, promote
from chainrule.nn.conversion import on_tensors, remark_on_dtype
from chainrule.nn.functional.batches import IMAGE, SIGNAL, VOLUME, on_batch
from chainrule.nn.functional.sizes import Padding, Pair, Size, ends, faces, pair, sides, single, triple
from chainrule.ops import compose
from chainrule.ops.windows import output_size, output_sizes
from chainrule.tensor import Tensor, functions


@on_tensors
def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Padding = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Cross-correlation, which deep learning calls convolution: (N, C, H, W), (O, C / groups, KH, KW) -> (N, O, OH, OW).

    ``padding``: a number, (height, width), ((top, bottom), (left, right)), 'same' or 'valid'. The batch axis may be missing.
    """
    steps, dilated = pair("stride", stride), pair("dilation", dilation)
    kernel = (weight.shape[2], weight.shape[3]) if weight.ndim == 4 else (1, 1)
    border, groups = sides(padding, kernel, steps, dilated), whole_number("groups", groups, 1)

    def convolved(images: Tensor) -> Tensor:
        image, filters = _contraction_operands("conv2d", images, weight)
        result = ops.conv2d(image, filters, stride=steps, padding=border, dilation=dilated, groups=groups)
        return _with_bias(Tensor(result), bias)

    return on_batch("conv2d", x, IMAGE, convolved)


@on_tensors
def conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution along a single axis: (N, C, L), (O, C / groups, K) -> (N, O, OL); computed as an image of height 1."""
    if weight.ndim != 3:
        raise UserError(f"conv1d: needs a weight (O, C / groups, K), got {weight.shape}")
    step, dilated = single("stride", stride, 1), single("dilation", dilation, 1)
    both = ends(padding, weight.shape[2], step, dilated)

    def convolved(signals: Tensor) -> Tensor:
        rows, filters = signals.expand_dims(2), weight.expand_dims(2)
        return conv2d(rows, filters, bias, (1, step), ((0, 0), both), (1, dilated), groups).squeeze(2)

    return on_batch("conv1d", x, SIGNAL, convolved)


@on_tensors
def conv3d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Tensor:
    """Convolution of volumes: (N, C, D, H, W), (O, C / groups, KD, KH, KW) -> (N, O, OD, OH, OW).

    ``padding``: a number, (depth, height, width), 'same' or 'valid'. The batch axis may be missing. It is computed as N * OD
    images, whose channels are those of the KD slices that meet in a unit: so the slices are copied KD times.
    """
    if weight.ndim != 5:
        raise UserError(f"conv3d: needs a weight (O, C / groups, KD, KH, KW), got {weight.shape}")
    steps, dilated = triple("stride", stride), triple("dilation", dilation)
    border, groups = faces(padding, weight.shape[2:], steps, dilated), whole_number("groups", groups, 1)
    filters = weight.reshape(weight.shape[0], weight.shape[1] * weight.shape[2], *weight.shape[3:])

    def convolved(volumes: Tensor) -> Tensor:
        if volumes.shape[1] != weight.shape[1] * groups:
            raise UserError(
                f"conv3d: weight {weight.shape} expects {weight.shape[1] * groups} input channels, the volume {volumes.shape} "
                f"has {volumes.shape[1]}"
            )
        slices = _meeting_slices(volumes, weight.shape[2], steps[0], border[0], dilated[0])
        count, depth, channels = slices.shape[:3]
        images = slices.reshape(count * depth, channels * slices.shape[3], *slices.shape[4:])
        rows = conv2d(images, filters, bias, steps[1:], border[1:], dilated[1:], groups)
        return rows.reshape(count, depth, *rows.shape[1:]).transpose((0, 2, 1, 3, 4))

    return on_batch("conv3d", x, VOLUME, convolved)


def _meeting_slices(volumes: Tensor, kernel: int, stride: int, border: Pair, dilation: int) -> Tensor:
    """The slices that a window along the depth covers at each of its places: (N, C, D, H, W) -> (N, OD, C, kernel, H, W)."""
    padded = volumes.pad(((0, 0), (0, 0), border, (0, 0), (0, 0))) if any(border) else volumes
    depth = output_size(padded.shape[2], kernel, stride, (0, 0), dilation)
    if depth < 1:
        raise UserError(
            f"conv3d: a window of {dilation * (kernel - 1) + 1} (kernel {kernel}, dilation {dilation}) does not fit the depth "
            f"{volumes.shape[2]} + padding {border[0]} + {border[1]} = {padded.shape[2]}: enlarge the volume or padding, or "
            "choose a smaller kernel_size"
        )
    last = (depth - 1) * stride + 1
    taps = [padded[:, :, first : first + last : stride] for first in range(0, kernel * dilation, dilation)]
    return functions.stack(taps, 3).transpose((0, 2, 1, 3, 4, 5))


@on_tensors
def conv_transpose2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Tensor:
    """The input gradient of a convolution, as a layer: (N, C, H, W), (C, O / groups, KH, KW) -> (N, O, OH, OW).

    OH = (H - 1) stride - 2 padding + dilation (KH - 1) + output_padding + 1.
    """
    steps, dilated, border, extra = (
        pair("stride", stride),
        pair("dilation", dilation),
        pair("padding", padding, 0),
        pair("output_padding", output_padding, 0),
    )
    groups = whole_number("groups", groups, 1)
    if any(more >= max(step, wide) for more, step, wide in zip(extra, steps, dilated, strict=True)):
        raise UserError(f"conv_transpose2d: output_padding {extra} must be smaller than stride {steps} or dilation {dilated}")
    if weight.ndim != 4:
        raise UserError(f"conv_transpose2d: needs a weight (C, O / groups, KH, KW), got {weight.shape}")
    return on_batch(
        "conv_transpose2d", x, IMAGE, lambda images: _transposed(images, weight, bias, steps, border, extra, groups, dilated)
    )


@on_tensors
def conv_transpose1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    output_padding: int | Sequence[int] = 0,
    groups: int = 1,
    dilation: int | Sequence[int] = 1,
) -> Tensor:
    """The input gradient of ``conv1d``, as a layer: (N, C, L), (C, O / groups, K) -> (N, O, OL); an image of height 1.

    OL = (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1.
    """
    if weight.ndim != 3:
        raise UserError(f"conv_transpose1d: needs a weight (C, O / groups, K), got {weight.shape}")
    step, border = (1, single("stride", stride, 1)), (0, single("padding", padding, 0))
    extra, dilated = (0, single("output_padding", output_padding, 0)), (1, single("dilation", dilation, 1))

    def convolved(signals: Tensor) -> Tensor:
        rows, filters = signals.expand_dims(2), weight.expand_dims(2)
        return conv_transpose2d(rows, filters, bias, step, border, extra, groups, dilated).squeeze(2)

    return on_batch("conv_transpose1d", x, SIGNAL, convolved)


def _transposed(
    x: Tensor, weight: Tensor, bias: Tensor | None, steps: Pair, border: Pair, extra: Pair, groups: int, dilated: Pair
) -> Tensor:
    """``conv_transpose2d`` of images with a batch axis, all else being checked."""
    if x.shape[1] != weight.shape[0]:
        raise UserError(
            f"conv_transpose2d: weight {weight.shape} expects {weight.shape[0]} input channels, "
            f"the image {x.shape} has {x.shape[1]}"
        )
    if not is_float(promote(x.dtype, weight.dtype)):
        raise UserError(f"conv_transpose2d: needs floats, got {x.dtype} and {weight.dtype}: cast to float32 first")
    if x.shape[1] % groups:
        raise UserError(f"conv_transpose2d: {x.shape[1]} input channels do not divide into groups={groups}")
    size = [
        (x.shape[2 + i] - 1) * steps[i] - 2 * border[i] + dilated[i] * (weight.shape[2 + i] - 1) + extra[i] + 1 for i in (0, 1)
    ]
    if min(size) < 1:
        raise UserError(f"conv_transpose2d: an output of {tuple(size)} is empty: use less padding, here {border}")
    edges = (border[0], border[0]), (border[1], border[1])
    places = output_sizes("conv_transpose2d", (size[0], size[1]), (weight.shape[2], weight.shape[3]), steps, edges, dilated)
    beyond = [place - have for place, have in zip(places, x.shape[2:], strict=True)]
    image, filters = _contraction_operands("conv_transpose2d", x, weight)
    if any(beyond):  # with output_padding >= stride, some windows belong to no element of x: they get zeros
        image = ops.pad(image, low=(0,) * 4, high=(0, 0, *beyond), interior=(0,) * 4)
    result = ops.conv2d_input_gradient(
        image,
        filters,
        size=(size[0], size[1]),
        stride=steps,
        padding=edges,
        dilation=dilated,
        groups=groups,
    )
    return _with_bias(Tensor(result), bias)


@on_tensors
def unfold(x: Tensor, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> Tensor:
    """The patches that a window meets, as columns: (N, C, H, W) -> (N, C KH KW, OH OW), for windows in row-major order.

    Also called im2col: Chellapilla, Puri and Simard, "High performance convolutional neural networks" (2006).
    """
    kernel, dilated = pair("kernel_size", kernel_size), pair("dilation", dilation)
    border, steps = pair("padding", padding, 0), pair("stride", stride)

    def unfolded(images: Tensor) -> Tensor:
        edges = (border[0], border[0]), (border[1], border[1])
        size = images.shape[2], images.shape[3]
        height, width = output_sizes("unfold", size, kernel, steps, edges, dilated)
        whole = images.pad(((0, 0), (0, 0), *edges)) if any(border) else images
        starts = product(range(0, kernel[0] * dilated[0], dilated[0]), range(0, kernel[1] * dilated[1], dilated[1]))
        taps = [
            whole[:, :, i : i + (height - 1) * steps[0] + 1 : steps[0], j : j + (width - 1) * steps[1] + 1 : steps[1]]
            for i, j in starts
        ]
        return functions.stack(taps, 2).reshape(images.shape[0], -1, height * width)

    return on_batch("unfold", x, IMAGE, unfolded)


def _contraction_operands(name: str, x: Tensor, weight: Tensor) -> tuple[Any, Any]:
    """``x`` and ``weight`` as nodes of one dtype, in the precision of contractions; warns of a surprising dtype."""
    if x.dtype is not weight.dtype:
        remark_on_dtype(name, x, weight)
    dtype = promote(x.dtype, weight.dtype)
    return ops.operand(compose.to_dtype(x.node, dtype)), ops.operand(compose.to_dtype(weight.node, dtype))


def _with_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    """``x`` (N, C, ...) plus ``bias`` (C)."""
    if bias is None:
        return x
    if bias.shape != (x.shape[1],):
        raise UserError(f"bias must have one number for each of the {x.shape[1]} output channels, got shape {bias.shape}")
    return x + bias.reshape(1, -1, *(1,) * (x.ndim - 2))
