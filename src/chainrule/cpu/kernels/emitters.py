"""The elementwise primitives in registers: one emitter each, and how numbers of each dtype get from memory and back."""

from __future__ import annotations

from collections.abc import Callable

from chainrule.compiler.nest import Instruction
from chainrule.cpu.codegen.emit import Function, Value, element_of, suffix, with_element
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels import mathematics

MEMORY_TYPES = {**LLVM_TYPES, "bfloat16": "i16"}
REGISTER_TYPES = {**LLVM_TYPES, "bool": "i1", "bfloat16": "float"}
"""How values of a dtype lie in a register: a bool is one bit, a bfloat16 is a float that was rounded."""

UNSIGNED = ("uint8", "bool")
FLOATS = ("float32", "float64", "bfloat16")

# ---- between memory and registers


def to_register(f: Function, raw: Value, dtype: str) -> Value:
    if dtype == "bool":
        return f.compare("ne", raw, 0)
    if dtype == "bfloat16":
        return f.convert("bitcast", f.convert("zext", raw, "i32") << 16, "float")
    return raw


def to_memory(f: Function, value: Value, dtype: str) -> Value:
    if dtype == "bool":
        return f.convert("zext", value, "i8")
    if dtype == "bfloat16":
        return f.convert("trunc", f.convert("bitcast", value, "i32") >> 16, "i16")
    return value


def round_to_bfloat16(f: Function, x: Value) -> Value:
    """A float rounded to the nearest bfloat16, to even on a tie; nan stays nan."""
    bits = f.convert("bitcast", x, "i32")
    odd = (bits >> 16) & 1
    rounded = (bits + 0x7FFF + odd) & -65536
    kept = f.select(f.compare("uno", x, x), (bits | 0x400000) & -65536, rounded)
    return f.convert("bitcast", kept, "float")


# ---- primitives


def compute(f: Function, one: Instruction, inputs: list[Value], dtypes: list[str]) -> Value:
    """The value of an elementwise primitive."""
    found = EMITTERS[one.name](f, inputs, one, dtypes)
    return round_to_bfloat16(f, found) if one.dtype == "bfloat16" and one.name != "where" else found


def has_emitter(name: str) -> bool:
    """Whether loops can compute the primitive of this name."""
    return name in EMITTERS


def extreme(f: Function, largest: bool, a: Value, b: Value, dtype: str) -> Value:
    """The larger or the smaller of two numbers of ``dtype``: a register does not tell whether an integer has a sign."""
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
    found = f.select(f.compare("ogt" if floating else "sgt", x, 0), one, below)
    return f.select(f.compare("uno", x, x), x, found) if floating else found


def _round_to(f: Function, x: Value, dtype: str, narrow: str) -> Value:
    if narrow == "float64" or narrow == dtype:
        return x
    single = f.convert("fptrunc", x, "float") if dtype == "float64" else x
    if narrow == "bfloat16":
        single = round_to_bfloat16(f, single)
    return f.convert("fpext", single, "double") if dtype == "float64" else single


def cast(f: Function, x: Value, source: str, to: str) -> Value:
    """As NumPy's astype on x86: towards zero for integers, x != 0 for bool. What no int32 or int64 holds, and nan, becomes the
    smallest one; a uint8 is what is left of an int32."""
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
"""``emitter(f, inputs, instruction, dtypes of the inputs)``: the value, in registers."""


def _one(emit: Callable[[Function, Value], Value]) -> Emitter:
    """For a function of one number that is alike for all its dtypes."""
    return lambda f, x, one, dtypes: emit(f, x[0])


def _comparison(floats: str, signed: str, unsigned: str) -> Emitter:
    def emit(f: Function, x: list[Value], one: Instruction, dtypes: list[str]) -> Value:
        kind = floats if dtypes[0] in FLOATS else unsigned if dtypes[0] in UNSIGNED else signed
        return f.compare(kind, x[0], x[1])

    return emit


EMITTERS: dict[str, Emitter] = {
    "abs": lambda f, x, one, dtypes: _absolute(f, x[0], dtypes[0]),
    "add": lambda f, x, one, dtypes: x[0] + x[1],
    "cast": lambda f, x, one, dtypes: cast(f, x[0], dtypes[0], one.dtype),
    "cos": _one(mathematics.cos),
    "divide": lambda f, x, one, dtypes: x[0] / x[1],
    "equal": _comparison("oeq", "eq", "eq"),
    "erf": _one(mathematics.erf),
    "erfc": _one(mathematics.erfc),
    "exp": _one(mathematics.exp),
    "expm1": _one(mathematics.expm1),
    "inverse_deviation": lambda f, x, one, dtypes: mathematics.sqrt(f, x[0]) / x[0],
    "less": _comparison("olt", "slt", "ult"),
    "less_equal": _comparison("ole", "sle", "ule"),
    "log": _one(mathematics.log),
    "log1p": _one(mathematics.log1p),
    "logical_and": lambda f, x, one, dtypes: x[0] & x[1],
    "logical_not": lambda f, x, one, dtypes: x[0] ^ 1,
    "logical_or": lambda f, x, one, dtypes: x[0] | x[1],
    "maximum": lambda f, x, one, dtypes: extreme(f, True, x[0], x[1], dtypes[0]),
    "minimum": lambda f, x, one, dtypes: extreme(f, False, x[0], x[1], dtypes[0]),
    "multiply": lambda f, x, one, dtypes: _multiply(f, x[0], x[1]),
    "negative": lambda f, x, one, dtypes: -x[0],
    "power": lambda f, x, one, dtypes: _power(f, x[0], dtypes[0], one.attribute("exponent")),
    "round_to": lambda f, x, one, dtypes: _round_to(f, x[0], dtypes[0], one.attribute("dtype")),
    "rsqrt": _one(mathematics.rsqrt),
    "sech_squared": _one(mathematics.sech_squared),
    "sigmoid": _one(mathematics.sigmoid),
    "sign": lambda f, x, one, dtypes: _sign(f, x[0], dtypes[0] in FLOATS, dtypes[0] in UNSIGNED),
    "sin": _one(mathematics.sin),
    "softplus": _one(mathematics.softplus),
    "sqrt": _one(mathematics.sqrt),
    "stop_gradient": lambda f, x, one, dtypes: x[0],
    "subtract": lambda f, x, one, dtypes: x[0] - x[1],
    "tanh": _one(mathematics.tanh),
    "tensor_power": lambda f, x, one, dtypes: mathematics.tensor_power(f, x[0], x[1]),
    "where": lambda f, x, one, dtypes: f.select(x[0], x[1], x[2]),
}
"""How each elementwise primitive is computed: one line for each, held complete by a test that walks the registry."""
