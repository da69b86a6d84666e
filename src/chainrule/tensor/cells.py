"""Cells: the tensors that get assigned. Parameters, buffers, optimizer state, the random counter.

A tensor never changes; a cell is a name for one tensor after another. Assigning cuts the history: the new value is a
leaf. While a function is traced, reads, assignments and gradients are noted in the trace instead, and the cell itself is
left alone.
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
"""Held while a program runs that writes cells, and by whoever looks at what it writes, so that several threads see the state
before a run or after it, never in between. It is taken after the lock of a compiled function, and before those of a backend."""


class Cell(Tensor):
    """A tensor that can be assigned another value of the same shape and dtype. ``name`` is its path in the model."""

    __slots__ = ("_gradient_now", "_memory", "_memory_is_new", "_name", "_type", "_value_now", "_wants_grad")

    _operation = BUFFER
    _is_learned = False

    @explained
    def __init__(self, value: Any, dtype: Any = None) -> None:
        self._refuse_in_compiled_functions()
        array = tensor(value, dtype).numpy()
        self._begin(TensorType(array.shape, array.dtype), array)

    def _begin(self, type_: TensorType, array: Array | None) -> None:
        # No value: a program wrote the memory since the cell was last looked at. Neither value nor memory: all is 0.
        self._value_now: Array | None = array
        self._memory: Array | None = None
        self._memory_is_new = False  # whether the memory holds the present value
        self._type = type_
        self._name = ""
        self._wants_grad = self._is_learned
        self._node = None  # type: ignore[assignment]  # made when it is first read, so that it knows the layer that reads it
        self._gradient_now: Tensor | Callable[[], Tensor] | None = None

    @classmethod
    def zeros(cls, shape: tuple[int, ...], dtype: Any) -> Self:
        """A cell of zeros, which take up no memory until they are used."""
        if cls._is_learned:  # state of an optimizer is made when its first step is traced
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
        """Whether gradients are to arrive here. A parameter for which it is set to False is frozen: computations that read it
        from then on pass it no gradient, and optimizers leave it alone, also where an earlier gradient stands in ``grad``.
        Compiled functions are traced again when it changed."""
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
            self._node = None  # type: ignore[assignment]  # the next reader gets another leaf
        else:
            trace.changed(self)

    def requires_grad_(self, wanted: bool = True) -> Self:
        """Set ``requires_grad``; returns the cell itself."""
        self.requires_grad = wanted
        return self

    def retain_grad(self) -> None:
        """Nothing: the gradient of a parameter is kept anyway."""
        if not self.requires_grad:
            super().retain_grad()  # says that there is none

    @property
    def grad(self) -> Tensor | None:
        """The gradient that has arrived so far; None before the first."""
        trace = active_trace()
        if trace is not None:
            return trace.gradient(self)
        if callable(self._gradient_now):  # it lies in a program's memory, and nobody has asked for it yet
            with state_lock:
                if callable(self._gradient_now):
                    self._gradient_now = self._gradient_now()
        return self._gradient_now

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
        if self._node is not None:  # the same leaf under its new name: a second one would split the gradient
            self._node.label = name

    @property
    def node(self) -> Node:
        """The leaf that stands for the present value; while tracing, what the trace reads."""
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
        """The present value, which stays as it is."""
        value = self._value_now
        if value is None:
            with state_lock:
                value = self._value_now
                if value is None:
                    value = self._value_now = np.zeros(*self._type) if self._memory is None else self._memory.copy()
        return value

    def memory(self) -> Array:
        """Memory of this cell alone, with its present value, that compiled programs read, and write in place. It never moves;
        after it was written, ``written`` says so. Everybody else sees copies, so that tensors stay immutable."""
        with state_lock:
            if self._memory is None:
                untouched = self._value_now is None  # else all of it is written before anything is read
                self._memory = backend().zeros(self._type, present=untouched)
                self._memory_is_new = untouched
            if not self._memory_is_new:
                np.copyto(self._memory, self.numbers())
                self._memory_is_new = True
                if self._node is None:  # nobody looks at the value: one copy is enough
                    self._value_now = None
            return self._memory

    def gradient_arrives(self, look: Callable[[], Tensor] | None) -> None:
        """The gradient is what ``look`` gives when somebody asks for it."""
        self._gradient_now = look

    @property
    def has_gradient(self) -> bool:
        """Whether ``grad`` is set, without fetching it."""
        return self._gradient_now is not None

    @property
    def type(self) -> TensorType:
        """Shape and dtype, which never change."""
        return self._type

    @property
    def shape(self) -> tuple[int, ...]:  # known without a node: whoever asks need not look at the value
        """The sizes of the axes."""
        return self._type.shape

    @property
    def dtype(self) -> DType:
        """The dtype of the value."""
        return self._type.dtype

    def _leaf(self, value: Array | TensorType, wants_grad: bool) -> Node:
        return leaf(value, self._operation, requires_grad=wants_grad, label=self._name, owner=weakref.ref(self))

    def assign(self, value: Any) -> None:
        """Take over the numbers of ``value``, which must have this shape; its dtype is converted."""
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
        """From now on the value is ``value``, of this shape and dtype, which nobody writes any more."""
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
    """A cell as another one was, without its gradient, its history, and its place in programs."""
    made = kind(value)
    made._name, made._wants_grad = name, wants_grad
    return made


def in_memory(cells: Iterable[Cell]) -> None:
    """See to it that the memory of each holds its present value."""
    for cell in cells:
        if not cell._memory_is_new:
            cell.memory()


def written(cells: Iterable[Cell]) -> None:
    """A program has written the memory of each."""
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
