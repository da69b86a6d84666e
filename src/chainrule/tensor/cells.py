"""Cells: the tensors that can be assigned, which are parameters, buffers, optimizer state and the random counter.

All other tensors are immutable. Assigning a cell gives it a new leaf: nodes computed from the old value keep that value, and no
gradient flows back into the computation of the assigned value. While a function is traced, its reads, assignments and gradients
of cells are recorded in the trace, and the cells themselves do not change.
"""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from chainrule import forks
from chainrule.arguments import explained, flag
from chainrule.errors import UserError
from chainrule.graph import BUFFER, PARAMETER, Array, Node, TensorType, leaf
from chainrule.graph.dtypes import DType, as_dtype, is_float
from chainrule.tensor.backend import backend
from chainrule.tensor.tensor import Tensor, as_tensor, tensor
from chainrule.tensor.tracing import active_trace

if TYPE_CHECKING:
    from typing import Self


state_lock = forks.renewed(threading.RLock())
"""Held while a program that writes cells runs, and by those who read what it writes, so that other threads see the state before
or after a run, and nothing in between. Locks are taken in this order: that of a compiled function, this one, a backend's."""


class Cell(Tensor):
    """A tensor that can be assigned values of its shape; its dtype never changes. ``name`` is its path in the model."""

    __slots__ = ("_gradient_now", "_memory", "_memory_is_new", "_name", "_type", "_value_now", "_wants_grad")

    _operation = BUFFER
    _is_learned = False

    @explained
    def __init__(self, value: Any, dtype: Any = None) -> None:
        self._refuse_in_compiled_functions()
        array = tensor(value, dtype).numpy()
        self._begin(TensorType(array.shape, array.dtype), array)

    def _begin(self, type_: TensorType, array: Array | None) -> None:
        # The present value is in ``_value_now``, or, if that is None, in ``_memory``, where a program wrote it. If both are
        # None, all elements are 0.
        self._value_now: Array | None = array
        self._memory: Array | None = None
        self._memory_is_new = False  # whether ``_memory`` holds the present value
        self._type = type_
        self._name = ""
        self._wants_grad = self._is_learned
        self._node = None  # type: ignore[assignment]  # made when first read, so that its origin is the layer that reads it
        self._gradient_now: Tensor | Callable[[], Tensor] | None = None

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: Any) -> Self:
        """A cell of zeros, for which no memory is allocated until it is used.

        Raises:
            UserError: the cell would not fit into the address space, or is a parameter made inside a compiled function.
        """
        if cls._is_learned:  # an optimizer makes its buffers when its first step is traced, so they are allowed
            cls._refuse_in_compiled_functions()
        type_ = TensorType(shape, as_dtype(dtype))
        if type_.nbytes > sys.maxsize:
            raise UserError(f"{cls.__name__}: {type_} is too large: it would take {type_.nbytes:,} bytes")
        made = cls.__new__(cls)
        made._begin(type_, None)
        return made

    @classmethod
    def _refuse_in_compiled_functions(cls) -> None:
        trace = active_trace()
        if trace is not None and trace.notes is not None:
            raise UserError(
                f"{cls.__name__}: a compiled function makes it, which happens only while it is traced: make parameters, "
                "buffers, layers and optimizers outside of it"
            )

    @property
    def requires_grad(self) -> bool:
        """Whether this cell asks for gradients. Setting it to False freezes a parameter: computations that read it from then on
        pass no gradient to it, and optimizers do not update it, even if an earlier gradient is still in ``grad``. When it has
        changed, compiled functions that depend on it are traced again."""
        trace = active_trace()
        if trace is not None and self._is_learned:
            trace.asks.setdefault(self, self._wants_grad)
        return self._wants_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        flag("requires_grad", wanted)
        if not self._is_learned:
            if not wanted:
                return
            label = f" {self._name!r}" if self._name else ""
            raise UserError(f"requires_grad: buffer{label} is not learned: make it a Parameter")
        if bool(wanted) is self.requires_grad:
            return
        self._wants_grad = bool(wanted)
        trace = active_trace()
        if trace is None:
            self._node = None  # type: ignore[assignment]  # the next reader makes a new leaf
        else:
            trace.changed(self)

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Set ``requires_grad``; returns the cell itself."""
        self.requires_grad = wanted
        return self

    def retain_grad(self) -> None:
        """Do nothing, as the gradient of a parameter is always kept. A UserError for a cell that asks for no gradient."""
        if not self.requires_grad:
            super().retain_grad()  # raises the error

    @property
    def grad(self) -> Tensor | None:
        """The sum of the gradients that have arrived, of the cell's shape and dtype; None before the first."""
        trace = active_trace()
        if trace is not None:
            return trace.gradient(self)
        gradient = self._gradient_now  # read once: another thread's step may put a new one in its place meanwhile
        if not callable(gradient):
            return gradient
        with state_lock:
            if self._gradient_now is gradient:
                self._gradient_now = gradient()  # it is still in a program's memory; this fetches it
            return self.grad

    @grad.setter
    def grad(self, gradient: Tensor | None) -> None:
        if gradient is not None:
            self._check_gradient(gradient)
        trace = active_trace()
        if trace is None:
            self._gradient_now = gradient
        else:
            trace.gradients[self] = gradient

    def _check_gradient(self, gradient: Tensor) -> None:
        if not isinstance(gradient, Tensor) or gradient.node.type != self._type:
            label = f" {self._name!r}" if self._name else ""
            got = gradient.node.type if isinstance(gradient, Tensor) else f"a {type(gradient).__name__}"
            raise UserError(
                f"grad: {type(self).__name__.lower()}{label} is {self._type}, so its gradient must be a tensor "
                f"of that shape and dtype, got {got}"
            )

    @property
    def name(self) -> str:
        """The path in the model, such as ``layers.0.weight``; empty before the model is called."""
        return self._name

    @name.setter
    def name(self, name: str) -> None:
        self._name = name
        if self._node is not None:  # renames the leaf; with a second leaf, gradients would arrive at two nodes
            self._node.label = name

    @property
    def node(self) -> Node:
        """The leaf that stands for the present value; while tracing, the node that the trace reads instead."""
        trace = active_trace()
        if trace is not None:
            return trace.read(self)
        node = self._node
        if node is None:
            with state_lock:
                node = self._node
                if node is None:
                    node = self._node = self._leaf(self.numbers(), self._wants_grad)
        return node

    def numbers(self) -> Array:
        """The present value as an array that nobody writes to."""
        value = self._value_now
        if value is None:
            with state_lock:
                value = self._value_now
                if value is None:
                    value = self._value_now = np.zeros(*self._type) if self._memory is None else self._memory.copy()
        return value

    def memory(self) -> Array:
        """The memory of this cell, which holds its present value, and which programs read and update in place.

        Its address never changes. After a program wrote it, ``written`` must be called. All others get copies of it, so that
        tensors stay immutable.
        """
        with state_lock:
            if self._memory is None:
                untouched = self._value_now is None  # otherwise all of it is overwritten below, which allocates it
                self._memory = backend().zeros(self._type, present=untouched)
                self._memory_is_new = untouched
            if not self._memory_is_new:
                np.copyto(self._memory, self.numbers())
                self._memory_is_new = True
                if self._node is None:  # nobody holds the value, so the copy in memory is enough
                    self._value_now = None
            return self._memory

    def gradient_arrives(self, look: Callable[[], Tensor] | None) -> None:
        """Set the gradient to the result of ``look``, called when ``grad`` is first read; with None, to no gradient."""
        self._gradient_now = look

    @property
    def has_gradient(self) -> bool:
        """Whether there is a gradient. Does not fetch it from the program's memory."""
        return self._gradient_now is not None

    @property
    def type(self) -> TensorType:
        """Shape and dtype, which never change."""
        return self._type

    @property
    def shape(self) -> tuple[int, ...]:  # without making a node, which would copy the value
        """The sizes of the axes."""
        return self._type.shape

    @property
    def dtype(self) -> DType:
        """The dtype of the value."""
        return self._type.dtype

    def _leaf(self, value: Array | TensorType, wants_grad: bool) -> Node:
        return leaf(value, self._operation, requires_grad=wants_grad, label=self._name, owner=weakref.ref(self))

    def _gradient_leaf(self) -> Tensor | None:
        """A leaf that stands, in a trace, for the gradient from before; None if there is none."""
        return Tensor(leaf(self._type)) if self.has_gradient else None

    def assign(self, value: Any) -> None:
        """Make the numbers of ``value``, converted to this dtype, the value of this cell.

        Raises:
            UserError: ``value`` has another shape.
        """
        new = as_tensor(value, self._type.dtype)
        if new.shape != self._type.shape:
            label = f" {self._name!r}" if self._name else ""
            raise UserError(f"assign: {type(self).__name__.lower()}{label} is {self._type}, the value has shape {new.shape}")
        trace = active_trace()
        if trace is not None:
            trace.write(self, new.node)
            return
        self.replace(new.numpy())

    def replace(self, value: Array) -> None:
        """Make ``value`` itself the value of this cell. It has this shape and dtype, and nobody writes to it any more."""
        with state_lock:
            self._value_now = value
            self._memory_is_new = False
            self._node = None  # type: ignore[assignment]

    def __deepcopy__(self, memo: dict[int, Any]) -> Cell:
        made = memo[id(self)] = _made_again(*self._to_make_again())
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _made_again, self._to_make_again()

    def _to_make_again(self) -> tuple[Any, ...]:
        return type(self), np.array(self.numbers()), self._name, self._wants_grad

    def __repr__(self) -> str:
        label = f"{self._name}: " if self._name else ""
        return f"{type(self).__name__}({label}{super().__repr__()[len('Tensor(') :]}"


def _made_again(kind: type[Cell], value: Array, name: str, wants_grad: bool) -> Cell:
    """A copy of a cell, for ``copy`` and ``pickle``: its value and settings, without gradient, history and programs."""
    made = kind(value)
    made._name, made._wants_grad = name, wants_grad
    return made


def in_memory(cells: Iterable[Cell]) -> None:
    """Bring the memory of each cell up to date with its value."""
    for cell in cells:
        if not cell._memory_is_new:
            cell.memory()


def written(cells: Iterable[Cell]) -> None:
    """Note that a program has written new values into the memory of ``cells``."""
    for cell in cells:
        cell._value_now = cell._node = None  # type: ignore[assignment]


class Parameter(Cell):
    """A cell that is learned: gradients arrive in ``grad``, optimizers assign it. ``requires_grad = False`` freezes it."""

    __slots__ = ()
    _operation = PARAMETER
    _is_learned = True

    @explained
    def __init__(self, value: Any, dtype: Any = None, *, requires_grad: bool = True) -> None:
        super().__init__(value, dtype)
        self._wants_grad = bool(requires_grad)

    def _begin(self, type_: TensorType, array: Array | None) -> None:
        if not is_float(type_.dtype):
            raise UserError(f"Parameter: only floats can be learned, this is {type_}: pass dtype='float32'")
        super()._begin(type_, array)


class Buffer(Cell):
    """A cell that is part of a model's state but not learned, such as a running mean."""

    __slots__ = ()
