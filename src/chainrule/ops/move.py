"""Primitives that move values to other places. Each gradient rule moves them back, and none reads a value.

The gradient rule of ``slice`` is ``pad``, and that of ``pad`` is ``slice``.
"""

from __future__ import annotations

import math

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import holds
from chainrule.graph.node import Array, Node, Role, TensorType
from chainrule.ops.primitive import EachInput, Primitive, Spec, rows

# ---- reshape, transpose, flip


def _reshape_shape(x: TensorType, *, shape: tuple[int, ...]) -> TensorType:
    if math.prod(shape) != x.size or any(size < 0 for size in shape):
        raise UserError(f"reshape: {x} has {x.size} elements, shape {shape} has {math.prod(shape)}")
    return TensorType(shape, x.dtype)


reshape: Primitive = Primitive(
    "reshape",
    Role.MOVER,
    "z = the same elements in row-major order under another shape: (2, 6) -> (3, 4).",
    shape=_reshape_shape,
    reference=lambda x, *, shape: x.reshape(shape),
    vjp=(lambda z, u: reshape(u, shape=z.inputs[0].shape),),
    local=("1 at its new place",),
    saves=(),
    rearranges=True,
    spec=rows(
        Spec(((2, 6),), {"shape": (3, 4)}),
        Spec(((1,),), {"shape": ()}),
        Spec(((0, 3),), {"shape": (3, 0, 2)}),
        Spec(((2, 3),), {"shape": (6,)}, dtypes=("int64",)),
    ),
)


def _transpose_shape(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    if sorted(axes) != list(range(len(x.shape))):
        raise UserError(f"transpose: axes {axes} are no order of the {len(x.shape)} axes of {x}")
    return TensorType(tuple([x.shape[axis] for axis in axes]), x.dtype)


def _inverse(axes: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes the permutation ``axes``."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


transpose: Primitive = Primitive(
    "transpose",
    Role.MOVER,
    "z = x with its axes in another order: (a, b, c) -> (c, a, b) for axes=(2, 0, 1).",
    shape=_transpose_shape,
    reference=lambda x, *, axes: x.transpose(axes),
    vjp=(lambda z, u: transpose(u, axes=_inverse(z.attributes["axes"])),),
    local=("1 at its new place",),
    saves=(),
    rearranges=True,
    spec=rows(
        Spec(((2, 3, 4),), {"axes": (2, 0, 1)}),
        Spec(((2, 3),), {"axes": (0, 1)}),
        Spec(((),), {"axes": ()}),
        Spec(((0, 3),), {"axes": (1, 0)}, dtypes=("bool",)),
    ),
)


def _flip_shape(x: TensorType, *, axes: tuple[int, ...]) -> TensorType:
    if len(set(axes)) != len(axes) or any(not 0 <= axis < len(x.shape) for axis in axes):
        raise UserError(f"flip: axes {axes} do not fit {x}: give each of 0 to {len(x.shape) - 1} at most once")
    return x


flip: Primitive = Primitive(
    "flip",
    Role.MOVER,
    "z = x in reverse order along axes: (a, b) -> (a, b).",
    shape=_flip_shape,
    reference=lambda x, *, axes: np.flip(x, axes),
    vjp=(lambda z, u: flip(u, axes=z.attributes["axes"]),),
    local=("1 at its new place",),
    saves=(),
    spec=rows(
        Spec(((5,),), {"axes": (0,)}),
        Spec(((2, 3, 4),), {"axes": (0, 2)}),
        Spec(((2, 0),), {"axes": (1,)}, dtypes=("int32",)),
    ),
)

# ---- slice and pad


def _slice_shape(x: TensorType, *, start: tuple[int, ...], stop: tuple[int, ...], step: tuple[int, ...]) -> TensorType:
    if not len(start) == len(stop) == len(step) == len(x.shape):
        raise UserError(f"slice: {x} needs {len(x.shape)} of each, got start {start}, stop {stop}, step {step}")
    for axis, (a, b, s, size) in enumerate(zip(start, stop, step, x.shape, strict=True)):
        if not (0 <= a <= b <= size and s >= 1):
            raise UserError(f"slice: {a}:{b}:{s} does not fit axis {axis} of {x}")
    return TensorType(tuple(-(-(b - a) // s) for a, b, s in zip(start, stop, step, strict=True)), x.dtype)


def _slice_vjp(z: Node, u: Node) -> Node:
    start, step = z.attributes["start"], z.attributes["step"]
    spans = (_dilated(size, s) for size, s in zip(u.shape, step, strict=True))
    high = tuple(size - a - span for size, a, span in zip(z.inputs[0].shape, start, spans, strict=True))
    return pad(u, low=start, high=high, interior=tuple(s - 1 for s in step))


slice_: Primitive = Primitive(
    "slice",
    Role.MOVER,
    "z = x[start:stop:step] on every axis, step >= 1: (a, ...) -> (ceil((stop - start) / step), ...).",
    shape=_slice_shape,
    reference=lambda x, *, start, stop, step: x[tuple(map(slice, start, stop, step))],
    vjp=(_slice_vjp,),
    local=("1 at its old place",),
    saves=(),
    spec=rows(
        Spec(((7,),), {"start": (1,), "stop": (6,), "step": (2,)}),
        Spec(((5, 4),), {"start": (0, 1), "stop": (5, 3), "step": (3, 1)}),
        Spec(((5,),), {"start": (2,), "stop": (2,), "step": (1,)}),
        Spec(((),), {"start": (), "stop": (), "step": ()}, dtypes=("int64",)),
    ),
)


def _dilated(size: int, step: int) -> int:
    """The extent of ``size`` elements that stand ``step`` apart."""
    return (size - 1) * step + 1 if size else 0


def _pad_shape(
    x: TensorType, *, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...], value: float = 0.0
) -> TensorType:
    if not len(low) == len(high) == len(interior) == len(x.shape):
        raise UserError(f"pad: {x} needs {len(x.shape)} of each, got low {low}, high {high}, interior {interior}")
    if any(amount < 0 for amount in (*low, *high, *interior)):
        raise UserError(f"pad: amounts must not be negative, got low {low}, high {high}, interior {interior}: slice to cut")
    if value and not holds(x.dtype, value):
        raise UserError(
            f"pad: {value} does not fit dtype {x.dtype}: pad with a number that does, or cast to a wider dtype first"
        )
    spans = (_dilated(size, between + 1) for size, between in zip(x.shape, interior, strict=True))
    return TensorType(tuple(a + span + b for a, span, b in zip(low, spans, high, strict=True)), x.dtype)


def _pad_reference(
    x: Array, *, low: tuple[int, ...], high: tuple[int, ...], interior: tuple[int, ...], value: float = 0.0
) -> Array:
    steps = tuple(between + 1 for between in interior)
    spans = tuple(_dilated(size, step) for size, step in zip(x.shape, steps, strict=True))
    out = np.full(tuple(a + span + b for a, span, b in zip(low, spans, high, strict=True)), value, dtype=x.dtype)
    out[tuple(slice(a, a + span, step) for a, span, step in zip(low, spans, steps, strict=True))] = x
    return out


def _pad_vjp(z: Node, u: Node) -> Node:
    low, interior = z.attributes["low"], z.attributes["interior"]
    spans = (_dilated(size, between + 1) for size, between in zip(z.inputs[0].shape, interior, strict=True))
    stop = tuple(a + span for a, span in zip(low, spans, strict=True))
    return slice_(u, start=low, stop=stop, step=tuple(between + 1 for between in interior))


pad: Primitive = Primitive(
    "pad",
    Role.MOVER,
    "z = x with low elements before, high after and interior between its own along each axis: (n) -> (low + n + high).",
    shape=_pad_shape,
    reference=_pad_reference,
    vjp=(_pad_vjp,),
    local=("1 at its new place",),
    saves=(),
    spec=rows(
        Spec(((3,),), {"low": (1,), "high": (2,), "interior": (0,)}),
        Spec(((3, 2),), {"low": (0, 1), "high": (1, 0), "interior": (1, 2)}),
        Spec(((0,),), {"low": (1,), "high": (1,), "interior": (3,)}),
        Spec(((2,),), {"low": (1,), "high": (0,), "interior": (0,), "value": -1.0}, dtypes=("float64",)),
    ),
)

# ---- concatenate


def _concatenate_shape(*types: TensorType, axis: int) -> TensorType:
    first = types[0]
    if not 0 <= axis < len(first.shape):
        raise UserError(f"concatenate: axis {axis} is outside {first}: give one of 0 to {len(first.shape) - 1}")
    for type_ in types[1:]:
        fits = len(type_.shape) == len(first.shape) and type_.dtype == first.dtype
        if not fits or any(a != b for i, (a, b) in enumerate(zip(type_.shape, first.shape, strict=True)) if i != axis):
            raise UserError(f"concatenate: {type_} does not fit {first}: only axis {axis} may differ")
    total = sum(type_.shape[axis] for type_ in types)
    return TensorType((*first.shape[:axis], total, *first.shape[axis + 1 :]), first.dtype)


def _concatenate_vjp(z: Node, u: Node, position: int) -> Node:
    axis = z.attributes["axis"]
    begin = sum(input_node.shape[axis] for input_node in z.inputs[:position])
    start, stop = [0] * u.ndim, list(u.shape)
    start[axis], stop[axis] = begin, begin + z.inputs[position].shape[axis]
    return slice_(u, start=tuple(start), stop=tuple(stop), step=(1,) * u.ndim)


concatenate: Primitive = Primitive(
    "concatenate",
    Role.MOVER,
    "z = the inputs one after the other along an axis: (a, c), (b, c) -> (a + b, c).",
    shape=_concatenate_shape,
    reference=lambda *arrays, axis: np.concatenate(arrays, axis=axis),
    vjp=EachInput(_concatenate_vjp),
    local=("1 at its new place",),
    saves=(),
    spec=rows(
        Spec(((2, 3), (4, 3)), {"axis": 0}),
        Spec(((2, 3), (2, 1), (2, 0)), {"axis": 1}, dtypes=("float64",)),
        Spec(((3,),), {"axis": 0}),
    ),
)
