"""A thin builder of LLVM IR as text: typed values, loops, branches, vectors, masks.

A ``Function`` collects instructions; a ``Module`` collects functions, constants and declarations. Values carry their LLVM
type as text (``i64``, ``float``, ``<8 x float>``, ``ptr``); operators on them emit instructions. An index that is known when
the code is generated may be a Python int: arithmetic on ints is done by Python, so generators read the same for known and
unknown sizes. A vector of a single lane is represented by its scalar.

A value that changes from one round of a loop to the next is kept in a ``Variable`` (a stack slot, which LLVM turns into a
register).
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Concatenate, ParamSpec

from chainrule.recent import Recent

_VECTOR = re.compile(r"<(\d+) x (.+)>")


def vector(lanes: int, element: str) -> str:
    """Return the type of a vector of ``lanes`` elements; for a single lane, the type of the element itself."""
    return element if lanes == 1 else f"<{lanes} x {element}>"


@functools.lru_cache(maxsize=512)  # this and the next two are asked several times for each instruction
def element_of(type_: str) -> str:
    """Return the element type of a vector type, or a scalar type itself: ``float`` for ``<8 x float>``."""
    match = _VECTOR.fullmatch(type_)
    return match[2] if match else type_


@functools.lru_cache(maxsize=512)
def lanes_of(type_: str) -> int:
    """Return the number of lanes of a vector type; 1 for a scalar type."""
    match = _VECTOR.fullmatch(type_)
    return int(match[1]) if match else 1


@functools.lru_cache(maxsize=512)
def is_floating(type_: str) -> bool:
    """Return whether the elements of a scalar or vector type are ``float`` or ``double``."""
    return element_of(type_) in ("float", "double")


def with_element(type_: str, element: str) -> str:
    """Return the type with as many lanes as ``type_``, of another element type."""
    return vector(lanes_of(type_), element)


_SUFFIX = {"float": "f32", "double": "f64", "i1": "i1", "i8": "i8", "i16": "i16", "i32": "i32", "i64": "i64", "ptr": "p0"}
"""How the names of intrinsics denote each element type."""
SIZES = {"float": 4, "double": 8, "i1": 1, "i8": 1, "i16": 2, "i32": 4, "i64": 8, "ptr": 8}
"""Bytes of each element type in memory."""


def suffix(type_: str) -> str:
    """Return how the names of intrinsics denote a type: ``v8f32`` for ``<8 x float>``."""
    lanes = lanes_of(type_)
    return f"{f'v{lanes}' if lanes > 1 else ''}{_SUFFIX[element_of(type_)]}"


def literal(number: float, element: str) -> str:
    """Return a constant in LLVM's notation; floats are written by their bits, so that they are not rounded twice."""
    if element in ("float", "double"):
        if element == "float":
            number = struct.unpack("f", struct.pack("f", number))[0]
        return f"0x{struct.unpack('<Q', struct.pack('<d', number))[0]:016X}"
    if element == "i1":
        return "true" if number else "false"
    return str(int(number))


class Value:
    """An SSA value or a constant: ``text`` denotes it in instructions of function ``f``, and ``type`` is its LLVM type.

    Arithmetic operators emit instructions. The other operand is a value of the same type or a Python number, which becomes a
    constant of that type. ``//``, ``%`` and ``>>`` are unsigned on integers; ``/`` is signed.
    """

    __slots__ = ("f", "text", "type")

    def __init__(self, f: Function, text: str, type_: str) -> None:
        self.f, self.text, self.type = f, text, type_

    def _operand(self, other: float | Value) -> Value:
        return other if isinstance(other, Value) else self.f.number(other, self.type)

    def _binary(self, other: float | Value, whole: str, floating: str, swap: bool = False) -> Value:
        second = self._operand(other)
        first, second = (second, self) if swap else (self, second)
        name = floating if is_floating(self.type) else whole
        return self.f.op(f"{name} {self.type} {first.text}, {second.text}", self.type)

    def __add__(self, other: float | Value) -> Value:
        return self if isinstance(other, int) and other == 0 else self._binary(other, "add", "fadd")

    __radd__ = __add__

    def __sub__(self, other: float | Value) -> Value:
        return self if isinstance(other, int) and other == 0 else self._binary(other, "sub", "fsub")

    def __rsub__(self, other: float | Value) -> Value:
        return self._binary(other, "sub", "fsub", swap=True)

    def __mul__(self, other: float | Value) -> int | Value:
        if isinstance(other, int) and not is_floating(self.type):
            if other == 1:
                return self
            if other == 0 and self.type == "i64":
                return 0
        return self._binary(other, "mul", "fmul")

    __rmul__ = __mul__

    def __truediv__(self, other: float | Value) -> Value:
        return self._binary(other, "sdiv", "fdiv")

    def __floordiv__(self, other: int | Value) -> Value:
        """Unsigned division, for indices, which are never negative."""
        return self if isinstance(other, int) and other == 1 else self._binary(other, "udiv", "fdiv")

    def __mod__(self, other: int | Value) -> int | Value:
        return 0 if isinstance(other, int) and other == 1 else self._binary(other, "urem", "frem")

    def __and__(self, other: int | Value) -> Value:
        return self._binary(other, "and", "and")

    def __or__(self, other: int | Value) -> Value:
        return self._binary(other, "or", "or")

    def __xor__(self, other: int | Value) -> Value:
        return self._binary(other, "xor", "xor")

    def __lshift__(self, other: int | Value) -> Value:
        return self._binary(other, "shl", "shl")

    def __rshift__(self, other: int | Value) -> Value:
        """Logical shift: zeros come in from the left, whatever the sign."""
        return self._binary(other, "lshr", "lshr")

    def __neg__(self) -> Value:
        if is_floating(self.type):
            return self.f.op(f"fneg {self.type} {self.text}", self.type)
        return self.f.number(0, self.type) - self

    def __repr__(self) -> str:
        return f"{self.type} {self.text}"


class Variable:
    """A place on the stack for a value that changes, such as an accumulator. LLVM turns it into a register."""

    __slots__ = ("f", "place", "type")

    def __init__(self, f: Function, place: Value, type_: str) -> None:
        self.f, self.place, self.type = f, place, type_

    def get(self) -> Value:
        """Emit a load of the current value."""
        return self.f.load(self.place, self.type)

    def set(self, value: Value) -> None:
        """Emit a store of a new value."""
        self.f.store(value, self.place)


class Module:
    """An LLVM module under construction.

    Args:
        vector_bits: the width of the target's vector registers.
        has_fma: whether the target has an instruction for a multiply-add.
    """

    def __init__(self, vector_bits: int = 256, has_fma: bool = True) -> None:
        self.vector_bits, self.has_fma = vector_bits, has_fma
        self.functions: list[Function | _Text] = []
        self.constants: dict[str, str] = {}
        self.declarations: dict[str, str] = {}
        self.parameters: list[int] = []

    def function(
        self,
        name: str,
        parameters: Sequence[tuple[str, str]],
        *,
        result: str = "void",
        internal: bool = False,
        inline: bool | None = None,
    ) -> Function:
        """Add a function to the module, and return it, still empty.

        Args:
            name: its name.
            parameters: pairs of type (with attributes) and name, such as ("ptr noalias", "x").
            result: the type of its result.
            internal: whether it is visible in this module only.
            inline: True to force inlining it, False to forbid it, None to leave it to LLVM.
        """
        made = Function(self, name, parameters, result, internal, inline)
        self.functions.append(made)
        return made

    def constant(self, name: str, element: str, numbers: Sequence[float]) -> str:
        """Add a table of numbers in read-only memory, aligned to 64 bytes; returns the text of its address, ``@name``.

        Several generators of a module may ask for the same table by the same name; it is added once.
        """
        body = ", ".join(f"{element} {literal(number, element)}" for number in numbers)
        self.constants[name] = f"@{name} = internal constant [{len(numbers)} x {element}] [{body}], align 64"
        return f"@{name}"

    def include(self, part: Module) -> None:
        """Add the functions, tables and declarations of another module, which has no parameters."""
        assert not part.parameters, "what several kernels share cannot have parameters"
        self.functions += part.functions
        self.constants |= part.constants
        self.declarations |= part.declarations

    def text(self) -> str:
        """Return the whole module as LLVM IR."""
        width = self.vector_bits
        lines = [*self.constants.values()]
        lines += [one.text() for one in self.functions]
        defined = {one.name for one in self.functions}
        lines += [line for name, line in self.declarations.items() if name not in defined]
        widths = f'"prefer-vector-width"="{width}" "min-legal-vector-width"="{width}"'
        lines.append(f"attributes #0 = {{ nounwind {widths} }}")
        lines.append(f"attributes #1 = {{ nounwind noinline {widths} }}")
        lines.append(f"attributes #2 = {{ nounwind alwaysinline {widths} }}")
        lines += ["!0 = !{i32 1}", "!1 = !{}"]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class _Text:
    """A function that is complete, as LLVM IR."""

    name: str
    written: str

    def text(self) -> str:
        """Return the function as LLVM IR."""
        return self.written


P = ParamSpec("P")
_included: Recent[Hashable, Module] = Recent(512)
"""What functions with the decorator ``emitted_once`` added to modules lately."""


def emitted_once(emit: Callable[Concatenate[Module, P], None]) -> Callable[Concatenate[Module, P], None]:
    """Decorate a function that adds to a module what depends on its other arguments alone, which are hashable.

    Many kernels contain the same functions, and it takes some milliseconds to write a large one. So it is written once, and
    included as text afterwards.
    """

    @functools.wraps(emit)
    def include(module: Module, /, *arguments: P.args, **options: P.kwargs) -> None:
        def write() -> Module:
            part = Module(module.vector_bits, module.has_fma)
            emit(part, *arguments, **options)
            part.functions = [_Text(one.name, one.text()) for one in part.functions]
            return part

        key = emit, module.vector_bits, module.has_fma, arguments, tuple(options.items())
        module.include(_included.get_or_make(key, write))

    return include


class Function:
    """A function under construction, to whose end its methods append instructions.

    See ``Module.function`` for the arguments. ``f["x"]`` is the parameter ``x``. If ``give`` is not called, it returns void.
    """

    def __init__(
        self,
        module: Module,
        name: str,
        parameters: Sequence[tuple[str, str]],
        result: str,
        internal: bool,
        inline: bool | None,
    ) -> None:
        self.module, self.name, self.result = module, name, result
        linkage = "internal " if internal else ""
        attribute = {None: "#0", False: "#1", True: "#2"}[inline]
        written = ", ".join(f"{type_} %{parameter}" for type_, parameter in parameters)
        self._head = f"define {linkage}{result} @{name}({written}) {attribute} {{\nentry:"
        self._slots: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self._returned = "ret void"
        self._types = {parameter: type_.split()[0] for type_, parameter in parameters}

    def __getitem__(self, parameter: str) -> Value:
        return Value(self, f"%{parameter}", self._types[parameter])

    def text(self) -> str:
        """Return the function as LLVM IR."""
        return "\n".join([self._head, *self._slots, *self._lines, f"  {self._returned}", "}"])

    # ---- instructions

    def _name(self) -> str:
        self._count += 1
        return f"%.{self._count}"

    def op(self, instruction: str, type_: str) -> Value:
        """Append any instruction whose result is a value of ``type_``; returns that value."""
        self._count += 1
        name = f"%.{self._count}"
        self._lines.append(f"  {name} = {instruction}")
        return Value(self, name, type_)

    def do(self, instruction: str) -> None:
        """Append any instruction without a result."""
        self._lines.append(f"  {instruction}")

    def number(self, number: float, type_: str) -> Value:
        """Return a constant of ``type_``; in a vector, every lane has the same number."""
        if type_ == "i64":  # most of them
            return Value(self, str(int(number)), type_)
        element, lanes = element_of(type_), lanes_of(type_)
        written = literal(number, element)
        return Value(self, written if lanes == 1 else f"<{', '.join([f'{element} {written}'] * lanes)}>", type_)

    def numbers(self, numbers: Sequence[float], element: str) -> Value:
        """Return a constant vector of ``element``, with a lane for each of the numbers."""
        body = ", ".join(f"{element} {literal(one, element)}" for one in numbers)
        return Value(self, f"<{body}>", vector(len(numbers), element))

    def zero(self, type_: str) -> Value:
        """Return 0 of ``type_``; in a vector, in every lane."""
        return Value(self, "zeroinitializer", type_) if lanes_of(type_) > 1 else self.number(0, type_)

    def index(self, index: int | Value) -> Value:
        """Return a Python int as an i64 constant; a value is returned as it is."""
        return index if isinstance(index, Value) else self.number(index, "i64")

    def give(self, value: Value) -> None:
        """Return ``value`` at the end of the function."""
        self._returned = f"ret {value.type} {value.text}"

    def parameter(self, number: int) -> Value:
        """Return ``number`` as an i64 that is read when the kernel is called, so that it is no part of the code.

        Only in the function of a kernel, which has the argument ``args`` (see ``kernel``). What is emitted must not depend on
        the number in any other way, or kernels with other numbers have other code.
        """
        self.module.parameters.append(number)
        place = len(self.module.parameters)
        address, name = f"%.parameter_place{place}", f"%.parameter{place}"
        self._slots.append(f"  {address} = getelementptr i64, ptr {self['args'].text}, i64 {-place}")
        self._slots.append(f"  {name} = load i64, ptr {address}, align 8, !invariant.load !1")
        return Value(self, name, "i64")

    def real_parameter(self, number: float, type_: str) -> Value:
        """Return ``number`` as a value of ``type_``, float or double or a vector of either, that is read like ``parameter``."""
        bits = self.parameter(struct.unpack("<q", struct.pack("<d", number))[0])
        name = f"{bits.text}.real"
        self._slots.append(f"  {name} = bitcast i64 {bits.text} to double")
        value = Value(self, name, "double")
        if element_of(type_) == "float":
            self._slots.append(f"  {name}.narrow = fptrunc double {name} to float")
            value = Value(self, f"{name}.narrow", "float")
        return self.splat(value, lanes_of(type_))

    # ---- memory

    def at(self, pointer: Value, index: int | Value, element: str) -> Value:
        """Return the address of element ``index`` of the array at ``pointer``, whose elements have type ``element``."""
        if isinstance(index, int) and index == 0:
            return pointer
        i = self.index(index)
        return self.op(f"getelementptr inbounds {element}, ptr {pointer.text}, {i.type} {i.text}", "ptr")

    def load(self, pointer: Value, type_: str, align: int | None = None) -> Value:
        """Load a value of ``type_``.

        ``align`` is the alignment of the address in bytes: by default the size of an element, which any element's address has.
        """
        return self.op(f"load {type_}, ptr {pointer.text}, align {align or SIZES[element_of(type_)]}", type_)

    def store(self, value: Value, pointer: Value, align: int | None = None, *, streaming: bool = False) -> None:
        """Store ``value`` at ``pointer``, with ``align`` as for ``load``.

        ``streaming`` writes past the caches, for data that is not read soon; the address must be aligned to the whole vector.
        """
        hint = ", !nontemporal !0" if streaming else ""
        self.do(f"store {value.type} {value.text}, ptr {pointer.text}, align {align or SIZES[element_of(value.type)]}{hint}")

    def prefetch(self, pointer: Value, index: Value, element: str, *, write: bool = False) -> None:
        """Prefetch the cache line of element ``index`` of the array at ``pointer``, which is soon read or written (``write``).

        Any address is allowed, even beyond the end of the array.
        """
        place = self.op(f"getelementptr {element}, ptr {pointer.text}, i64 {index.text}", "ptr")
        hints = (self.number(int(write), "i32"), self.number(3, "i32"), self.number(1, "i32"))
        self.call("llvm.prefetch.p0", "void", place, *hints)

    def variable(self, type_: str, value: Value | None = None) -> Variable:
        """Return a new variable of ``type_``, which is set to ``value`` here if one is given, else undefined."""
        place = self._name()
        self._slots.append(f"  {place} = alloca {type_}")
        made = Variable(self, Value(self, place, "ptr"), type_)
        if value is not None:
            made.set(value)
        return made

    def lane_mask(self, count: int | Value, lanes: int) -> Value:
        """Return a mask of ``lanes`` i1 that is true in the first ``count`` lanes; all of them if ``count`` is larger."""
        if lanes == 1:
            return self.compare("sgt", self.index(count), 0)
        limit = self.convert(
            "trunc", self.index(self.least(count, lanes)), "i32"
        )  # of 32 bits, as floats are, so that the comparison fits a vector register
        return self.compare("slt", self.numbers(range(lanes), "i32"), self.splat(limit, lanes))

    def masked_load(self, pointer: Value, mask: Value, type_: str, otherwise: Value | None = None) -> Value:
        """Load the lanes in which ``mask`` is true; the others are ``otherwise`` (0 by default).

        Memory of the other lanes is not accessed.
        """
        rest = otherwise or self.zero(type_)
        if lanes_of(type_) == 1:
            loaded = self.variable(type_, rest)
            with self.when(mask):
                loaded.set(self.load(pointer, type_))
            return loaded.get()
        align = SIZES[element_of(type_)]
        return self.call(
            f"llvm.masked.load.{suffix(type_)}.p0", type_, pointer, Value(self, str(align), "i32"), mask, rest
        )  # fmt: skip

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        """Store the lanes in which ``mask`` is true; memory of the other lanes is not accessed."""
        if lanes_of(value.type) == 1:
            with self.when(mask):
                self.store(value, pointer)
            return
        align = SIZES[element_of(value.type)]
        self.call(f"llvm.masked.store.{suffix(value.type)}.p0", "void", value, pointer, Value(self, str(align), "i32"), mask)

    # ---- vectors

    def splat(self, value: Value, lanes: int) -> Value:
        """Return a vector of ``lanes`` lanes that all hold the scalar ``value``."""
        if lanes == 1:
            return value
        type_ = vector(lanes, value.type)
        first = self.op(f"insertelement {type_} poison, {value.type} {value.text}, i32 0", type_)
        return self.op(
            f"shufflevector {type_} {first.text}, {type_} poison, <{lanes} x i32> zeroinitializer", type_
        )  # fmt: skip

    def broadcast(self, pointer: Value, type_: str) -> Value:
        """Load the element at ``pointer`` into every lane of a value of ``type_``."""
        return self.splat(self.load(pointer, element_of(type_)), lanes_of(type_))

    def shuffle(self, a: Value, b: Value, places: Sequence[int]) -> Value:
        """Return a vector with a lane for each of ``places``.

        A place counts the lanes of ``a`` and then those of ``b``; -1 leaves the lane undefined.
        """
        mask = ", ".join("i32 poison" if place < 0 else f"i32 {place}" for place in places)
        return self.op(
            f"shufflevector {a.type} {a.text}, {b.type} {b.text}, <{len(places)} x i32> <{mask}>",
            vector(len(places), element_of(a.type)),
        )

    def extract(self, value: Value, lane: int) -> Value:
        """Return a lane of a vector as a scalar."""
        if lanes_of(value.type) == 1:
            return value
        return self.op(f"extractelement {value.type} {value.text}, i32 {lane}", element_of(value.type))

    def insert(self, value: Value, scalar: Value, lane: int) -> Value:
        """Return the vector ``value`` with ``scalar`` in a lane."""
        if lanes_of(value.type) == 1:
            return scalar
        return self.op(f"insertelement {value.type} {value.text}, {scalar.type} {scalar.text}, i32 {lane}", value.type)

    def fma(self, a: Value, b: Value, c: Value) -> Value:
        """Return a * b + c, rounded once."""
        return self.call(f"llvm.fma.{suffix(a.type)}", a.type, a, b, c)

    def multiply_add(self, a: Value, b: Value, c: Value) -> Value:
        """Return a * b + c in the fastest way: rounded once where the target has an instruction for it, else twice."""
        if self.module.has_fma:
            return self.fma(a, b, c)
        product = self.op(f"fmul {a.type} {a.text}, {b.text}", a.type)
        return self.op(f"fadd {a.type} {product.text}, {c.text}", a.type)

    # ---- choosing and converting

    def compare(self, predicate: str, a: Value, b: float | Value) -> Value:
        """Return the i1 of a comparison, lane by lane.

        ``predicate`` is LLVM's: eq, ne, slt, sle, ult, ... for integers, oeq, olt, ole, une, uno, ... for floats.
        """
        other = b if isinstance(b, Value) else self.number(b, a.type)
        name = "fcmp" if is_floating(a.type) else "icmp"
        return self.op(f"{name} {predicate} {a.type} {a.text}, {other.text}", with_element(a.type, "i1"))

    def any(self, condition: Value) -> Value:
        """Return a single i1: whether ``condition`` is true in any lane."""
        lanes = lanes_of(condition.type)
        if lanes == 1:
            return condition
        bits = self.op(f"bitcast {condition.type} {condition.text} to i{lanes}", f"i{lanes}")
        return self.compare("ne", bits, 0)

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        """Return ``a`` where ``condition`` (an i1, or an i1 per lane) is true, else ``b``. Both are computed."""
        return self.op(
            f"select {condition.type} {condition.text}, {a.type} {a.text}, {b.type} {b.text}", a.type
        )  # fmt: skip

    def least(self, a: int | Value, b: int | Value) -> int | Value:
        """Return the smaller of two indices."""
        if isinstance(a, int) and isinstance(b, int):
            return min(a, b)
        first, second = self.index(a), self.index(b)
        return self.select(self.compare("slt", first, second), first, second)

    def convert(self, how: str, value: Value, element: str) -> Value:
        """Return ``value`` converted, lane by lane, to ``element``.

        ``how`` is LLVM's instruction: sext, zext, trunc, sitofp, uitofp, fptosi, fpext, fptrunc, bitcast, ptrtoint, inttoptr.
        """
        type_ = with_element(value.type, element)
        return self.op(f"{how} {value.type} {value.text} to {type_}", type_)

    def widened(self, value: Value) -> Value:
        """Return a float, or each lane of a vector of floats, as a double; a double as it is."""
        return value if element_of(value.type) == "double" else self.convert("fpext", value, "double")

    def narrowed(self, value: Value, element: str) -> Value:
        """Return a double, or each lane of a vector of doubles, as ``element``, which is "float" or "double"."""
        return value if element_of(value.type) == element else self.convert("fptrunc", value, element)

    # ---- calls

    def call(self, name: str, result: str, *values: Value) -> Value:
        """Call a function of this module, an intrinsic, or a function that is loaded in the process; returns its ``result``.

        A function that this module does not define is declared.
        """
        self.module.declarations.setdefault(
            name, f"declare {result} @{name}({', '.join(one.type for one in values)})"
        )  # fmt: skip
        written = f"call {result} @{name}({', '.join(f'{one.type} {one.text}' for one in values)})"
        if result == "void":
            self.do(written)
            return Value(self, "", "void")
        return self.op(written, result)

    # ---- control

    def _label(self, name: str) -> None:
        self._lines.append(f"{name}:")

    @contextmanager
    def loop(self, begin: int | Value, end: int | Value, step: int | Value = 1) -> Iterator[Value]:
        """Repeat the instructions emitted within for every index from ``begin`` to ``end`` (excluded), in steps of ``step``."""
        self._count += 1
        key = self._count
        counter = self.variable("i64", self.index(begin))
        limit, stride = self.index(end), self.index(step)
        self.do(f"br label %head{key}")
        self._label(f"head{key}")
        i = counter.get()
        inside = self.compare("slt", i, limit)
        self.do(f"br i1 {inside.text}, label %body{key}, label %done{key}")
        self._label(f"body{key}")
        yield i
        counter.set(self.op(f"add nsw i64 {i.text}, {stride.text}", "i64"))
        self.do(f"br label %head{key}")
        self._label(f"done{key}")

    @contextmanager
    def repeat_while(self) -> Iterator[Loop]:
        """Repeat the instructions emitted within until ``loop.leave_unless(condition)`` leaves the loop.

        The body may call that anywhere, and several times.
        """
        self._count += 1
        loop = Loop(self, self._count)
        self.do(f"br label %head{loop.key}")
        self._label(f"head{loop.key}")
        yield loop
        self.do(f"br label %head{loop.key}")
        self._label(f"done{loop.key}")

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Run the instructions emitted within only if ``condition``, a single i1, is true."""
        self._count += 1
        key = self._count
        self.do(f"br i1 {condition.text}, label %then{key}, label %after{key}")
        self._label(f"then{key}")
        yield
        self.do(f"br label %after{key}")
        self._label(f"after{key}")


class Loop:
    """A loop made by ``Function.repeat_while``."""

    def __init__(self, f: Function, key: int) -> None:
        self.f, self.key = f, key

    def leave_unless(self, condition: Value) -> None:
        """Emit a jump to the end of the loop that is taken if ``condition`` is false."""
        self.f._count += 1
        key = self.f._count
        self.f.do(f"br i1 {condition.text}, label %go{key}, label %done{self.key}")
        self.f._label(f"go{key}")
