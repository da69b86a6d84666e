"""Pooling. Max pooling is a router, sum pooling (average pooling times the size of the window) a distributor.

Max pooling is three primitives, closed under differentiation: ``max_pool2d`` picks each window's first largest element,
``max_pool2d_route`` sends gradients to the picked elements, ``max_pool2d_pick`` takes other values from the same places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import is_float
from chainrule.graph.node import Array, Node, Role, TensorType
from chainrule.ops.broadcast import dtype_of_sum
from chainrule.ops.primitive import OUTPUT, Primitive, Spec
from chainrule.ops.windows import Padding, Pair, cropped, output_sizes, padded, taps


def _pooled(name: str, x: TensorType, window: Pair, stride: Pair, padding: Padding, dilation: Pair) -> TensorType:
    if len(x.shape) != 4 or not is_float(x.dtype):
        raise UserError(f"{name}: needs a float image (N, C, H, W), got {x}")
    return TensorType((*x.shape[:2], *output_sizes(name, x.shape[2:], window, stride, padding, dilation)), x.dtype)


def _max_pool_shape(x: TensorType, *, window: Pair, stride: Pair, padding: Padding, dilation: Pair) -> TensorType:
    out = _pooled("max_pool2d", x, window, stride, padding, dilation)
    # a window that lies wholly in the border has no element to pick
    for axis in (0, 1):
        first, size = padding[axis][0], x.shape[2 + axis]
        for place in range(out.shape[2 + axis]):
            begin = place * stride[axis] - first
            if not any(0 <= begin + tap * dilation[axis] < size for tap in range(window[axis])):
                raise UserError(
                    f"max_pool2d: window {place} along {('height', 'width')[axis]} (size {size}) lies wholly in the padding "
                    f"{padding[axis]}: use padding of at most half of kernel_size, here {window[axis]}"
                )
    return out


def _largest(views: Sequence[Array]) -> Array:
    largest = views[0].copy()
    for view in views[1:]:
        np.maximum(largest, view, out=largest)
    return largest


def _winners(x: Array, window: Pair, stride: Pair, padding: Padding, dilation: Pair) -> list[Array]:
    """For each tap, a mask of the windows in which it is the first largest element (nan counts as largest)."""
    out = output_sizes("max_pool2d", x.shape[2:], window, stride, padding, dilation)
    inside = padded(np.ones((1, 1, *x.shape[2:]), dtype=bool), padding, False)
    views = taps(padded(x, padding, -np.inf), window, stride, dilation, out)
    largest = _largest(views)
    free = np.ones(largest.shape, dtype=bool)
    masks = []
    for view, real in zip(views, taps(inside, window, stride, dilation, out), strict=True):
        mask = ((view == largest) | (view != view)) & real & free
        free &= ~mask
        masks.append(mask)
    return masks


def _max_pool_reference(x: Array, *, window: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Array:
    out = output_sizes("max_pool2d", x.shape[2:], window, stride, padding, dilation)
    return _largest(taps(padded(x, padding, -np.inf), window, stride, dilation, out))


def _route_shape(
    x: TensorType, upstream: TensorType, *, window: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> TensorType:
    out = _max_pool_shape(x, window=window, stride=stride, padding=padding, dilation=dilation)
    if upstream != out:
        raise UserError(f"max_pool2d_route: {x} pools to {out}, got {upstream}")
    return x


def _route_reference(x: Array, upstream: Array, *, window: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Array:
    masks = _winners(x, window, stride, padding, dilation)
    (top, bottom), (left, right) = padding
    n, c, h, w = x.shape
    dtype = dtype_of_sum(upstream.dtype, len(masks))
    image = np.zeros((n, c, top + h + bottom, left + w + right), dtype)
    for view, mask in zip(taps(image, window, stride, dilation, (upstream.shape[2], upstream.shape[3])), masks, strict=True):
        view += np.where(mask, upstream, 0)
    return np.ascontiguousarray(cropped(image, padding), upstream.dtype)


def _pick_shape(
    x: TensorType, values: TensorType, *, window: Pair, stride: Pair, padding: Padding, dilation: Pair
) -> TensorType:
    if x != values:
        raise UserError(f"max_pool2d_pick: the values must be like the image, got {x} and {values}")
    return _max_pool_shape(x, window=window, stride=stride, padding=padding, dilation=dilation)


def _pick_reference(x: Array, values: Array, *, window: Pair, stride: Pair, padding: Padding, dilation: Pair) -> Array:
    masks = _winners(x, window, stride, padding, dilation)
    out: Array = np.zeros(masks[0].shape, dtype=values.dtype)
    for view, mask in zip(
        taps(padded(values, padding), window, stride, dilation, (out.shape[2], out.shape[3])), masks, strict=True
    ):
        np.copyto(out, view, where=mask)
    return out


def _attributes(window: Pair, stride: Pair, padding: Padding, dilation: Pair | None = (1, 1)) -> dict[str, object]:
    attributes: dict[str, object] = {"window": window, "stride": stride, "padding": padding}
    return attributes if dilation is None else {**attributes, "dilation": dilation}


_NO_PADDING: Padding = ((0, 0), (0, 0))
# rows of image, output, geometry and dtype: even tiling, overlapping, padded and dilated, ceil mode, one pixel, no image
_MAX_GEOMETRIES = (
    ((2, 3, 4, 6), (2, 3, 2, 3), _attributes((2, 2), (2, 2), _NO_PADDING), "float32"),
    ((1, 2, 5, 5), (1, 2, 3, 3), _attributes((3, 3), (2, 2), ((1, 1), (1, 1))), "float64"),
    ((1, 2, 7, 6), (1, 2, 3, 6), _attributes((3, 2), (2, 1), ((1, 1), (1, 1)), (2, 2)), "float32"),
    ((1, 1, 5, 5), (1, 1, 3, 3), _attributes((2, 2), (2, 2), ((0, 1), (0, 1))), "float32"),
    ((1, 1, 1, 1), (1, 1, 1, 1), _attributes((1, 1), (1, 1), _NO_PADDING), "float32"),
    ((0, 2, 4, 4), (0, 2, 2, 2), _attributes((2, 2), (2, 2), _NO_PADDING), "float32"),
)

max_pool2d: Primitive = Primitive(
    "max_pool2d",
    Role.ROUTER,
    "The largest element of each window: (N, C, H, W) -> (N, C, OH, OW). The border is never the largest; the gradient "
    "goes to the first largest element in row-major order.",
    shape=_max_pool_shape,
    reference=_max_pool_reference,
    vjp=(lambda z, u: max_pool2d_route(z.inputs[0], u, **z.attributes),),
    local=("1 at the winner of each window, else 0",),
    saves=(0,),
    spec=tuple(Spec((image,), attributes, dtypes=(dtype,)) for image, _, attributes, dtype in _MAX_GEOMETRIES),
    heavy=True,
    images=(0, OUTPUT),
)

max_pool2d_route: Primitive = Primitive(
    "max_pool2d_route",
    Role.ROUTER,
    "Adds each number of the upstream gradient at the element that won its window: image (N, C, H, W), "
    "upstream (N, C, OH, OW) -> (N, C, H, W).",
    shape=_route_shape,
    reference=_route_reference,
    vjp=(None, lambda z, u: max_pool2d_pick(z.inputs[0], u, **z.attributes)),
    local=("0", "1 at the winner of each window"),
    saves=(0,),
    spec=tuple(Spec((image, out), attributes, dtypes=(dtype,)) for image, out, attributes, dtype in _MAX_GEOMETRIES),
    heavy=True,
    images=(0, 1, OUTPUT),
)

max_pool2d_pick: Primitive = Primitive(
    "max_pool2d_pick",
    Role.ROUTER,
    "The elements of values at the places where the image has each window's winner: image (N, C, H, W), "
    "values (N, C, H, W) -> (N, C, OH, OW).",
    shape=_pick_shape,
    reference=_pick_reference,
    vjp=(None, lambda z, u: max_pool2d_route(z.inputs[0], u, **z.attributes)),
    local=("0", "1 at the winner of each window, else 0"),
    saves=(0,),
    spec=tuple(Spec((image, image), attributes, dtypes=(dtype,)) for image, _, attributes, dtype in _MAX_GEOMETRIES),
    heavy=True,
    images=(0, 1, OUTPUT),
)

# ---- sums over windows


def _sum_pool_reference(x: Array, *, window: Pair, stride: Pair, padding: Padding) -> Array:
    out = output_sizes("sum_pool2d", x.shape[2:], window, stride, padding, (1, 1))
    views = taps(padded(x, padding), window, stride, (1, 1), out)
    total = views[0].astype(dtype_of_sum(x.dtype, len(views)))
    for view in views[1:]:
        total += view
    return total.astype(x.dtype)


def _sum_gradient_shape(u: TensorType, *, size: Pair, window: Pair, stride: Pair, padding: Padding) -> TensorType:
    image = TensorType((*u.shape[:2], *size), u.dtype)
    if _pooled("sum_pool2d_gradient", image, window, stride, padding, (1, 1)) != u:
        raise UserError(f"sum_pool2d_gradient: an image of {size} does not pool to {u}")
    return image


def _sum_gradient_reference(u: Array, *, size: Pair, window: Pair, stride: Pair, padding: Padding) -> Array:
    (top, bottom), (left, right) = padding
    shape = (*u.shape[:2], size[0] + top + bottom, size[1] + left + right)
    image = np.zeros(shape, dtype_of_sum(u.dtype, math.prod(window)))
    for view in taps(image, window, stride, (1, 1), (u.shape[2], u.shape[3])):
        view += u
    return np.ascontiguousarray(cropped(image, padding), u.dtype)


def _sum_pool_vjp(z: Node, u: Node) -> Node:
    x = z.inputs[0]
    return sum_pool2d_gradient(u, size=(x.shape[2], x.shape[3]), **z.attributes)


def _sum_gradient_vjp(z: Node, u: Node) -> Node:
    return sum_pool2d(u, **{key: value for key, value in z.attributes.items() if key != "size"})


_SUM_GEOMETRIES = (
    ((2, 3, 4, 6), (2, 3, 2, 3), _attributes((2, 2), (2, 2), _NO_PADDING, None), "float32"),
    ((1, 2, 5, 5), (1, 2, 3, 3), _attributes((3, 3), (2, 2), ((1, 1), (1, 1)), None), "float64"),
    ((1, 2, 7, 6), (1, 2, 3, 6), _attributes((3, 2), (2, 1), ((0, 1), (1, 0)), None), "float32"),
    ((1, 1, 1, 1), (1, 1, 1, 1), _attributes((1, 1), (1, 1), _NO_PADDING, None), "float32"),
)

sum_pool2d: Primitive = Primitive(
    "sum_pool2d",
    Role.DISTRIBUTOR,
    "The sum over each window, zeros in the border: (N, C, H, W) -> (N, C, OH, OW).",
    shape=lambda x, *, window, stride, padding: _pooled("sum_pool2d", x, window, stride, padding, (1, 1)),
    reference=_sum_pool_reference,
    vjp=(_sum_pool_vjp,),
    local=("1 from each window that holds the pixel",),
    saves=(),
    spec=tuple(Spec((image,), attributes, dtypes=(dtype,)) for image, _, attributes, dtype in _SUM_GEOMETRIES),
    heavy=True,
    images=(0, OUTPUT),
)

sum_pool2d_gradient: Primitive = Primitive(
    "sum_pool2d_gradient",
    Role.DISTRIBUTOR,
    "Adds each number to every element of its window, the adjoint of sum_pool2d: (N, C, OH, OW) -> (N, C, *size).",
    shape=_sum_gradient_shape,
    reference=_sum_gradient_reference,
    vjp=(_sum_gradient_vjp,),
    local=("1 from each element of the window",),
    saves=(),
    spec=tuple(
        Spec((out,), {**attributes, "size": (image[2], image[3])}, dtypes=(dtype,))
        for image, out, attributes, dtype in _SUM_GEOMETRIES
    ),
    heavy=True,
    images=(0, OUTPUT),
)
