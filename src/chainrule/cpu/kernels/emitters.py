"""Emitters of the elementwise primitives, which work on values in registers; and conversions between registers and memory."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compiler.nest import Instruction
from chainrule.cpu.codegen.emit import Function, Value, element_of, suffix, with_element
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels import mathematics, rounding

MEMORY_TYPES = {**LLVM_TYPES, "bfloat16": "i16"}
"""The LLVM type in which values of each dtype are stored in memory."""
REGISTER_TYPES = {**LLVM_TYPES, "bool": "i1", "bfloat16": "float"}
"""The LLVM type of values of each dtype in registers. A bool is a single bit, a bfloat16 is a float that has been rounded."""

UNSIGNED = ("uint8", "bool")
FLOATS = ("float32", "float64", "bfloat16")

# ---- between memory and registers


def to_register(f: Function, raw: Value, dtype: str) -> Value:
    """Convert ``raw``, as loaded from memory, to the type that ``dtype`` has in registers."""
    if dtype == "bool":
        return f.compare("ne", raw, 0)
    if dtype == "bfloat16":
        return f.convert("bitcast", f.convert("zext", raw, "i32") << 16, "float")
    return raw


def to_memory(f: Function, value: Value, dtype: str) -> Value:
    """Convert a value of ``dtype`` from its type in registers to the type in which it is stored in memory."""
    if dtype == "bool":
        return f.convert("zext", value, "i8")
    if dtype == "bfloat16":
        return f.convert("trunc", f.convert("bitcast", value, "i32") >> 16, "i16")
    return value


def round_to_bfloat16(f: Function, x: Value) -> Value:
    """Round a float to the nearest bfloat16, to even on a tie; nan stays nan. The result is a float still."""
    bits = f.convert("bitcast", x, "i32")
    odd = (bits >> 16) & 1
    rounded = (bits + 0x7FFF + odd) & -65536
    kept = f.select(f.compare("uno", x, x), (bits | 0x400000) & -65536, rounded)
    return f.convert("bitcast", kept, "float")


# ---- primitives


def compute(f: Function, instruction: Instruction, inputs: list[Value], dtypes: list[str]) -> Value:
    """Emit an elementwise primitive: ``instruction`` applied to ``inputs``, whose dtypes are ``dtypes``.

    Inputs and result have the types of registers. A bfloat16 result is rounded.
    """
    value = EMITTERS[instruction.name](f, inputs, instruction, dtypes)
    return round_to_bfloat16(f, value) if instruction.dtype == "bfloat16" and instruction.name != "where" else value


def has_emitter(name: str) -> bool:
    """Return whether loops can compute the primitive with this name."""
    return name in EMITTERS


def extreme(f: Function, largest: bool, a: Value, b: Value, dtype: str) -> Value:
    """Return the larger (``largest``) or the smaller of two numbers of ``dtype``; nan if either is nan.

    The dtype is needed as the type of a register does not tell whether an integer has a sign.
    """
    if dtype in UNSIGNED:
        return f.select(f.compare("ugt" if largest else "ult", a, b), a, b)
    return (mathematics.maximum if largest else mathematics.minimum)(f, a, b)


def _whole_power(f: Function, x: Value, exponent: int) -> Value:
    result = f.number(1, x.type)
    for bit in bin(exponent)[2:]:
        result = _multiply(f, result, result)
        if bit == "1":
            result = _multiply(f, result, x)
    return result


def _sign(f: Function, x: Value, floating: bool, unsigned: bool) -> Value:
    one, zero = f.number(1, x.type), f.zero(x.type)
    if unsigned:
        return f.select(f.compare("ne", x, 0), one, zero)
    below = f.select(f.compare("olt" if floating else "slt", x, 0), f.number(-1, x.type), zero)
    sign = f.select(f.compare("ogt" if floating else "sgt", x, 0), one, below)
    return f.select(f.compare("uno", x, x), x, sign) if floating else sign


def _round_to(f: Function, x: Value, dtype: str, narrow: str) -> Value:
    if narrow == "float64" or narrow == dtype:
        return x
    single = f.convert("fptrunc", x, "float") if dtype == "float64" else x
    if narrow == "bfloat16":
        single = round_to_bfloat16(f, single)
    return f.convert("fpext", single, "double") if dtype == "float64" else single


def cast(f: Function, x: Value, source: str, to: str) -> Value:
    """Convert ``x`` from dtype ``source`` to dtype ``to``, as NumPy's astype does on x86.

    A float becomes an integer by rounding towards zero; if that does not fit an int32 or int64, and for nan, the result is the
    smallest integer. A uint8 is the lowest byte of the int32. A bool is x != 0.
    """
    if source == to:
        return x
    floats = {"float32": 32, "float64": 64, "bfloat16": 32}
    if to == "bool":
        return f.compare("une" if source in floats else "ne", x, 0)
    element = REGISTER_TYPES[to]
    if source in floats and to in floats:
        if floats[source] == floats[to]:
            return x
        return f.convert("fptrunc" if floats[to] < floats[source] else "fpext", x, element)
    if source in floats:
        bits = 64 if element == "i64" else 32
        type_ = with_element(x.type, f"i{bits}")
        whole = f.call(f"llvm.fptosi.sat.{suffix(type_)}.{suffix(x.type)}", type_, x)
        whole = f.select(f.compare("olt", x, 2.0 ** (bits - 1)), whole, f.number(-(1 << (bits - 1)), type_))
        return whole if element == f"i{bits}" else f.convert("trunc", whole, element)
    if to in floats:
        return f.convert("uitofp" if source in UNSIGNED else "sitofp", x, element)
    bits, wanted = {"i1": 1, "i8": 8, "i32": 32, "i64": 64}[element_of(x.type)], {"i8": 8, "i32": 32, "i64": 64}[element]
    if bits == wanted:
        return x
    return f.convert("trunc" if wanted < bits else "zext" if source in UNSIGNED else "sext", x, element)


def _multiply(f: Function, a: Value, b: Value) -> Value:
    kind = "fmul" if element_of(a.type) in ("float", "double") else "mul"
    return f.op(f"{kind} {a.type} {a.text}, {b.text}", a.type)


def _absolute(f: Function, x: Value, dtype: str) -> Value:
    if dtype in FLOATS:
        return f.call(f"llvm.fabs.{suffix(x.type)}", x.type, x)
    return x if dtype in UNSIGNED else f.select(f.compare("slt", x, 0), -x, x)


def _power(f: Function, x: Value, dtype: str, exponent: float) -> Value:
    return mathematics.power(f, x, exponent) if dtype in FLOATS else _whole_power(f, x, int(exponent))


Emitter = Callable[[Function, list[Value], Instruction, list[str]], Value]
"""``emitter(f, inputs, instruction, dtypes)`` emits a primitive; ``dtypes`` are those of the inputs. See ``compute``."""


def _one(emit: Callable[[Function, Value], Value]) -> Emitter:
    """Return the emitter of a function of a single argument that is the same for all dtypes."""
    return lambda f, x, instruction, dtypes: emit(f, x[0])


def _divided(of_floats: Callable[[Function, Value, Value], Value], part: int) -> Emitter:
    """Return the emitter of a quotient (``part`` 0) or a remainder (1), where ``of_floats`` computes it for floats."""

    def emit(f: Function, x: list[Value], instruction: Instruction, dtypes: list[str]) -> Value:
        if dtypes[0] in FLOATS:
            return of_floats(f, x[0], x[1])
        return rounding.divided_integers(f, x[0], x[1], dtypes[0] in UNSIGNED)[part]

    return emit


def _comparison(floats: str, signed: str, unsigned: str) -> Emitter:
    """Return the emitter of a comparison, whose predicate in LLVM depends on the dtype of the inputs."""

    def emit(f: Function, x: list[Value], instruction: Instruction, dtypes: list[str]) -> Value:
        kind = floats if dtypes[0] in FLOATS else unsigned if dtypes[0] in UNSIGNED else signed
        return f.compare(kind, x[0], x[1])

    return emit


EMITTERS: dict[str, Emitter] = {
    "abs": lambda f, x, instruction, dtypes: _absolute(f, x[0], dtypes[0]),
    "add": lambda f, x, instruction, dtypes: x[0] + x[1],
    "atan": _one(mathematics.atan),
    "cast": lambda f, x, instruction, dtypes: cast(f, x[0], dtypes[0], instruction.dtype),
    "ceil": _one(rounding.ceil),
    "cos": _one(mathematics.cos),
    "divide": lambda f, x, instruction, dtypes: x[0] / x[1],
    "equal": _comparison("oeq", "eq", "eq"),
    "erf": _one(mathematics.erf),
    "erfc": _one(mathematics.erfc),
    "exp": _one(mathematics.exp),
    "expm1": _one(mathematics.expm1),
    "floor": _one(rounding.floor),
    "floor_divide": _divided(rounding.floor_divide, 0),
    "inverse_deviation": lambda f, x, instruction, dtypes: mathematics.sqrt(f, x[0]) / x[0],
    "less": _comparison("olt", "slt", "ult"),
    "less_equal": _comparison("ole", "sle", "ule"),
    "log": _one(mathematics.log),
    "log1p": _one(mathematics.log1p),
    "log2": _one(mathematics.log2),
    "logical_and": lambda f, x, instruction, dtypes: x[0] & x[1],
    "logical_not": lambda f, x, instruction, dtypes: x[0] ^ 1,
    "logical_or": lambda f, x, instruction, dtypes: x[0] | x[1],
    "maximum": lambda f, x, instruction, dtypes: extreme(f, True, x[0], x[1], dtypes[0]),
    "minimum": lambda f, x, instruction, dtypes: extreme(f, False, x[0], x[1], dtypes[0]),
    "multiply": lambda f, x, instruction, dtypes: _multiply(f, x[0], x[1]),
    "negative": lambda f, x, instruction, dtypes: -x[0],
    "power": lambda f, x, instruction, dtypes: _power(f, x[0], dtypes[0], instruction.attribute("exponent")),
    "remainder": _divided(rounding.remainder, 1),
    "round": _one(rounding.round_),
    "round_to": lambda f, x, instruction, dtypes: _round_to(f, x[0], dtypes[0], instruction.attribute("dtype")),
    "rsqrt": _one(mathematics.rsqrt),
    "sech_squared": _one(mathematics.sech_squared),
    "sigmoid": _one(mathematics.sigmoid),
    "sign": lambda f, x, instruction, dtypes: _sign(f, x[0], dtypes[0] in FLOATS, dtypes[0] in UNSIGNED),
    "sin": _one(mathematics.sin),
    "softplus": _one(mathematics.softplus),
    "sqrt": _one(mathematics.sqrt),
    "stop_gradient": lambda f, x, instruction, dtypes: x[0],
    "subtract": lambda f, x, instruction, dtypes: x[0] - x[1],
    "tan": _one(mathematics.tan),
    "tanh": _one(mathematics.tanh),
    "tensor_power": lambda f, x, instruction, dtypes: mathematics.tensor_power(f, x[0], x[1]),
    "where": lambda f, x, instruction, dtypes: f.select(x[0], x[1], x[2]),
}
"""The emitter of each elementwise primitive. A test walks the registry of primitives and fails if one is missing."""
