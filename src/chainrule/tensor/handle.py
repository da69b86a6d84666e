"""What a tensor is, whatever can be computed with it: the handle of a node, and its numbers as NumPy's and Python's."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from chainrule import ops
from chainrule.arguments import explained_methods
from chainrule.errors import UserError, UserTypeError
from chainrule.graph import INPUT, Array, Node, Remembered, Role
from chainrule.graph.dtypes import DType, bfloat16, float32, is_float
from chainrule.ops import compose

if TYPE_CHECKING:
    from chainrule.tensor.tensor import Tensor


class _Count(int):
    """The value of ``Tensor.size``, an int. Calling it, as ``x.size(0)`` in PyTorch, raises an error with what to write."""

    __slots__ = ()

    def __call__(self, axis: Any = None) -> Any:
        place = "" if axis is None else f"[{axis}]"
        raise UserError(f"size: x.size is the number of elements, {int(self)}, as in NumPy: write x.shape{place}")


@explained_methods
class Handle:
    """A node of a graph, with its shape, its dtype and its numbers."""

    __slots__ = ("__weakref__", "_grad", "_node")

    _tensor: ClassVar[type[Tensor]]
    """The class of all results, ``Tensor``: its parts, of which this class is the base, find it here when it is complete."""

    _node: Node
    _grad: Tensor | None

    def __init__(self, node: Node) -> None:
        if not isinstance(node, Node):
            raise UserError(f"Tensor: takes a node of a graph, got a {type(node).__name__}: of data, cr.tensor(data) makes one")
        self._node = node
        self._grad = None

    @property
    def node(self) -> Node:
        """The node of the graph that this tensor is the value of."""
        return self._node

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes."""
        return self.node.shape

    @property
    def dtype(self) -> DType:
        """The dtype of the elements."""
        return self.node.dtype

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements, as in NumPy."""
        return _Count(math.prod(self.shape))

    # ---- its numbers

    def _value(self) -> Array:
        value = self.node.value
        if value is None:
            if isinstance(self.node, Remembered):
                raise UserError(f"the value of {self.node!r} {ops.why_no_value(self.node)}")
            scalar = self.node.operation is INPUT and not self.node.shape
            raise UserError(
                f"the value of {self.node!r} was asked for while tracing, at {self.node.origin}: inside a traced function "
                "a tensor has a shape and a dtype but no numbers yet; return it, or choose with where() instead of if"
                + (": or pass int(...) or bool(...) of it, which is no input but part of the program" if scalar else "")
            )
        return value

    def numpy(self) -> Array:
        """The numbers as a read-only NumPy array, without a copy.

        Raises:
            UserError: there are none, as in a traced function.
        """
        view = self._value().view()
        view.flags.writeable = False
        return view

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:
        if self.dtype == bfloat16:
            raise UserError("DLPack: NumPy cannot hand over bfloat16: use astype('float32') first")
        if dl_device not in (None, self.__dlpack_device__()):
            raise BufferError(f"DLPack: this tensor is in the memory of the CPU, not on device {dl_device}")
        says_read_only = max_version is not None and max_version >= (1, 0)
        if copy is False and not says_read_only:
            raise BufferError("DLPack: only a consumer that knows read-only data (version 1.0) can do without a copy")
        array = self.numpy() if says_read_only and not copy else np.array(self._value())
        return array.__dlpack__(max_version=max_version) if says_read_only else array.__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)  # kDLCPU

    def item(self) -> Any:
        """The number in a tensor of size 1, as a Python number; a UserError for any other size."""
        if self.size != 1:
            raise UserError(f"item: this is {self.node.type}, with {self.size} elements: index one, or use tolist()")
        value = self._value()
        return (value.astype(np.float64) if value.dtype == bfloat16 else value).item()

    def tolist(self) -> Any:
        """The elements as nested lists of Python numbers, one level per axis; a number if there are no axes."""
        value = self._value()
        return (value.astype(np.float64) if self.dtype == bfloat16 else value).tolist()

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        return format(self.item(), spec) if spec else str(self)

    def __index__(self) -> int:
        if is_float(self.dtype):
            raise UserTypeError(f"{self.node.type} cannot be an index: only integers can")
        return int(self.item())

    def __bool__(self) -> bool:
        if self.size != 1:
            raise UserError(f"the truth of {self.node.type} is ambiguous: use .any(), .all() or a comparison of one element")
        return bool(self.item())

    def __len__(self) -> int:
        if not self.shape:
            raise UserTypeError(f"{self.node.type} is a single number: without axes it has no length and no elements")
        return self.shape[0]

    def __repr__(self) -> str:
        node = self.node
        if node.value is None:
            numbers = "traced, no value yet"
        else:
            shown = node.value.astype(np.float32) if node.dtype == bfloat16 else node.value
            edge = {1: 3, 2: 3, 3: 2}.get(node.ndim, 1)  # so that 4 axes do not show 6^4 numbers
            numbers = np.array2string(shown, separator=", ", threshold=60, edgeitems=edge, prefix="Tensor(", precision=5)
        facts = [str(node.type)]
        if node.operation.role is not Role.LEAF:
            facts.append(f"from {node.operation.name} at {node.origin}")
        elif node.requires_grad:
            facts.append("requires_grad")
        return f"Tensor({numbers}, {', '.join(facts)})"

    def _floats(self) -> Node:
        return self.node if is_float(self.dtype) else compose.to_dtype(self.node, float32)
