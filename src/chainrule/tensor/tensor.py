"""The ``Tensor`` of users, and the functions that make tensors.

Most of its methods are in its parts, each in a file of its own: what a tensor is and its numbers (``handle``), gradients
(``differentiation``), ``operators``, ``elementwise`` functions, ``reductions`` and ``movements``. The parts know the class of
their results only as ``self._tensor``, so that none of them imports this file.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule.arguments import explained, explained_methods, shape_of
from chainrule.errors import UserError
from chainrule.graph import INPUT, Role, TensorType, leaf
from chainrule.graph.dtypes import DType, as_dtype, float32, is_float
from chainrule.habits import TENSOR, absent
from chainrule.tensor.differentiation import Differentiable
from chainrule.tensor.elementwise import Elementwise
from chainrule.tensor.handle import Handle
from chainrule.tensor.movements import Movements
from chainrule.tensor.operands import array_of
from chainrule.tensor.reductions import Reductions
from chainrule.tensor.tracing import active_trace


@explained_methods
class Tensor(Differentiable, Elementwise, Reductions, Movements):
    """An immutable array of one of seven dtypes, together with the graph of how it was computed.

    Operators and methods have NumPy's names, broadcasting and axis arguments. A tensor made with ``requires_grad=True`` asks
    for its gradient: after ``error.backward()`` that is in ``grad``, with the same shape and dtype.
    """

    __slots__ = ()

    if not TYPE_CHECKING:  # or type checkers would accept every misspelt name

        def __getattr__(self, name: str) -> Any:
            raise absent("Tensor", name, TENSOR)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        """NumPy's elementwise functions, and operators with an array on the left: see ``tensor/numpy_protocols.py``."""
        from chainrule.tensor.numpy_protocols import call_ufunc

        return call_ufunc(ufunc, method, inputs, options)

    def __array_function__(self, function: Any, types: Any, args: Any, options: Any) -> Any:
        """NumPy's other functions: see ``tensor/numpy_protocols.py``."""
        from chainrule.tensor.numpy_protocols import call_function

        return call_function(function, types, args, options)

    def copy(self) -> Tensor:
        """A tensor with the same value and graph; for a parameter or buffer, with its present value."""
        return Tensor(self.node)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        """A leaf that asks for a gradient is copied, as it has a ``grad`` of its own; any other is immutable and shared."""
        if self.requires_grad and self.node.operation.role is Role.LEAF:
            return tensor(self, requires_grad=True)
        return Tensor(self.node)


Handle._tensor = Tensor


# ---- making tensors


@explained
def tensor(data: Any, dtype: Any = None, requires_grad: bool = False, label: str = "") -> Tensor:
    """A tensor with a copy of ``data``: a number, nested lists, a NumPy array, or any object with ``__array__``.

    Without ``dtype``, Python floats become float32 and Python integers int64, and arrays keep their dtype. With
    ``requires_grad=True`` the tensor asks for its gradient. ``label`` is its name where the graph is shown.

    Raises:
        UserError: the data is no regular array of numbers, does not fit the dtype, or asks for a gradient without being float.
    """
    value = array_of(data, dtype)
    if not requires_grad:
        return Tensor(leaf(value, label=label))
    if not is_float(value.dtype):
        raise UserError(f"tensor: only floats can require a gradient, this is {value.dtype}: pass dtype='float32'")
    made = Tensor.__new__(Tensor)
    made._grad = None
    made._node = leaf(value, INPUT, requires_grad=True, label=label, owner=weakref.ref(made))
    return made


def as_tensor(data: Any, dtype: DType | None = None) -> Tensor:
    """``data`` as a tensor, of ``dtype`` if that is given; a tensor that fits is returned as it is."""
    if isinstance(data, Tensor):
        return data if dtype is None else data.astype(dtype)
    return tensor(data, dtype)


def placeholder(shape: Sequence[int], dtype: Any = float32, requires_grad: bool = False, label: str = "") -> Tensor:
    """A tensor without numbers, as input for tracing. ``label`` is its name where the graph or the program is shown."""
    made = Tensor.__new__(Tensor)
    made._grad = None
    owner = weakref.ref(made) if requires_grad else None
    type_ = TensorType(shape_of("placeholder: the shape", shape), as_dtype(dtype))
    made._node = leaf(type_, INPUT, requires_grad=requires_grad, label=label, owner=owner)
    trace = active_trace()
    if requires_grad and trace is not None:
        trace.owners.add(id(made))
    return made
