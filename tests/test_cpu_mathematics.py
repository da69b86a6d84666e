"""Elementary functions in native code against NumPy: errors in units of the last place, special values, signs of zero."""

from __future__ import annotations

import ctypes
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from chainrule import ops
from chainrule.cpu.codegen.emit import Function, Module, Value, vector
from chainrule.cpu.codegen.machine_code import Library, assemble, assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target, host_target
from chainrule.cpu.kernel import LLVM_TYPES
from chainrule.cpu.kernels import mathematics
from chainrule.cpu.runtime.program import Program
from chainrule.graph import Array, Graph, TensorType, leaf
from chainrule.ops import running_on

Emit = Callable[..., Value]
TARGETS = {"widest": host_target(), "sse2": host_target("sse2")} if host_target().name != "neon" else {"widest": host_target()}
DTYPES = ["float32", "float64"]
CASES = [(name, dtype) for name in TARGETS for dtype in DTYPES]
NAN, INF = math.nan, math.inf
SPECIAL = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    INF,
    -INF,
    NAN,
    -NAN,
    1e-320,
    -1e-320,
    1e-42,
    -1e-42,
    1e38,
    -1e38,
    1e300,
    -1e300,
    2.0,
    -3.0,
    0.5,
]
CANARY = 123.0


def module_of(function: Emit, dtype: str, target: Target, lanes: int, inputs: int, extra: tuple[Any, ...]) -> Module:
    module = Module(target.vector_bits, target.has_fma)
    f = module.function("kernel", [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
    places = [f.load(f.at(f["args"], i, "ptr"), "ptr") for i in range(inputs + 1)]
    element = LLVM_TYPES[dtype]
    with f.loop(f["begin"], f["end"], lanes) as i:
        values = [f.load(f.at(place, i, element), vector(lanes, element)) for place in places[:-1]]
        f.store(function(f, *values, *extra), f.at(places[-1], i, element))
    return module


@functools.cache
def compiled(
    function: Emit, dtype: str, target: str, lanes: int, inputs: int, extra: tuple[Any, ...]
) -> tuple[Library, Callable[..., None]]:
    code = assemble(module_of(function, dtype, TARGETS[target], lanes, inputs, extra).text(), TARGETS[target], "kernel")
    library = Library([code], ["kernel"], TARGETS[target])
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    return library, signature(library.address("kernel"))


def native(function: Emit, *inputs: Array, target: str = "widest", lanes: int = 8, extra: tuple[Any, ...] = ()) -> Array:
    """The function of each element, computed in vectors of ``lanes``."""
    count, dtype = inputs[0].size, inputs[0].dtype
    padded = [np.concatenate([x.reshape(-1), np.ones(-count % lanes, dtype)]) for x in inputs]
    out = np.full(padded[0].size + 16, CANARY, dtype)
    args = np.array([*(x.ctypes.data for x in padded), out[8:].ctypes.data])
    kernel = compiled(function, dtype.name, target, lanes, len(inputs), extra)[1]
    kernel(args.ctypes.data, 0, padded[0].size, None)
    assert (out[:8] == CANARY).all()
    assert (out[-8:] == CANARY).all()
    return out[8 : 8 + count].reshape(inputs[0].shape)


def dense(dtype: str, low: float, high: float, count: int = 60_000) -> Array:
    """Random places of a range, its ends too."""
    generator = np.random.default_rng(0)
    return np.concatenate([[low, high], generator.uniform(low, high, count)]).astype(dtype)


def any_bits(dtype: str, count: int = 100_000) -> Array:
    """Every exponent, both signs, a few nan and inf."""
    integer = "uint32" if dtype == "float32" else "uint64"
    bits = np.random.default_rng(1).integers(0, np.iinfo(integer).max, count, integer, endpoint=True)
    with np.errstate(over="ignore"):
        return np.concatenate([bits.view(dtype), np.array(SPECIAL).astype(dtype)])


def exact(function: Callable[..., Any], x: Array, *extra: Any) -> Array:
    """By a wider type."""
    with np.errstate(all="ignore"):
        return np.asarray(function(x.astype(np.float64 if x.dtype == np.float32 else np.longdouble), *extra))


def check(found: Array, wanted: Array, ulps: float, absolute: float = 0.0, flushed: bool = True) -> None:
    """``wanted`` is wider. What is too small for a normal number may be 0 (``flushed``); nan and inf have to agree."""
    with np.errstate(all="ignore"):
        rounded = wanted.astype(found.dtype)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(rounded))
        limits = np.finfo(found.dtype)
        spacing = np.spacing(np.minimum(np.abs(rounded), limits.max))
        error = np.abs(found.astype(wanted.dtype) - wanted)
        fine = (error <= ulps * spacing + absolute) | (found == rounded) | np.isnan(found)
        if flushed:
            fine |= (np.abs(wanted) < limits.tiny * 1.001) & (np.abs(found) <= limits.tiny)
        worst = np.where(fine, 0, error / spacing).argmax() if fine.size else 0
    assert fine.all(), f"{(~fine).sum()} of {fine.size}: found {found[worst]!r}, wanted {wanted[worst]!r}"


def same_signs(found: Array, wanted: Array) -> None:
    kept = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(found[kept]), np.signbit(wanted[kept]))


def erf(x: Array) -> Array:
    return np.frompyfunc(math.erf, 1, 1)(x.astype(np.float64)).astype(x.dtype)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def erfc(x: Array) -> Array:
    return np.frompyfunc(math.erfc, 1, 1)(x.astype(np.float64)).astype(x.dtype)


def sech_squared(x: Array) -> Array:
    return np.square(2 * np.exp(-np.abs(x)) / (1 + np.exp(-2 * np.abs(x))))


def softplus(x: Array) -> Array:
    return np.logaddexp(np.zeros((), x.dtype), x)


FUNCTIONS: dict[str, tuple[Emit, Callable[..., Any], float, tuple[float, float]]] = {
    "exp": (mathematics.exp, np.exp, 2, (-110, 95)),
    "log": (mathematics.log, np.log, 2, (0.4, 3.0)),
    "log2": (mathematics.log2, np.log2, 3, (0.4, 3.0)),
    "expm1": (mathematics.expm1, np.expm1, 2, (-60, 95)),
    "log1p": (mathematics.log1p, np.log1p, 2, (-1, 3)),
    "tanh": (mathematics.tanh, np.tanh, 4, (-25, 25)),
    "sech_squared": (mathematics.sech_squared, sech_squared, 6, (-50, 50)),
    "softplus": (mathematics.softplus, softplus, 2, (-100, 100)),
    "sigmoid": (mathematics.sigmoid, sigmoid, 4, (-100, 100)),
    "atan": (mathematics.atan, np.arctan, 3, (-30, 30)),
    "erf": (mathematics.erf, erf, 4, (-7, 7)),
    "erfc": (mathematics.erfc, erfc, 6, (-7, 27)),
    "sqrt": (mathematics.sqrt, np.sqrt, 0.5001, (0, 100)),
    "rsqrt": (mathematics.rsqrt, lambda x: 1 / np.sqrt(x), 1.5, (0, 100)),
}


@pytest.mark.parametrize(("target", "dtype"), CASES)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_are_right_to_a_few_units_of_the_last_place(name: str, target: str, dtype: str) -> None:
    emit, reference, ulps, (low, high) = FUNCTIONS[name]
    near_zero = dense(dtype, -1.1, 1.1)
    for x in (dense(dtype, low, high), near_zero, near_zero * near_zero.dtype.type(1e-3), any_bits(dtype)):
        check(native(emit, x, target=target), exact(reference, x), ulps)


@pytest.mark.parametrize(("target", "dtype"), CASES)
def test_exp_is_right_up_to_both_ends_of_its_range(target: str, dtype: str) -> None:
    limits = np.finfo(dtype)
    for end in (np.log(limits.max), np.log(limits.tiny)):
        x = (end * (1 + np.arange(-2000, 2000) * limits.eps)).astype(dtype)
        check(native(mathematics.exp, x, target=target), exact(np.exp, x), 2)


def half_pi_of(bits: int) -> int:
    """pi/2 in 2^-bits, by Machin's formula: 8 arctan(1/5) - 2 arctan(1/239)."""

    def arctan_of_inverse(n: int) -> int:
        term = total = (1 << bits + 16) // n
        for k in range(3, bits, 2):
            term //= -n * n
            total += term // k
        return total

    return (8 * arctan_of_inverse(5) - 2 * arctan_of_inverse(239)) >> 16


ANGLE_BITS = 1300  # whole numbers up to 2^1024 times pi/2, and 276 bits behind the point
HALF_PI = half_pi_of(ANGLE_BITS)


def quarter_turns(x: Array) -> tuple[Array, Array]:
    """x = q pi/2 + r, |r| <= pi/4, of finite numbers, in whole numbers: q modulo 4, and r to the 64 bits of a long double."""
    quarters, high, low, places = [], [], [], []
    for angle in x.tolist():
        numerator, denominator = angle.as_integer_ratio()
        whole, rest = divmod((numerator << ANGLE_BITS) // denominator + HALF_PI // 2, HALF_PI)
        rest -= HALF_PI // 2
        place = max(abs(rest).bit_length() - 60, 0)
        quarters.append(whole % 4)
        high.append(rest >> place + 30)
        low.append((rest >> place) & ((1 << 30) - 1))
        places.append(place - ANGLE_BITS)
    head = np.ldexp(np.array(high, np.longdouble), 30) + np.array(low, np.longdouble)
    return np.array(quarters), np.ldexp(head, places)


def exact_sine(x: Array, ahead: int = 0) -> Array:
    """sin(x + ahead pi/2)."""
    quarters, rest = quarter_turns(x)
    turned = (quarters + ahead) % 4
    found = np.where(turned % 2 == 0, np.sin(rest), np.cos(rest))
    return np.where(turned < 2, found, -found)


def angles(dtype: str) -> Array:
    """All exponents, both signs; and what is closest to a multiple of pi/2, of a quarter turn to as many as there are."""
    limits, rng = np.finfo(dtype), np.random.default_rng(4)
    exponents = np.repeat(np.arange(limits.minexp - limits.nmant, limits.maxexp), 6 if dtype == "float32" else 2)
    plain = np.ldexp(rng.uniform(1, 2, exponents.size), exponents)
    turns = [int(rng.integers(1 << 30, 1 << 31)) << bits >> 30 for bits in 2 * list(range(limits.maxexp - 1))]
    multiples = [float(turn * HALF_PI >> ANGLE_BITS - 64) / 2.0**64 for turn in turns if turn < 1 << 900]
    multiples += [float(turn * HALF_PI >> ANGLE_BITS) for turn in turns if turn >= 1 << 900]
    # Muller, "Elementary Functions" (2016), table 11.1: the numbers nearest to a multiple of pi/2
    nearest = [16367173 * 2.0**72, 6381956970095103 * 2.0**797, 7854.0 * math.pi, 11 * math.pi, 2.0**20, 2.0**20 - 0.0625]
    with np.errstate(over="ignore"):
        found = np.concatenate([plain, multiples, nearest]).astype(dtype)
    found = found[np.isfinite(found)]
    return np.concatenate([found, -found])


@functools.cache
def sines_and_cosines(dtype: str) -> tuple[Array, Array, Array]:
    x = angles(dtype)
    return x, exact_sine(x), exact_sine(x, 1)


@pytest.mark.parametrize(("target", "dtype"), CASES)
def test_sine_and_cosine_of_every_exponent(target: str, dtype: str) -> None:
    x, sines, cosines = sines_and_cosines(dtype)
    for lanes in (1, 8):
        check(native(mathematics.sin, x, target=target, lanes=lanes), sines, 2, flushed=False)
        check(native(mathematics.cos, x, target=target, lanes=lanes), cosines, 2, flushed=False)
        check(native(mathematics.tan, x, target=target, lanes=lanes), sines / cosines, 4)


@pytest.mark.parametrize(("target", "dtype"), CASES)
@pytest.mark.parametrize("name", ["sin", "cos"])
def test_sine_and_cosine(name: str, target: str, dtype: str) -> None:
    emit, ahead = getattr(mathematics, name), int(name == "cos")
    multiples = (np.arange(-1000, 1000) * (np.pi / 2)).astype(dtype)
    for x in (dense(dtype, -4, 4, 5000), dense(dtype, -2e6, 2e6, 5000), dense(dtype, -1e-3, 1e-3, 500), multiples):
        check(native(emit, x, target=target), exact_sine(x, ahead), 2, flushed=False)
    anything = any_bits(dtype)
    found = native(emit, anything, target=target)
    np.testing.assert_array_equal(np.isnan(found), ~np.isfinite(anything))
    assert (np.abs(found[np.isfinite(anything)]) <= 1.0001).all()


@pytest.mark.parametrize(("target", "dtype"), CASES)
def test_the_logarithm_of_a_power_of_two_is_its_exponent(target: str, dtype: str) -> None:
    limits = np.finfo(dtype)
    exponents = np.arange(limits.minexp - limits.nmant, limits.maxexp)
    np.testing.assert_array_equal(native(mathematics.log2, np.ldexp(1.0, exponents).astype(dtype), target=target), exponents)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", TARGETS)
def test_huge_angles_in_a_program(target: str, dtype: str) -> None:
    """In whole vectors, in parts of them and one by one, among angles that are not huge."""
    x, sines, cosines = sines_and_cosines(dtype)
    for size in (1, 3, 7, 8, 37):
        some = np.random.default_rng(size).permutation(len(x))[:size]
        with running_on(None):
            angle = leaf(TensorType((size,), x.dtype))
            graph = Graph(ops.sin(angle), ops.cos(angle))
        program = Program(graph, target=TARGETS[target])
        program.bind(angle, x[some])
        program.run()
        check(program.output(0), sines[some], 2)
        check(program.output(1), cosines[some], 2)


EXPONENTS = [
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    16,
    31,
    64,
    -1,
    -2,
    -3,
    -5,
    -64,
    65,
    77,
    1001,
    -66,
    -101,
    0.5,
    -0.5,
    1.5,
    1.7,
    -2.5,
    1 / 3,
    0.01,
]
HUGE_EXPONENTS = [1e10, 1e17, -1e17, 1e30, -1e30, 1e300, INF, -INF, NAN]


@pytest.mark.parametrize(("target", "dtype"), CASES)
def test_power(target: str, dtype: str) -> None:
    limits = np.finfo(dtype)
    near_one = 1 + dense(dtype, -1e3, 1e3) * limits.eps
    for exponent in (*EXPONENTS, *HUGE_EXPONENTS):
        with np.errstate(over="ignore"):
            rounded = np.array(exponent).astype(dtype).astype(np.float64)
        end = min(float(limits.max) ** min(abs(1 / exponent), 1), 1e6) if exponent and abs(exponent) <= 1001 else 2.0
        for x in (dense(dtype, -3, 3, 5_000), dense(dtype, -end, end, 5_000), near_one[:5_000], any_bits(dtype, 5_000)):
            found = native(mathematics.power, x, target=target, extra=(float(exponent),))
            # np.power takes 0.5 as sqrt, but not for every type
            wanted = exact(np.sqrt, x) if exponent == 0.5 else exact(np.power, x, rounded)
            reciprocal = -mathematics.LARGEST_MULTIPLIED <= exponent < 0 and exponent == int(exponent)
            subnormal = reciprocal & (np.abs(wanted) * limits.tiny > 1)  # 1 / wanted, with as little as 2 bits less
            check(found[~subnormal], wanted[~subnormal], 4)
            check(found[subnormal], wanted[subnormal], 8)
            same_signs(found, wanted)


@pytest.mark.parametrize(("target", "dtype"), CASES)
def test_powers_of_tensors(target: str, dtype: str) -> None:
    def held_against_numpy(x: Array, y: Array) -> None:
        found = native(mathematics.tensor_power, x, y, target=target)
        with np.errstate(all="ignore"):
            wanted = np.power(*(one.astype(np.float64 if dtype == "float32" else np.longdouble) for one in (x, y)))
            check(found, wanted, 1.5)
            same_signs(found, wanted.astype(dtype))

    rng = np.random.default_rng(0)
    whole = [3.0, 4.0, -5.0, 7.0, 2.0**52 + 1, 2.0**53, -(2.0**53) - 2, 1e10 + 1]
    with np.errstate(over="ignore"):
        special = np.array([*SPECIAL, *whole, 1.5, -7.5, np.nextafter(1, 0), np.nextafter(1, 2)]).astype(dtype)
    held_against_numpy(*(np.ascontiguousarray(one.reshape(-1)) for one in np.meshgrid(special, special)))
    for high, furthest in ((2.0, 100.0), (10.0, 20.0), (1e30 if dtype == "float32" else 1e300, 1.0)):
        held_against_numpy(*(rng.uniform(low, end, 50_000).astype(dtype) for low, end in ((0, high), (-furthest, furthest))))
    near_one = (1 + rng.uniform(-1e3, 1e3, 50_000) * np.finfo(dtype).eps).astype(dtype)
    held_against_numpy(near_one, rng.uniform(-1e6, 1e6, 50_000).astype(dtype))
    held_against_numpy(rng.uniform(-3, 3, 50_000).astype(dtype), rng.integers(-40, 40, 50_000).astype(dtype))
    held_against_numpy(any_bits(dtype), rng.permutation(any_bits(dtype)))


@pytest.mark.parametrize(("target", "dtype"), CASES)
def test_zeros_keep_their_signs(target: str, dtype: str) -> None:
    x = np.array([0.0, -0.0, 1e-30, -1e-30, INF, -INF], dtype)
    odd = (mathematics.tanh, np.tanh), (mathematics.erf, erf), (mathematics.expm1, np.expm1), (mathematics.log1p, np.log1p)
    for emit, reference in (*odd, (mathematics.sqrt, np.sqrt), (mathematics.atan, np.arctan), (mathematics.tan, np.tan)):
        with np.errstate(invalid="ignore"):
            same_signs(native(emit, x, target=target), reference(x))
    same_signs(native(mathematics.sin, x, target=target), np.array([0, -0.0, 1, -1, NAN, NAN]))
    np.testing.assert_array_equal(native(mathematics.tanh, x, target=target)[-2:], [1, -1])
    np.testing.assert_array_equal(native(mathematics.erf, x, target=target)[-2:], [1, -1])
    np.testing.assert_array_equal(native(mathematics.exp, x, target=target), [1, 1, 1, 1, INF, 0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
def test_any_number_of_lanes_gives_the_same_bits(lanes: int, dtype: str) -> None:
    x = np.concatenate([any_bits(dtype, 2000), dense(dtype, -10, 10, 2000)])
    cases: list[tuple[Emit, tuple[Any, ...]]] = [(emit, ()) for emit, *_ in FUNCTIONS.values()]
    cases += [
        (mathematics.sin, ()),
        (mathematics.cos, ()),
        (mathematics.tan, ()),
        *((mathematics.power, (p,)) for p in (7.0, -3.0, 1.7, 65.0, 0.5)),
    ]
    for emit, extra in cases:
        one, other = native(emit, x, extra=extra), native(emit, x, lanes=lanes, extra=extra)
        np.testing.assert_array_equal(one, other)
        same_signs(one, other)


@pytest.mark.parametrize("lanes", [1, 8])
@pytest.mark.parametrize("dtype", [*DTYPES, "int32", "int64"])
@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["maximum", "minimum"])
def test_largest_and_smallest_hand_nan_on(name: str, target: str, dtype: str, lanes: int) -> None:
    numbers: Sequence[float] = (
        [1, -2, 3, 0, -5, 2**31 - 1, -(2**31)] if "int" in dtype else [1.0, -2.0, NAN, INF, -INF, 0.0, 1e30]
    )
    a, b = (np.array(x).reshape(-1).astype(dtype) for x in np.meshgrid(numbers, numbers))
    emit, reference = getattr(mathematics, name), getattr(np, name)
    np.testing.assert_array_equal(native(emit, a, b, target=target, lanes=lanes), reference(a, b))


@pytest.mark.parametrize("constant_first", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_largest_of_a_number_and_a_constant(dtype: str, constant_first: bool) -> None:
    def rectified(f: Function, x: Value) -> Value:
        zero = f.number(0.0, x.type)
        return mathematics.maximum(f, zero, x) if constant_first else mathematics.maximum(f, x, zero)

    x = any_bits(dtype, 1000)
    np.testing.assert_array_equal(native(rectified, x), np.maximum(x, 0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("target", [*TARGETS.values(), NEON, AVX512], ids=lambda target: target.name)
def test_nothing_calls_the_c_library(target: Target, dtype: str) -> None:
    lanes = target.lanes(np.dtype(dtype).itemsize)
    names = [*FUNCTIONS, "sin", "cos", "tan"]
    cases: list[tuple[Emit, tuple[Any, ...]]] = [(getattr(mathematics, name), ()) for name in names]
    with_itself: Emit = lambda f, x: mathematics.tensor_power(f, x, x)  # noqa: E731
    for emit, extra in (*cases, (with_itself, ()), (mathematics.power, (1.7,)), (mathematics.power, (-9.0,))):
        text = assembly(module_of(emit, dtype, target, lanes, 1, extra).text(), target, "kernel")
        assert not any(line.split()[:1] in (["callq"], ["call"], ["bl"]) for line in text.splitlines())
