"""Converting what users pass to operations: data to arrays, and two operands to nodes of one dtype."""

from __future__ import annotations

import reprlib
from collections.abc import Container, Sequence
from typing import Any

import numpy as np

from chainrule.errors import UserError
from chainrule.graph import Array, Node, leaf, topological_order
from chainrule.graph.dtypes import DType, as_dtype, float32, float64, is_float, is_integer, promote, promote_with_number
from chainrule.ops import Primitive, compose
from chainrule.tensor.tracing import active_trace


def array_of(data: Any, dtype: Any = None) -> Array:
    """A copy of ``data`` as an array of ``dtype``, or of the dtype that ``tensor`` documents if that is None.

    Raises:
        UserError: the data is no regular array of numbers, does not fit the dtype, or contains tensors that ask for gradients.
    """
    if node_of(data) is not None:
        data = data.numpy()
    elif isinstance(data, list | tuple) and _asks_for_gradient(data):
        raise UserError("tensor: a list of tensors that ask for gradients would lose them: use stack() or concatenate()")
    plain = not isinstance(data, np.ndarray | np.generic) and not hasattr(data, "__array__")
    try:
        array = np.array(data)
        if plain and dtype is not None and array.dtype.kind in "iu" and is_integer(as_dtype(dtype)):
            array = np.array(data, as_dtype(dtype))  # raises an OverflowError for a number that does not fit
    except ValueError as error:
        raise UserError(f"tensor: the data is no regular array ({error}): rows must have equal lengths") from None
    except OverflowError as error:
        raise UserError(f"tensor: {error}: choose a wider dtype") from None
    if array.dtype.kind in "OSU":
        raise UserError(f"tensor: needs numbers, got {reprlib.repr(data)}: dtype {array.dtype.name} is not supported")
    if dtype is None:
        dtype = float32 if plain and array.dtype == np.float64 else as_dtype(array.dtype)
    return array.astype(as_dtype(dtype), copy=False)


def _asks_for_gradient(data: Sequence[Any]) -> bool:
    """Whether a tensor somewhere in nested lists requires a gradient."""
    return any(
        _asks_for_gradient(member)
        if isinstance(member, list | tuple)
        else (node := node_of(member)) is not None and node.requires_grad
        for member in data
    )


_NUMBERS = (int, float)  # a tuple, as ``int | float`` would be built again at each test


def operands(name: str, a: Any, b: Any, floats: bool = False) -> tuple[Node, Node]:
    """``a`` and ``b`` as nodes of one dtype, for the operation ``name``.

    A Python number is weak: it takes the dtype of the other operand if that can hold it. ``floats`` makes integers float32.

    Raises:
        UserError: an operand is not numeric, or does not fit the dtype.
    """
    if not isinstance(b, _NUMBERS):
        second = _operand(name, b)
        first = _weak(name, a, second.dtype) if isinstance(a, _NUMBERS) else _operand(name, a)
    else:
        first = _operand(name, a)
        second = _weak(name, b, first.dtype)
    dtype = first.dtype if first.dtype == second.dtype else _common(first, second)
    if floats and not is_float(dtype):
        dtype = float32
    return compose.to_dtype(first, dtype), compose.to_dtype(second, dtype)


def binary(name: str, primitive: Primitive, a: Any, b: Any, floats: bool = False) -> Node:
    """``primitive`` of two operands, which are converted to one dtype and broadcast; ``name`` is for messages."""
    return primitive(*compose.together(name, *operands(name, a, b, floats)))


def _operand(name: str, data: Any) -> Node:
    node = node_of(data)
    if node is not None:
        return node
    try:
        return leaf(array_of(data))
    except UserError as error:
        raise UserError(f"{name}: {str(error).removeprefix('tensor: ')}") from None


def node_of(data: Any) -> Node | None:
    """The node of a tensor, or ``data`` itself if it is one; None for anything else."""
    if isinstance(data, Node):
        return data
    node = getattr(data, "node", None)
    return node if isinstance(node, Node) else None


def as_node(data: Any, dtype: DType | None = None) -> Node:
    """``data`` as a node, of ``dtype`` if that is given, as ``as_tensor`` makes a tensor of it."""
    node = node_of(data)
    if node is None:
        return leaf(array_of(data, dtype))
    return node if dtype is None else compose.to_dtype(node, dtype)


def _common(first: Node, second: Node) -> DType:
    """The dtype for two operands whose dtypes differ. A weak scalar of a trace takes the dtype of the other operand."""
    trace = active_trace()
    if trace is not None and trace.weak:
        weak = is_weak(first, trace.weak), is_weak(second, trace.weak)
        if weak == (True, False):
            return promote_with_number(second.dtype, 0.5)
        if weak == (False, True):
            return promote_with_number(first.dtype, 0.5)
    return promote(first.dtype, second.dtype)


def is_weak(node: Node, inputs: Container[Node]) -> bool:
    """Whether a traced float64 scalar was computed from nothing but Python numbers and ``inputs``, at least one of them.

    ``inputs`` stand for NumPy's float64 scalars. These are Python floats, so a function that is not traced treats them as
    weak, and the traced one must do the same.
    """
    if node.shape or node.dtype != float64:
        return False
    leaves = [source for source in topological_order([node]) if source.is_leaf]
    return any(source in inputs for source in leaves) and all(
        source in inputs or (source.value is not None and not source.shape) for source in leaves
    )


def _weak(name: str, number: int | float, dtype: DType) -> Node:
    try:
        return leaf(np.asarray(number, dtype=promote_with_number(dtype, number)))
    except OverflowError:
        raise UserError(f"{name}: {number} does not fit the other operand's dtype, {dtype}") from None
