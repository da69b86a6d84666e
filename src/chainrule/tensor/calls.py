"""The arguments of a compiled function's call: which of them are inputs of the program, and the signature of all.

A call's signature decides which program fits. Where none does, the differences from the last call are said in words.
"""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Hashable, Sequence
from types import MethodType
from typing import Any, NamedTuple

import numpy as np

from chainrule import ops
from chainrule.errors import UserError
from chainrule.graph import Array, TensorType
from chainrule.graph.dtypes import as_dtype
from chainrule.tensor.cells import Cell
from chainrule.tensor.sameness import Identity, described, value_key
from chainrule.tensor.tensor import Tensor, placeholder, tensor
from chainrule.tensor.tracing import Trace
from chainrule.tensor.tree import flatten, paths, rebuilt


class Change(NamedTuple):
    """Why a function is traced again, as a ``sentence``.

    If the same change may happen many times, ``cause`` identifies it, and ``remedy`` says how to avoid it.
    """

    sentence: str
    cause: str = ""
    remedy: str = ""


class Method:
    """A function bound to an object that it does not keep alive."""

    def __init__(self, function: Callable[..., Any], instance: weakref.ref[Any]) -> None:
        self.function, self.instance = function, instance
        functools.update_wrapper(self, function, updated=())

    def bound(self) -> MethodType:
        """Python's own bound method, which keeps the object alive."""
        return MethodType(self.function, self.instance())

    def __call__(self, *args: Any, **options: Any) -> Any:
        """The result of the function with the object as its first argument."""
        return self.function(self.instance(), *args, **options)


_MOST_TYPES = 1024


class Input(NamedTuple):
    """What a program depends on of an input: its shape and dtype, whether it asks for a gradient, and whether it is ``weak``, a
    scalar that takes the dtype of the other operand."""

    type: TensorType
    asks_for_gradient: bool
    weak: bool

    def __str__(self) -> str:
        return f"{self.type}{' that asks for a gradient' if self.asks_for_gradient else ''}"


class Given(NamedTuple):
    """An input of a call: its numbers, and the tensor if it is one."""

    array: Array
    tensor: Tensor | None
    key: Input

    def stand_in(self, trace: Trace, name: str) -> Tensor:
        """The placeholder that the traced function gets instead."""
        made = placeholder(*self.key.type, self.key.asks_for_gradient, name)
        if self.key.weak:
            trace.weak.add(made.node)
        return made


class Signature(NamedTuple):
    """What programs are chosen by: the structure of the arguments, their leaves, and settings of the thread."""

    structure: Hashable
    leaves: tuple[Hashable, ...]
    precision: str
    history: str


class Call:
    """The arguments of a call: which of them are inputs of the program, and their signature."""

    __slots__ = ("_all", "inputs", "leaves", "signature")

    def __init__(self, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        self._all = (args, options)
        self.leaves: list[Any] = []
        self.inputs: list[Given] = []
        try:
            structure = flatten(self._all, self.leaves)
        except RecursionError:
            raise UserError("compile: an argument contains itself: pass what is in it") from None
        keys = tuple([self._key(leaf) for leaf in self.leaves])
        self.signature = Signature(structure, keys, ops.contraction_precision(), ops.history_kept())

    def _key(self, leaf: Any) -> Hashable:
        if isinstance(leaf, Tensor):
            if isinstance(leaf, Cell):
                return Identity(leaf)
            node = leaf.node
            key = Input(node.type, node.requires_grad, False)
            self.inputs.append(Given(leaf.numpy() if node.value is None else node.value, leaf, key))
            return key
        if isinstance(leaf, np.ndarray | np.generic) or _converts[type(leaf)]:
            array = np.asarray(leaf)
            dtype = as_dtype(array.dtype)  # refuses what no tensor can be
            array = array.astype(dtype, copy=False)  # the other order of bytes is not for programs
            key = Input(TensorType(array.shape, dtype), False, isinstance(leaf, float))
            self.inputs.append(Given(array, None, key))
            return key
        return value_key(leaf)

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as they were passed: positional ones, and those by name."""
        return self._all

    def with_inputs(self, inputs: Sequence[Any]) -> Any:
        """The arguments with ``inputs`` in place of their own."""
        remaining = iter(inputs)
        leaves = [
            next(remaining) if isinstance(key, Input) else leaf
            for leaf, key in zip(self.leaves, self.signature.leaves, strict=True)
        ]
        return rebuilt(self._all, iter(leaves))

    def names(self, function: Callable[..., Any]) -> list[str]:
        """A name for each leaf: the parameter of ``function`` that it belongs to, and the path from there."""
        args, options = self._all
        names: list[str] = []
        for place, argument in enumerate(args):
            names += paths(argument, parameter_name(function, place))
        for name, argument in options.items():
            names += paths(argument, name)
        return names

    def input_names(self, function: Callable[..., Any]) -> list[str]:
        """A name for each input."""
        named = zip(self.names(function), self.signature.leaves, strict=True)
        return [name for name, key in named if isinstance(key, Input)]

    def objects(self, function: Callable[..., Any]) -> list[tuple[str, Any]]:
        """The leaves that are not inputs, with their names."""
        named = zip(self.names(function), self.leaves, self.signature.leaves, strict=True)
        return [(name, leaf) for name, leaf, key in named if not isinstance(key, Input)]

    def refuse_changes(self, name: str, given: Any, named: Any, inputs: Sequence[Tensor], function: Callable[..., Any]) -> None:
        """Refuse a function that changed a list, dict or dataclass argument: it got a copy, so the caller would not notice."""
        leaves: list[Any] = []
        structure = flatten((given, named), leaves)
        expected: list[Any] = []
        flatten(self.with_inputs(inputs), expected)
        if structure != self.signature.structure or any(a is not b for a, b in zip(leaves, expected, strict=True)):
            wrong = next((at for at, a, b in zip(self.names(function), leaves, expected, strict=False) if a is not b), "")
            raise UserError(
                f"compile: {name} changes an argument{f', {wrong},' if wrong else ''} in place, which its caller would not "
                "see: return the new value"
            )


def as_tensors(arguments: Any) -> Any:
    """The arguments with arrays converted to tensors, for a function that runs without being compiled."""
    leaves: list[Any] = []
    flatten(arguments, leaves)
    converted = [
        tensor(leaf)
        if not isinstance(leaf, Tensor | float) and (isinstance(leaf, np.ndarray | np.generic) or _converts[type(leaf)])
        else leaf
        for leaf in leaves
    ]
    return rebuilt(arguments, iter(converted))


class _Converts(dict[type, bool]):
    """A cache: whether NumPy can convert values of a type to an array."""

    def __missing__(self, kind: type) -> bool:
        if len(self) > _MOST_TYPES:
            self.clear()
        converts = self[kind] = any(hasattr(kind, name) for name in ("__array__", "__array_interface__", "__array_struct__"))
        return converts


_converts = _Converts()


def parameter_name(function: Callable[..., Any], place: int) -> str:
    """The name of the parameter at ``place``, for messages."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return f"argument {place + 1}"
    if isinstance(function, Method):
        parameters = parameters[1:]
    for number, parameter in enumerate(parameters):
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            return f"{parameter.name}[{place - number}]"
        if number == place:
            return parameter.name
    return f"argument {place + 1}"


def changed_argument(name: str, old: Hashable, new: Hashable) -> Change:
    """The change of an argument since the last call."""
    if isinstance(new, Input):
        return Change(f"the argument {name} changed from {_described(old)} to {new}")
    remedy = "pass it as a tensor or a NumPy scalar, such as np.float32(...), and it is an input of one program"
    if isinstance(new, Identity):
        remedy = "pass the tensors in it, or make it a dataclass"
    same = _described(old) == _described(new)
    after = f"another {_described(new).removeprefix('a ')}" if same else _described(new)
    return Change(f"the argument {name} changed from {_described(old)} to {after}", f"argument {name}", remedy)


def _described(key: Hashable) -> str:
    if isinstance(key, Input):
        return str(key)
    if isinstance(key, Identity):
        return described(key.value)
    assert isinstance(key, tuple)
    kind, value, *_ = key
    if kind is float and isinstance(value, str):  # as value_key writes what == does not tell apart
        return described(float.fromhex(value))
    return value if kind is complex else described(value)
