"""Primitives that work per element: arithmetic, comparison, functions of one number.

All inputs of a primitive must have the same shape and dtype: ``compose.together`` inserts ``broadcast`` and ``cast``. With x, y
the inputs, z the output and u the upstream gradient, the rules read like the table of derivatives in a textbook.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from chainrule.errors import UserError
from chainrule.graph.dtypes import as_dtype, bool_, int64, is_float, largest_number
from chainrule.graph.node import Array, Node, Role, TensorType, leaf
from chainrule.ops.broadcast import broadcast
from chainrule.ops.primitive import OUTPUT, Blocked, Primitive, Rule, Spec, rows

# ---- shape rules


def _same(name: str) -> Callable[..., TensorType]:
    """A shape rule: all inputs have the same shape and dtype, and so has the output."""

    def shape(*types: TensorType) -> TensorType:
        if len(types) > 1 and types[0] != types[1]:
            raise UserError(f"{name}: inputs must agree in shape and dtype, got {' and '.join(map(str, types))}")
        return types[0]

    return shape


def _number(name: str) -> Callable[..., TensorType]:
    """The rule ``_same``, but bool is refused."""
    same = _same(name)

    def shape(*types: TensorType) -> TensorType:
        if types[0].dtype == bool_:
            raise UserError(f"{name}: is not defined for bool, got {types[0]}: cast to int32 or float32 first")
        return same(*types)

    return shape


def _float(name: str) -> Callable[..., TensorType]:
    """The rule ``_same``, but only floats are accepted."""
    same = _same(name)

    def shape(*types: TensorType) -> TensorType:
        if not is_float(types[0].dtype):
            raise UserError(f"{name}: needs a float, got {types[0]}: cast to float32 first")
        return same(*types)

    return shape


def _float_keeping_dtype(x: TensorType, *, dtype: object) -> TensorType:
    if not is_float(x.dtype) or not is_float(as_dtype(dtype)):
        raise UserError(f"round_to: rounds floats to floats, got {x} and {as_dtype(dtype)}: cast to float32 first")
    return x


def _comparison(name: str) -> Callable[..., TensorType]:
    same = _same(name)
    return lambda *types: TensorType(same(*types).shape, bool_)


def _logical(name: str) -> Callable[..., TensorType]:
    same = _same(name)

    def shape(*types: TensorType) -> TensorType:
        if types[0].dtype != bool_:
            raise UserError(f"{name}: needs bool, got {types[0]}: compare first, for example x > 0")
        return same(*types)

    return shape


_ONE_ROWS = rows(Spec(((),)), Spec(((1,),)), Spec(((3, 5),)), Spec(((2, 0),)), Spec(((2, 3),), dtypes=("float64",)))
_TWO_ROWS = rows(
    Spec(((), ())),
    Spec(((7,), (7,))),
    Spec(((3, 5), (3, 5))),
    Spec(((0,), (0,))),
    Spec(((2, 3), (2, 3)), dtypes=("float64",)),
)
_BF16_TWO = Spec(((2, 3), (2, 3)), dtypes=("bfloat16",))
_INT_TWO = Spec(((2, 3), (2, 3)), dtypes=("int32",))
_POSITIVE_ROWS = rows(Spec(((3, 5),), domain=(0.3, 3.0)), Spec(((2, 3),), dtypes=("float64",), domain=(0.3, 3.0)))


def full(type_: TensorType, number: float) -> Node:
    """A constant of ``type_`` that holds ``number`` everywhere: a single stored element, broadcast."""
    scalar = leaf(np.asarray(number, dtype=type_.dtype))
    return broadcast(scalar, shape=type_.shape, axes=tuple(range(len(type_.shape)))) if type_.shape else scalar


def zeros_like(node: Node) -> Node:
    """A constant of zeros with the shape and dtype of ``node``."""
    return full(node.type, 0.0)


def scaled(node: Node, number: float) -> Node:
    """``number * node``, in the dtype of ``node``."""
    return multiply(full(node.type, number), node)


# ---- arithmetic

add: Primitive = Primitive(
    "add",
    Role.DISTRIBUTOR,
    "z = x + y: (...), (...) -> (...). Distributes the gradient: each input gets all of it.",
    shape=_number("add"),
    reference=np.add,
    vjp=(lambda z, u: u, lambda z, u: u),
    local=("1", "1"),
    saves=(),
    spec=(*_TWO_ROWS, _INT_TWO, _BF16_TWO),
    elementwise=True,
)

subtract: Primitive = Primitive(
    "subtract",
    Role.DISTRIBUTOR,
    "z = x - y: (...), (...) -> (...).",
    shape=_number("subtract"),
    reference=np.subtract,
    vjp=(lambda z, u: u, lambda z, u: negative(u)),
    local=("1", "-1"),
    saves=(),
    spec=(*_TWO_ROWS, _INT_TWO),
    elementwise=True,
)

negative: Primitive = Primitive(
    "negative",
    Role.DISTRIBUTOR,
    "z = -x: (...) -> (...).",
    shape=_number("negative"),
    reference=np.negative,
    vjp=(lambda z, u: negative(u),),
    local=("-1",),
    saves=(),
    spec=(*_ONE_ROWS, Spec(((4,),), dtypes=("int64",))),
    elementwise=True,
)

multiply: Primitive = Primitive(
    "multiply",
    Role.SWITCHER,
    "z = x * y: (...), (...) -> (...). Switches the gradient: each input gets it times the other input.",
    shape=_number("multiply"),
    reference=np.multiply,
    vjp=(lambda z, u: multiply(u, z.inputs[1]), lambda z, u: multiply(u, z.inputs[0])),
    local=("y", "x"),
    saves=(0, 1),
    spec=(*_TWO_ROWS, _INT_TWO, _BF16_TWO),
    elementwise=True,
)

divide: Primitive = Primitive(
    "divide",
    Role.SCALER,
    "z = x / y: (...), (...) -> (...), floats.",
    shape=_float("divide"),
    reference=np.divide,
    vjp=(lambda z, u: divide(u, z.inputs[1]), lambda z, u: negative(divide(multiply(u, z), z.inputs[1]))),
    local=("1 / y", "-x / y^2"),
    saves=(1, OUTPUT),
    spec=rows(
        Spec(((3, 5), (3, 5)), domain=(0.4, 2.0)),
        Spec(((3,), (3,)), dtypes=("float64",), domain=(-2.0, -0.4)),
        Spec(((0,), (0,))),
    ),
    elementwise=True,
)


def _power_shape(x: TensorType, *, exponent: float) -> TensorType:
    whole = math.isfinite(exponent) and exponent == int(exponent) and 0 <= exponent < 64
    if not is_float(x.dtype) and (x.dtype == bool_ or not whole):
        raise UserError(f"power: {x} to the {exponent} is no integer that fits: cast to float32 first")
    return x


def _power_reference(x: Array, *, exponent: float) -> Array:
    whole = int(exponent) if math.isfinite(exponent) and exponent == int(exponent) else None
    if whole == 2:
        return np.square(x)
    return np.power(x, whole if whole is not None and (whole >= 0 or is_float(x.dtype)) else exponent)


def _power_vjp(z: Node, u: Node) -> Node:
    x, p = z.inputs[0], z.attributes["exponent"]
    if p == 0:
        return zeros_like(x)
    slope = full(x.type, p) if p == 1 else scaled(x if p == 2 else power(x, exponent=p - 1), p)
    return multiply(u, slope)


power: Primitive = Primitive(
    "power",
    Role.SCALER,
    "z = x ** exponent, a fixed number: (...) -> (...).",
    shape=_power_shape,
    reference=_power_reference,
    vjp=(_power_vjp,),
    local=("p * x^(p - 1)",),
    saves=(0,),
    spec=rows(
        Spec(((3, 5),), {"exponent": 2.0}),
        Spec(((3, 5),), {"exponent": 3.0}),
        Spec(((4,),), {"exponent": 1.0}),
        Spec(((4,),), {"exponent": 0.0}),
        Spec(((3, 5),), {"exponent": 1.7}, domain=(0.4, 2.0)),
        Spec(((3, 5),), {"exponent": -2.0}, dtypes=("float64",), domain=(0.4, 2.0)),
        Spec(((3,),), {"exponent": 3.0}, dtypes=("int32",)),
    ),
    elementwise=True,
)


def _tensor_power_by_base(z: Node, u: Node) -> Node:
    """The gradient for x, u y x^(y - 1).

    It is 0 where y is 0, even if x^-1 is infinite, and where y is infinite and x^(y - 1) is 0.
    """
    x, y = z.inputs
    largest = largest_number(z.dtype)
    vanishes = logical_and(
        equal(y, zeros_like(y)), less(abs_(x), full(x.type, 16 / largest))
    )  # every subnormal x is below this
    slope = tensor_power(where(vanishes, full(x.type, 1.0), x), subtract(y, full(y.type, 1.0)))
    ends = logical_and(equal(abs_(y), full(y.type, math.inf)), equal(slope, zeros_like(slope)))
    return multiply(u, multiply(where(ends, zeros_like(y), y), slope))


def _tensor_power_by_exponent(z: Node, u: Node) -> Node:
    """The gradient for y, u z ln x.

    It is 0 where z is 0 (as 0^y is for all y > 0) and at 0^0, and nan for x < 0, where z is defined only for whole y.
    """
    x, y = z.inputs
    zero = zeros_like(x)
    flat = logical_or(equal(z, zero), logical_and(equal(x, zero), equal(y, zero)))
    return multiply(u, multiply(z, log(where(flat, full(x.type, 1.0), x))))


tensor_power: Primitive = Primitive(
    "tensor_power",
    Role.SCALER,
    "z = x ** y: (...), (...) -> (...), floats. As pow in C99: x ** 0 and 1 ** y are 1, x < 0 needs a whole y, else z is nan.",
    shape=_float("power"),
    reference=np.power,
    vjp=(_tensor_power_by_base, _tensor_power_by_exponent),
    local=("y * x^(y - 1)", "x^y ln x"),
    saves=(0, 1, OUTPUT),
    spec=rows(
        Spec(((3, 5), (3, 5)), domain=(0.4, 2.0)),
        Spec(((3,), (3,)), dtypes=("float64",), domain=(0.4, 2.0)),
        Spec(((), ()), dtypes=("float64",), domain=(0.4, 2.0)),
        Spec(((4,), (4,)), dtypes=("bfloat16",), domain=(0.4, 2.0)),
        Spec(((2, 0), (2, 0))),
    ),
    elementwise=True,
    expensive=True,
)

# ---- functions of one number


def _unary(
    name: str,
    reference: Callable[[Array], Any],
    vjp: Rule,
    local: str,
    saves: int | str,
    spec: Any,
    doc: str,
    expensive: bool = True,
) -> Primitive:
    return Primitive(
        name,
        Role.SCALER,
        doc,
        _float(name),
        reference,
        (vjp,),
        (local,),
        (saves,),
        spec,
        elementwise=True,
        expensive=expensive,
    )


def _x(z: Node) -> Node:
    return z.inputs[0]


def _sigmoid(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows
    return np.where(x >= 0, 1, small) / (1 + small)  # type: ignore[no-any-return]


def _sech_squared(x: Array) -> Array:
    small = np.exp(-np.abs(x))  # never overflows
    return np.square(2 * small / (1 + small * small))  # type: ignore[no-any-return]


def _erf(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x)).astype(x.dtype)


def _erfc(x: Array) -> Array:
    return np.asarray(np.frompyfunc(math.erfc, 1, 1)(x)).astype(x.dtype)


exp: Primitive = _unary("exp", np.exp, lambda z, u: multiply(u, z), "e^x", OUTPUT, _ONE_ROWS, "z = e^x: (...) -> (...).")
log: Primitive = _unary("log", np.log, lambda z, u: divide(u, _x(z)), "1 / x", 0, _POSITIVE_ROWS, "z = ln x: (...) -> (...).")
expm1: Primitive = _unary(
    "expm1",
    np.expm1,
    lambda z, u: multiply(u, exp(_x(z))),
    "e^x",
    0,
    _ONE_ROWS,
    "z = e^x - 1, accurate also near x = 0: (...) -> (...).",
)
log2: Primitive = _unary(
    "log2",
    np.log2,
    lambda z, u: divide(scaled(u, 1 / math.log(2)), _x(z)),
    "1 / (x ln 2)",
    0,
    _POSITIVE_ROWS,
    "z = log2 x, the exponent itself where x is a power of 2: (...) -> (...).",
)
log1p: Primitive = _unary(
    "log1p",
    np.log1p,
    lambda z, u: divide(u, add(full(z.type, 1.0), _x(z))),
    "1 / (1 + x)",
    0,
    _POSITIVE_ROWS,
    "z = ln(1 + x), accurate also near x = 0: (...) -> (...).",
)
sqrt: Primitive = _unary(
    "sqrt",
    np.sqrt,
    lambda z, u: divide(scaled(u, 0.5), z),
    "1 / (2 sqrt(x))",
    OUTPUT,
    _POSITIVE_ROWS,
    "z = sqrt(x): (...) -> (...).",
    expensive=False,
)
rsqrt: Primitive = _unary(
    "rsqrt",
    lambda x: 1 / np.sqrt(x),
    lambda z, u: multiply(scaled(u, -0.5), power(z, exponent=3.0)),
    "-1/2 x^(-3/2)",
    OUTPUT,
    _POSITIVE_ROWS,
    "z = 1 / sqrt(x): (...) -> (...).",
    expensive=False,
)
inverse_deviation: Primitive = _unary(
    "inverse_deviation",
    lambda x: np.sqrt(x) / x,
    lambda z, u: multiply(scaled(u, -0.5), power(z, exponent=3.0)),
    "-1/2 x^(-3/2)",
    OUTPUT,
    _POSITIVE_ROWS,
    "z = 1 / sqrt(x) for a variance x: (...) -> (...). nan where x is infinite because the squares in it overflowed: rsqrt "
    "gives 0 there, which would silently turn all numbers into zeros.",
    expensive=False,
)
sin: Primitive = _unary(
    "sin", np.sin, lambda z, u: multiply(u, cos(_x(z))), "cos(x)", 0, _ONE_ROWS, "z = sin x, radians: (...) -> (...)."
)
cos: Primitive = _unary(
    "cos",
    np.cos,
    lambda z, u: negative(multiply(u, sin(_x(z)))),
    "-sin(x)",
    0,
    _ONE_ROWS,
    "z = cos x, radians: (...) -> (...).",
)
tan: Primitive = _unary(
    "tan",
    np.tan,
    lambda z, u: multiply(u, add(full(z.type, 1.0), power(z, exponent=2.0))),
    "1 + tan(x)^2",
    OUTPUT,
    rows(
        Spec(((3, 5),), domain=(-1.2, 1.2)),
        Spec(((2, 3),), dtypes=("float64",), domain=(1.9, 4.3)),
        Spec(((2, 0),)),
        Spec(((),)),
    ),
    "z = tan x, radians: (...) -> (...).",
)
atan: Primitive = _unary(
    "atan",
    np.arctan,
    lambda z, u: divide(u, add(full(z.type, 1.0), power(_x(z), exponent=2.0))),
    "1 / (1 + x^2)",
    0,
    _ONE_ROWS,
    "z = the arc tangent of x, in radians from -pi/2 to pi/2: (...) -> (...).",
)
# Where tanh and sigmoid round to 1, the formulas 1 - z^2 and z (1 - z) for their slopes would give 0. So the slopes are
# computed from x, which gives the right small numbers.
tanh: Primitive = _unary(
    "tanh",
    np.tanh,
    lambda z, u: multiply(u, sech_squared(_x(z))),
    "1 - tanh(x)^2",
    0,
    _ONE_ROWS,
    "z = tanh(x): (...) -> (...).",
)
sech_squared: Primitive = Primitive(
    "sech_squared",
    Role.SCALER,
    "z = 1 / cosh(x)^2 = 1 - tanh(x)^2, the slope of tanh: (...) -> (...).",
    _float("sech_squared"),
    _sech_squared,
    (lambda z, u: multiply(scaled(u, -2.0), multiply(tanh(_x(z)), z)),),
    ("-2 tanh(x) sech(x)^2",),
    (0, OUTPUT),
    _ONE_ROWS,
    elementwise=True,
    expensive=True,
)
sigmoid: Primitive = Primitive(
    "sigmoid",
    Role.SCALER,
    "z = 1 / (1 + e^-x): (...) -> (...).",
    _float("sigmoid"),
    _sigmoid,
    (lambda z, u: multiply(u, multiply(z, sigmoid(negative(_x(z))))),),
    ("z (1 - z)",),
    (0, OUTPUT),
    _ONE_ROWS,
    elementwise=True,
    expensive=True,
)
softplus: Primitive = _unary(
    "softplus",
    lambda x: np.logaddexp(np.zeros((), x.dtype), x),
    lambda z, u: multiply(u, sigmoid(_x(z))),
    "sigmoid(x)",
    0,
    _ONE_ROWS,
    "z = ln(1 + e^x): (...) -> (...).",
)
erf: Primitive = _unary(
    "erf",
    _erf,
    lambda z, u: multiply(u, scaled(exp(negative(power(_x(z), exponent=2.0))), 2 / math.sqrt(math.pi))),
    "2/sqrt(pi) e^(-x^2)",
    0,
    _ONE_ROWS,
    "z = erf(x), the error function: (...) -> (...).",
)
erfc: Primitive = _unary(
    "erfc",
    _erfc,
    lambda z, u: multiply(u, scaled(exp(negative(power(_x(z), exponent=2.0))), -2 / math.sqrt(math.pi))),
    "-2/sqrt(pi) e^(-x^2)",
    0,
    _ONE_ROWS,
    "z = 1 - erf(x), accurate also where z is near 0: (...) -> (...).",
)
abs_: Primitive = Primitive(
    "abs",
    Role.SCALER,
    "z = |x|: (...) -> (...). At 0 the gradient is 0.",
    shape=_number("abs"),
    reference=np.abs,
    vjp=(lambda z, u: multiply(u, sign(z.inputs[0])),),
    local=("sign(x)",),
    saves=(0,),
    spec=(*_ONE_ROWS, Spec(((4,),), dtypes=("int64",))),
    elementwise=True,
)
sign: Primitive = Primitive(
    "sign",
    Role.BLOCKER,
    "z = -1, 0 or 1 if x is negative, zero or positive: (...) -> (...).",
    shape=_number("sign"),
    reference=np.sign,
    vjp=Blocked("its slope is 0 wherever it has one"),
    local=("0",),
    saves=(),
    spec=(*_ONE_ROWS, Spec(((4,),), dtypes=("int32",))),
    elementwise=True,
)

# ---- choosing

maximum: Primitive = Primitive(
    "maximum",
    Role.ROUTER,
    "z = the larger of x and y: (...), (...) -> (...). The gradient goes to the larger one; on a tie, to x.",
    shape=_number("maximum"),
    reference=np.maximum,
    vjp=(
        lambda z, u: where(
            less(z.inputs[0], z), zeros_like(u), u
        ),  # x < z exactly where x < y; z is read because relu's result is kept anyway
        lambda z, u: where(less(z.inputs[0], z), u, zeros_like(u)),
    ),
    local=("1 where x >= y, else 0", "1 where y > x, else 0"),
    saves=(0, OUTPUT),
    spec=(*_TWO_ROWS, _INT_TWO),
    elementwise=True,
)

minimum: Primitive = Primitive(
    "minimum",
    Role.ROUTER,
    "z = the smaller of x and y: (...), (...) -> (...). The gradient goes to the smaller one; on a tie, to x.",
    shape=_number("minimum"),
    reference=np.minimum,
    vjp=(
        lambda z, u: where(less(z.inputs[1], z.inputs[0]), zeros_like(u), u),
        lambda z, u: where(less(z.inputs[1], z.inputs[0]), u, zeros_like(u)),
    ),
    local=("1 where x <= y, else 0", "1 where y < x, else 0"),
    saves=(0, 1),
    spec=(*_TWO_ROWS, _INT_TWO),
    elementwise=True,
)


def _where_shape(condition: TensorType, x: TensorType, y: TensorType) -> TensorType:
    if condition.dtype != bool_:
        raise UserError(f"where: the condition must be bool, got {condition}: compare first, for example x > 0")
    if x != y or condition.shape != x.shape:
        raise UserError(f"where: condition, x and y must agree in shape, and x and y in dtype, got {condition}, {x} and {y}")
    return x


where: Primitive = Primitive(
    "where",
    Role.ROUTER,
    "z = x where the condition holds, else y: (...) bool, (...), (...) -> (...).",
    shape=_where_shape,
    reference=np.where,
    vjp=(
        None,
        lambda z, u: where(z.inputs[0], u, zeros_like(u)),
        lambda z, u: where(z.inputs[0], zeros_like(u), u),
    ),
    local=("0", "1 where the condition holds, else 0", "1 where it does not, else 0"),
    saves=(0,),
    spec=rows(
        Spec(((3, 5), (3, 5), (3, 5)), dtypes=("bool", "float32", "float32")),
        Spec(((), (), ()), dtypes=("bool", "float64", "float64")),
        Spec(((2,), (2,), (2,)), dtypes=("bool", "int32", "int32")),
    ),
    elementwise=True,
)

# ---- comparison and logic: all blockers


def _blocker(name: str, shape: Callable[..., TensorType], reference: Callable[..., Any], spec: Any, doc: str) -> Primitive:
    inputs = len(spec[0].inputs)
    blocked = Blocked("true and false have no slope")
    return Primitive(name, Role.BLOCKER, doc, shape, reference, blocked, ("0",) * inputs, (), spec, elementwise=True)


_BOOL_TWO = rows(Spec(((3, 5), (3, 5)), dtypes=("bool",)), Spec(((), ()), dtypes=("bool",)))
equal: Primitive = _blocker(
    "equal", _comparison("equal"), np.equal, (*_TWO_ROWS, _INT_TWO), "z = (x == y): (...), (...) -> (...) bool."
)
less: Primitive = _blocker(
    "less", _comparison("less"), np.less, (*_TWO_ROWS, _INT_TWO), "z = (x < y): (...), (...) -> (...) bool."
)
less_equal: Primitive = _blocker(
    "less_equal",
    _comparison("less_equal"),
    np.less_equal,
    (*_TWO_ROWS, _INT_TWO),
    "z = (x <= y): (...), (...) -> (...) bool.",
)
logical_and: Primitive = _blocker(
    "logical_and", _logical("logical_and"), np.logical_and, _BOOL_TWO, "z = x and y: bool (...), (...) -> (...)."
)
logical_or: Primitive = _blocker(
    "logical_or", _logical("logical_or"), np.logical_or, _BOOL_TWO, "z = x or y: bool (...), (...) -> (...)."
)
logical_not: Primitive = _blocker(
    "logical_not",
    _logical("logical_not"),
    np.logical_not,
    rows(Spec(((3, 5),), dtypes=("bool",))),
    "z = not x: bool (...) -> (...).",
)

# ---- dtype, and the end of a gradient


def _cast_reference(x: Array, *, dtype: Any) -> Array:
    if is_float(x.dtype) and dtype != bool_ and not is_float(dtype):
        # What NumPy makes of numbers out of range depends on the processor, and on AArch64 on the length of the array.
        whole = np.dtype(np.int64 if dtype == int64 else np.int32)
        end = 2.0 ** (8 * whole.itemsize - 1)
        x = np.where((x >= -end) & (x < end), x, -end).astype(whole)
    return x != 0 if dtype == bool_ else x.astype(dtype)


cast: Primitive = Primitive(
    "cast",
    Role.DISTRIBUTOR,
    "z = x in another dtype (towards zero for integers, x != 0 for bool): (...) -> (...). The gradient is cast back; "
    "nan and numbers out of range become the smallest int32 or int64, and as uint8 the lowest byte of that int32.",
    shape=lambda x, *, dtype: TensorType(x.shape, as_dtype(dtype)),
    reference=_cast_reference,
    vjp=(lambda z, u: cast(u, dtype=z.inputs[0].dtype),),
    local=("1",),
    saves=(),
    spec=rows(
        Spec(((3, 5),), {"dtype": as_dtype("float64")}),
        Spec(((3, 5),), {"dtype": as_dtype("bfloat16")}),
        Spec(((3, 5),), {"dtype": as_dtype("int32")}),
        Spec(((3, 5),), {"dtype": as_dtype("bool")}),
        Spec(((3,),), {"dtype": as_dtype("float32")}, dtypes=("uint8",)),
        Spec(((3,),), {"dtype": as_dtype("float32")}, dtypes=("bfloat16",)),
    ),
    elementwise=True,
)

round_to: Primitive = Primitive(
    "round_to",
    Role.DISTRIBUTOR,
    "z = x rounded to the numbers of a narrower float, in x's own dtype: (...) -> (...). The gradient passes as it is.",
    shape=_float_keeping_dtype,
    reference=lambda x, *, dtype: x.astype(dtype).astype(x.dtype),
    vjp=(lambda z, u: u,),
    local=("1",),
    saves=(),
    spec=rows(
        Spec(((3, 5),), {"dtype": as_dtype("bfloat16")}),
        Spec(((),), {"dtype": as_dtype("float32")}, dtypes=("float64",)),
        Spec(((2, 0),), {"dtype": as_dtype("bfloat16")}),
    ),
    elementwise=True,
)

stop_gradient: Primitive = Primitive(
    "stop_gradient",
    Role.BLOCKER,
    "z = x, and no gradient passes: (...) -> (...).",
    shape=lambda x: x,
    reference=lambda x: x,
    vjp=Blocked("it was asked to"),
    local=("0",),
    saves=(),
    spec=(*_ONE_ROWS, Spec(((3,),), dtypes=("int32",))),
    elementwise=True,
)
