"""Primitives that multiply and add up: matrix product and convolution. All are switchers.

A convolution is linear in the image and in the weight, and so are its two gradients. The three are closed under
differentiation: the gradient rules of each are the other two. A transposed convolution is the input gradient of a convolution.

The references gather patches into a matrix and multiply (im2col: Chellapilla, Puri and Simard, "High performance
convolutional neural networks for document processing", 2006).
"""

from __future__ import annotations

import math

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import is_float
from chainrule.graph.node import Array, Node, Role, TensorType
from chainrule.ops.broadcast import broadcast, sum_over
from chainrule.ops.elementwise import multiply
from chainrule.ops.move import reshape, transpose
from chainrule.ops.precision import operand
from chainrule.ops.primitive import OUTPUT, Primitive, Spec, rows
from chainrule.ops.windows import Padding, Pair, cropped, output_sizes, padded, patches, taps

# ---- matrix product


def _matmul_shape(a: TensorType, b: TensorType) -> TensorType:
    if a.dtype != b.dtype or not is_float(a.dtype):
        raise UserError(f"matmul: needs two floats of one dtype, got {a} and {b}: cast to float32 first")
    if not a.shape or not b.shape:
        raise UserError(f"matmul: needs at least one axis on both sides, got {a} and {b}: multiply by a number with *")
    inner_a, inner_b = a.shape[-1], b.shape[-2] if len(b.shape) > 1 else b.shape[0]
    if inner_a != inner_b:
        raise UserError(
            f"matmul: the last axis of {a} has {inner_a} elements, the matching axis of {b} has {inner_b}: "
            "transpose or reshape one of them"
        )
    batch_a, batch_b = a.shape[:-2], b.shape[:-2]
    if len(a.shape) > 1 and len(b.shape) > 1 and batch_a != batch_b:
        raise UserError(f"matmul: batch axes {batch_a} of {a} and {batch_b} of {b} differ")
    if (len(a.shape) == 1 and batch_b) or (len(b.shape) == 1 and batch_a):
        raise UserError(f"matmul: a vector goes with a vector or a matrix, got {a} and {b}: reshape it to a matrix")
    row, column = a.shape[-2:-1], b.shape[-1:] if len(b.shape) > 1 else ()
    return TensorType((*(batch_a or batch_b), *row, *column), a.dtype)


def _swap_last(x: Node) -> Node:
    return transpose(x, axes=(*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _outer_to(u: Node, a: Node, b: Node) -> tuple[Node, Node, Node]:
    """``u``, ``a`` and ``b`` as matrices: a vector ``a`` becomes a row, a vector ``b`` a column."""
    rows_of = reshape(a, shape=(1, a.shape[0])) if a.ndim == 1 else a
    columns_of = reshape(b, shape=(b.shape[0], 1)) if b.ndim == 1 else b
    shape = (*rows_of.shape[:-1], columns_of.shape[-1])
    return (u if u.shape == shape else reshape(u, shape=shape)), rows_of, columns_of


def _matmul_left(z: Node, u: Node) -> Node:
    a, b = z.inputs
    if a.ndim == b.ndim == 1:
        return _times(u, b)
    u, _, b = _outer_to(operand(u), a, b)
    gradient = matmul(u, _swap_last(b))
    return gradient if gradient.shape == a.shape else reshape(gradient, shape=a.shape)


def _matmul_right(z: Node, u: Node) -> Node:
    a, b = z.inputs
    if a.ndim == b.ndim == 1:
        return _times(u, a)
    u, a, _ = _outer_to(operand(u), a, b)
    gradient = matmul(_swap_last(a), u)
    return gradient if gradient.shape == b.shape else reshape(gradient, shape=b.shape)


def _times(u: Node, vector: Node) -> Node:
    """The scalar ``u`` times a vector."""
    return multiply(broadcast(u, shape=vector.shape, axes=(0,)), vector)


matmul: Primitive = Primitive(
    "matmul",
    Role.SWITCHER,
    "z = x @ y, the matrix product over equal batch axes: (..., m, k), (..., k, n) -> (..., m, n); "
    "also for vectors, (k), (k) -> ().",
    shape=_matmul_shape,
    reference=np.matmul,
    vjp=(_matmul_left, _matmul_right),
    local=("y", "x"),
    saves=(0, 1),
    spec=rows(
        Spec(((3, 5), (5, 2))),
        Spec(((2, 3, 5), (2, 5, 4)), dtypes=("float64",)),
        Spec(((2, 1, 3, 5), (2, 1, 5, 1))),
        Spec(((4,), (4,))),
        Spec(((3, 4), (4,))),
        Spec(((4,), (4, 3))),
        Spec(((1, 1), (1, 1))),
        Spec(((2, 0), (0, 3))),
        Spec(((0, 2), (2, 3))),
        Spec(((3, 5), (5, 2)), dtypes=("bfloat16",)),
    ),
    heavy=True,
    multiply_adds=lambda x, y, z: z.size * x.shape[-1],
)

# ---- convolution


def _check_floats(name: str, first: TensorType, second: TensorType, words: tuple[str, str]) -> None:
    if first.dtype != second.dtype or not is_float(first.dtype):
        raise UserError(f"{name}: needs two floats of one dtype, got {words[0]} {first} and {words[1]} {second}")
    for type_, word in ((first, words[0]), (second, words[1])):
        if len(type_.shape) != 4:
            raise UserError(f"{name}: {word} must have 4 axes, got {type_}")


def _conv2d_shape(
    image: TensorType, weight: TensorType, *, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> TensorType:
    _check_floats("conv2d", image, weight, ("image (N, C, H, W)", "weight (O, C / groups, KH, KW)"))
    (n, c, h, w), (o, per_group, kh, kw) = image.shape, weight.shape
    if groups < 1 or o % groups:
        raise UserError(f"conv2d: {o} output channels do not divide into groups={groups}")
    if c != per_group * groups:
        expected = f"{per_group * groups} input channels" + (f" ({groups} groups of {per_group})" if groups > 1 else "")
        raise UserError(f"conv2d: weight {list(weight.shape)} expects {expected}, the image {list(image.shape)} has {c}")
    return TensorType((n, o, *output_sizes("conv2d", (h, w), (kh, kw), stride, padding, dilation)), image.dtype)


def _patch_matrix(image: Array, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Array:
    """The patches as a matrix (N, groups, C / groups * KH * KW, OH * OW): a column for each position of the window."""
    view = patches(padded(image, padding), kernel, stride, dilation)
    n, c, kh, kw, oh, ow = view.shape
    return view.reshape(n, groups, c // groups * kh * kw, oh * ow)


def _channel_matrix(image: Array, groups: int) -> Array:
    """The image with its channels in groups and its pixels in a row: (N, groups, C / groups, H * W)."""
    n, c, h, w = image.shape
    return image.reshape(n, groups, c // groups, h * w)


def _conv2d_reference(image: Array, weight: Array, *, stride: Pair, padding: Padding, dilation: Pair, groups: int) -> Array:
    n, (o, per_group, kh, kw) = image.shape[0], weight.shape
    oh, ow = output_sizes("conv2d", image.shape[2:], (kh, kw), stride, padding, dilation)
    columns = _patch_matrix(image, (kh, kw), stride, padding, dilation, groups)
    product: Array = weight.reshape(groups, o // groups, per_group * kh * kw) @ columns
    return product.reshape(n, o, oh, ow)


def _input_gradient_shape(
    upstream: TensorType, weight: TensorType, *, size: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> TensorType:
    name = "conv2d_input_gradient"
    _check_floats(name, upstream, weight, ("upstream (N, O, OH, OW)", "weight (O, C / groups, KH, KW)"))
    (n, o, oh, ow), (weight_o, per_group, kh, kw) = upstream.shape, weight.shape
    if o != weight_o or groups < 1 or o % groups:
        raise UserError(
            f"{name}: upstream {list(upstream.shape)} has {o} channels, weight {list(weight.shape)} expects {weight_o} in "
            f"groups={groups}"
        )
    out = output_sizes(name, size, (kh, kw), stride, padding, dilation)
    if out != (oh, ow):
        raise UserError(f"{name}: an image of {size} gives outputs of {out}, the upstream gradient is {(oh, ow)}")
    return TensorType((n, per_group * groups, *size), upstream.dtype)


def _input_gradient_reference(
    upstream: Array, weight: Array, *, size: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    (n, o, oh, ow), (_, per_group, kh, kw) = upstream.shape, weight.shape
    c = per_group * groups
    matrix = weight.reshape(groups, o // groups, per_group * kh * kw).transpose(0, 2, 1)
    columns = (matrix @ _channel_matrix(upstream, groups)).reshape(n, c, kh * kw, oh, ow)
    (top, bottom), (left, right) = padding
    image = np.zeros((n, c, size[0] + top + bottom, size[1] + left + right), dtype=upstream.dtype)
    for tap, view in enumerate(taps(image, (kh, kw), stride, dilation, (oh, ow))):
        view += columns[:, :, tap]
    return np.ascontiguousarray(cropped(image, padding))


def _weight_gradient_shape(
    image: TensorType,
    upstream: TensorType,
    *,
    kernel: Pair,
    stride: Pair,
    padding: Padding,
    dilation: Pair,
    groups: int,
) -> TensorType:
    name = "conv2d_weight_gradient"
    _check_floats(name, image, upstream, ("image (N, C, H, W)", "upstream (N, O, OH, OW)"))
    (n, c, h, w), (upstream_n, o, oh, ow) = image.shape, upstream.shape
    if n != upstream_n or groups < 1 or c % groups or o % groups:
        raise UserError(f"{name}: image {list(image.shape)} and upstream {list(upstream.shape)} do not fit groups={groups}")
    out = output_sizes(name, (h, w), kernel, stride, padding, dilation)
    if out != (oh, ow):
        raise UserError(f"{name}: an image of {(h, w)} gives outputs of {out}, the upstream gradient is {(oh, ow)}")
    return TensorType((o, c // groups, *kernel), image.dtype)


def _weight_gradient_reference(
    image: Array, upstream: Array, *, kernel: Pair, stride: Pair, padding: Padding, dilation: Pair, groups: int
) -> Array:
    c, o = image.shape[1], upstream.shape[1]
    columns = _patch_matrix(image, kernel, stride, padding, dilation, groups)
    per_image = _channel_matrix(upstream, groups) @ columns.swapaxes(2, 3)
    return sum_over(per_image, (0,)).reshape(o, c // groups, *kernel)


def _geometry(z: Node) -> dict[str, object]:
    return {key: z.attributes[key] for key in ("stride", "padding", "dilation", "groups")}


def _kernel(weight: Node) -> Pair:
    return weight.shape[2], weight.shape[3]


def _size(image: Node) -> Pair:
    return image.shape[2], image.shape[3]


def _geometry_rows(*, gradient: str = "") -> tuple[Spec, ...]:
    """Example rows: the same geometries for the convolution and for its gradients."""
    specs = []
    for image, weight, stride, padding, dilation, groups, dtype in (
        ((2, 3, 6, 5), (4, 3, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, "float32"),
        ((1, 4, 7, 6), (4, 2, 2, 3), (2, 1), ((0, 1), (2, 0)), (1, 2), 2, "float64"),
        ((2, 3, 5, 5), (6, 1, 3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1), 3, "float32"),
        ((1, 1, 1, 1), (1, 1, 1, 1), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, "float32"),
        ((0, 2, 4, 4), (3, 2, 3, 3), (1, 1), ((0, 0), (0, 0)), (1, 1), 1, "float32"),
        ((2, 2, 4, 4), (3, 2, 3, 3), (1, 1), ((1, 1), (1, 1)), (1, 1), 1, "bfloat16"),
    ):
        size, kernel = (image[2], image[3]), (weight[2], weight[3])
        attributes: dict[str, object] = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        upstream = (image[0], weight[0], *output_sizes("conv2d", size, kernel, stride, padding, dilation))
        if gradient == "input":
            specs.append(Spec((upstream, weight), {**attributes, "size": size}, dtypes=(dtype,)))
        elif gradient == "weight":
            specs.append(Spec((image, upstream), {**attributes, "kernel": kernel}, dtypes=(dtype,)))
        else:
            specs.append(Spec((image, weight), attributes, dtypes=(dtype,)))
    return tuple(specs)


conv2d: Primitive = Primitive(
    "conv2d",
    Role.SWITCHER,
    "The filters slide over the image and take a dot product at each place: image (N, C, H, W), "
    "weight (O, C / groups, KH, KW) -> (N, O, OH, OW), OH and OW as in ops.windows.",
    shape=_conv2d_shape,
    reference=_conv2d_reference,
    vjp=(
        lambda z, u: conv2d_input_gradient(operand(u), z.inputs[1], size=_size(z.inputs[0]), **_geometry(z)),
        lambda z, u: conv2d_weight_gradient(z.inputs[0], operand(u), kernel=_kernel(z.inputs[1]), **_geometry(z)),
    ),
    local=("y, at the places where it met x", "x, the patches that y met"),
    saves=(0, 1),
    spec=_geometry_rows(),
    heavy=True,
    images=(0, OUTPUT),
    multiply_adds=lambda image, weight, z: z.size * math.prod(weight.shape[1:]),
)

conv2d_input_gradient: Primitive = Primitive(
    "conv2d_input_gradient",
    Role.SWITCHER,
    "The gradient of conv2d for its image, and a transposed convolution: upstream (N, O, OH, OW), "
    "weight (O, C / groups, KH, KW) -> (N, C, *size).",
    shape=_input_gradient_shape,
    reference=_input_gradient_reference,
    vjp=(
        lambda z, u: conv2d(operand(u), z.inputs[1], **_geometry(z)),
        lambda z, u: conv2d_weight_gradient(operand(u), z.inputs[0], kernel=_kernel(z.inputs[1]), **_geometry(z)),
    ),
    local=("weight", "upstream"),
    saves=(0, 1),
    spec=_geometry_rows(gradient="input"),
    heavy=True,
    images=(0, OUTPUT),
    multiply_adds=lambda upstream, weight, z: upstream.size * math.prod(weight.shape[1:]),
)

conv2d_weight_gradient: Primitive = Primitive(
    "conv2d_weight_gradient",
    Role.SWITCHER,
    "The gradient of conv2d for its weight: image (N, C, H, W), upstream (N, O, OH, OW) -> (O, C / groups, *kernel).",
    shape=_weight_gradient_shape,
    reference=_weight_gradient_reference,
    vjp=(
        lambda z, u: conv2d_input_gradient(z.inputs[1], operand(u), size=_size(z.inputs[0]), **_geometry(z)),
        lambda z, u: conv2d(z.inputs[0], operand(u), **_geometry(z)),
    ),
    local=("upstream", "image"),
    saves=(0, 1),
    spec=_geometry_rows(gradient="weight"),
    heavy=True,
    images=(0, 1),
    multiply_adds=lambda image, upstream, z: upstream.size * math.prod(z.shape[1:]),
)
