"""What a pickle of PyTorch says, read without running any of it.

A pickle is a program for a small machine with a stack: its instructions push values, put them into containers, name functions
of Python and call them. This is such a machine without Python in it. It knows containers, numbers, texts and what tensors are
made of; a function's name is a pair of words for it, and what a call of the few names in ``_CALLS`` means is done here.
Whatever else a pickle names is refused by its name, before anything is called.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

_MOST_INSTRUCTIONS = 5_000_000
_MARK = object()


class Refused(Exception):  # noqa: N818 - it becomes a UserError that names the file
    """Why a pickle is not read; ``name`` is what it names beyond tensors and containers, if that is the reason."""

    def __init__(self, reason: str, name: str = "") -> None:
        super().__init__(reason)
        self.name = name


@dataclass(frozen=True)
class Name:
    """What a pickle names: a function or a class, which is never looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """Numbers that lie together in the file, under a key: ``count`` of them from number ``start`` on. ``dtype`` is empty where
    the pickle speaks of bytes."""

    dtype: str
    key: str
    count: int
    start: int = 0


@dataclass(frozen=True)
class StoredTensor:
    """A tensor: where its numbers are in a storage. ``offset`` and ``strides`` count numbers."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


STORAGES = {
    "FloatStorage": "float32",
    "DoubleStorage": "float64",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "UntypedStorage": "",
}
"""PyTorch's classes of storages, and the dtype of the numbers in each."""

_TORCH_DTYPES = {
    **{name: name for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "bool")},
    **{name: name for name in ("uint8", "uint16", "uint32", "uint64", "complex64")},
    **{name: name for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu")},
}
_STORAGE_MODULES = ("torch", "torch.storage", "torch.cuda")


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise Refused(f"it is damaged: {value!r:.40} is no size")
    return value


def _wholes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, tuple | list) or len(value) > 64:
        raise Refused("it is damaged: a shape is no list of sizes")
    return tuple(map(_whole, value))


def _tensor(storage: Any, offset: Any, size: Any, strides: Any, *_: Any) -> StoredTensor:
    """``torch._utils._rebuild_tensor_v2``: (storage, offset, size, strides, requires_grad, hooks)."""
    if not isinstance(storage, Storage) or not storage.dtype:
        raise Refused("it is damaged: a tensor has no storage")
    return StoredTensor(storage, storage.dtype, _whole(offset), _wholes(size), _wholes(strides))


def _typed_tensor(
    storage: Any, offset: Any, size: Any, strides: Any, grad: Any, hooks: Any, dtype: Any, *_: Any
) -> StoredTensor:
    """``torch._utils._rebuild_tensor_v3``: as above, with the dtype beside the storage."""
    known = isinstance(dtype, Name) and dtype.module == "torch" and dtype.name in _TORCH_DTYPES
    if not isinstance(storage, Storage) or not known:
        raise Refused("it is damaged: a tensor has no storage or no dtype")
    return StoredTensor(storage, _TORCH_DTYPES[dtype.name], _whole(offset), _wholes(size), _wholes(strides))


def _first(value: Any, *_: Any) -> Any:
    """``torch._utils._rebuild_parameter``: (tensor, requires_grad, hooks)."""
    if not isinstance(value, StoredTensor):
        raise Refused("it is damaged: a parameter is no tensor")
    return value


def _of_type(function: Any, kind: Any, arguments: Any, *_: Any) -> Any:
    """``torch._tensor._rebuild_from_type_v2``: a tensor with attributes, which are left out."""
    if not isinstance(function, Name) or not isinstance(kind, Name) or not isinstance(arguments, tuple):
        raise Refused("it is damaged: a tensor is made of nothing")
    if str(kind) not in _TENSORS or function not in _CALLS:
        raise Refused("", str(function if str(kind) in _TENSORS else kind))
    return _first(_CALLS[function](*arguments))


def _dictionary(*arguments: Any) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for pair in arguments[0] if arguments else ():
        key, value = pair
        made[_key(key)] = value
    return made


def _members(values: Any = ()) -> list[Any]:
    """A set, as a list, as its members may be what cannot be looked up."""
    if not isinstance(values, list | tuple):
        raise Refused("it is damaged: a set is made of something else")
    return list(values)


_TENSORS = ("torch.Tensor", "torch.nn.parameter.Parameter", "torch.nn.Parameter")
_CALLS: dict[Name, Callable[..., Any]] = {
    Name("collections", "OrderedDict"): _dictionary,
    Name("torch._utils", "_rebuild_tensor"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v2"): _tensor,
    Name("torch._utils", "_rebuild_tensor_v3"): _typed_tensor,
    Name("torch._utils", "_rebuild_parameter"): _first,
    Name("torch._utils", "_rebuild_parameter_with_state"): _first,
    Name("torch._tensor", "_rebuild_from_type_v2"): _of_type,
    Name("torch", "Size"): lambda sizes=(): _wholes(sizes),
    **{Name(module, kind): _members for module in ("builtins", "__builtin__") for kind in ("set", "frozenset")},
}
"""All that a pickle may call."""


def _named(module: Any, name: Any) -> Name:
    """A name, if it is of those that mean something here."""
    if not isinstance(module, str) or not isinstance(name, str):
        raise Refused("it is damaged: a name is no text")
    found = Name(module, name)
    known = found in _CALLS or str(found) in _TENSORS
    known = known or (module in _STORAGE_MODULES and name in STORAGES) or (module == "torch" and name in _TORCH_DTYPES)
    if not known:
        raise Refused("", str(found))
    return found


def _key(key: Any) -> Any:
    if key is not None and type(key) not in (str, int, float, bool, bytes):
        raise Refused(f"it has a dict whose keys are neither texts nor numbers, but of class {type(key).__name__}")
    return key


class _Machine:
    """The stack, the memo, and what each instruction does to them."""

    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self.persistent = persistent
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO) -> Any:
        for number, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if number > _MOST_INSTRUCTIONS:
                raise Refused(f"its structure is absurdly large (more than {_MOST_INSTRUCTIONS:,} instructions)")
            name = opcode.name
            if name == "STOP":
                return self.stack.pop()
            if name in _PUSHED:
                self.stack.append(argument)
            elif name in _ACTIONS:
                _ACTIONS[name](self, argument)
            elif name not in _IGNORED:
                raise Refused("", f"the instruction {name}" if argument is None else f"the instruction {name} {argument!r:.60}")
        raise Refused("it is damaged: it ends too early")

    def above_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise Refused("it is damaged: its instructions do not fit together")
        above = self.stack[place + 1 :]
        del self.stack[place:]
        return above

    def top(self, kind: type) -> Any:
        if not isinstance(self.stack[-1], kind):
            raise Refused(f"it is damaged: a {type(self.stack[-1]).__name__} is used as a {kind.__name__}")
        return self.stack[-1]

    def remember(self, place: int | None) -> None:
        self.memo[len(self.memo) if place is None else place] = self.stack[-1]

    def extend(self, members: list[Any]) -> None:
        self.top(list).extend(members)

    def set_items(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[_key(key)] = value

    def tuple_of(self, count: int) -> None:
        members = tuple(self.stack[-count:])
        if len(members) < count:
            raise Refused("it is damaged: its instructions do not fit together")
        self.stack[-count:] = [members]

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise Refused("it is damaged: what it calls is no function")
        if function not in _CALLS:
            raise Refused("", str(function))
        self.stack.append(_CALLS[function](*arguments))

    def attributes(self) -> None:
        """BUILD: attributes for an object. State dicts have some, which say nothing of the numbers."""
        self.stack.pop()
        self.top(dict)

    def refuse(self, names: str) -> None:
        """INST: make an object of a class, as nothing that is read here is stored."""
        raise Refused("", names.replace(" ", "."))

    def list_of_marked(self) -> None:
        self.stack.append(self.above_mark())

    def dict_of_marked(self) -> None:
        pairs = self.above_mark()
        self.stack.append({})
        self.set_items(pairs)


_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_IGNORED = {"PROTO", "FRAME"}
_ACTIONS: dict[str, Callable[[_Machine, Any], Any]] = {
    "NONE": lambda machine, _: machine.stack.append(None),
    "NEWTRUE": lambda machine, _: machine.stack.append(True),
    "NEWFALSE": lambda machine, _: machine.stack.append(False),
    "MARK": lambda machine, _: machine.stack.append(_MARK),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.above_mark(),
    "DUP": lambda machine, _: machine.stack.append(machine.stack[-1]),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "EMPTY_SET": lambda machine, _: machine.stack.append([]),
    "EMPTY_TUPLE": lambda machine, _: machine.stack.append(()),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "APPEND": lambda machine, _: machine.extend([machine.stack.pop()]),
    "APPENDS": lambda machine, _: machine.extend(machine.above_mark()),
    "ADDITEMS": lambda machine, _: machine.extend(machine.above_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.stack.pop(-2), machine.stack.pop()]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.above_mark()),
    "LIST": lambda machine, _: machine.list_of_marked(),
    "FROZENSET": lambda machine, _: machine.list_of_marked(),
    "DICT": lambda machine, _: machine.dict_of_marked(),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.above_mark())),
    "TUPLE1": lambda machine, _: machine.tuple_of(1),
    "TUPLE2": lambda machine, _: machine.tuple_of(2),
    "TUPLE3": lambda machine, _: machine.tuple_of(3),
    "PUT": lambda machine, place: machine.remember(place),
    "BINPUT": lambda machine, place: machine.remember(place),
    "LONG_BINPUT": lambda machine, place: machine.remember(place),
    "MEMOIZE": lambda machine, _: machine.remember(None),
    "GET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "LONG_BINGET": lambda machine, place: machine.stack.append(machine.memo[place]),
    "GLOBAL": lambda machine, names: machine.stack.append(_named(*names.split(" ", 1))),
    "STACK_GLOBAL": lambda machine, _: machine.stack.append(_named(machine.stack.pop(-2), machine.stack.pop())),
    "INST": lambda machine, names: machine.refuse(names),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.call(),
    "BUILD": lambda machine, _: machine.attributes(),
    "BINPERSID": lambda machine, _: machine.stack.append(machine.persistent(machine.stack.pop())),
}


def read_pickle(file: BinaryIO, persistent: Callable[[Any], Any]) -> Any:
    """The value of the pickle at which ``file`` stands, which stands behind it afterwards.

    Sets come as lists. ``persistent`` makes of an identifier what it stands for.

    Raises:
        Refused: it names something beyond tensors and containers, or is damaged.
    """
    try:
        return _Machine(persistent).run(file)
    except Refused:
        raise
    except Exception as error:  # whatever it is that a damaged pickle leads to
        raise Refused(f"it is damaged ({type(error).__name__}: {error!s:.80})") from None
