"""Emitters for rounding (floor, ceil, round) and for NumPy's quotients and remainders of floats and of integers.

None of them calls the C library, although processors without SSE4.1 have no instruction that rounds to a whole number, and no
processor has one for the remainder of two floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from chainrule.cpu.codegen.emit import Function, Value, element_of, lanes_of, suffix
from chainrule.cpu.kernels.mathematics import absolute, exact_product

_MANTISSA_BITS = {"float": 23, "double": 52}

# ---- floats to whole numbers


def _with_sign_of(f: Function, magnitude: Value, x: Value) -> Value:
    return f.call(f"llvm.copysign.{suffix(x.type)}", x.type, magnitude, x)


def round_(f: Function, x: Value) -> Value:
    """Emit ``x``, of floats or doubles, rounded to the nearest whole number, halves to even.

    A double below 2^52 loses its fraction when 2^52 is added to it; larger doubles are whole numbers. For floats it is 2^23.
    """
    size, magnitude = 2.0 ** _MANTISSA_BITS[element_of(x.type)], absolute(f, x)
    whole = (magnitude + size) - size
    return f.select(f.compare("olt", magnitude, size), _with_sign_of(f, whole, x), x)


def floor(f: Function, x: Value) -> Value:
    """Emit ``x``, of floats or doubles, rounded down to a whole number."""
    nearest = round_(f, x)
    return f.select(f.compare("ogt", nearest, x), nearest - 1.0, nearest)


def ceil(f: Function, x: Value) -> Value:
    """Emit ``x``, of floats or doubles, rounded up to a whole number; -0 for numbers between -1 and 0, as in NumPy."""
    nearest = round_(f, x)
    return f.select(f.compare("olt", nearest, x), _with_sign_of(f, nearest + 1.0, x), nearest)


# ---- quotients and remainders of floats


def remainder(f: Function, x: Value, y: Value) -> Value:
    """Emit x - floor(x / y) y of floats or doubles, rounded only once, with the sign of y."""
    rest = _rest(f, x, y)
    result = f.select(_signs_differ(f, rest, y), rest + y, rest)
    return f.select(f.compare("oeq", rest, 0.0), _with_sign_of(f, f.zero(x.type), y), result)


def floor_divide(f: Function, x: Value, y: Value) -> Value:
    """Emit the exact quotient of floats or doubles, rounded down: 1 // 0.1 is 9, as the float 0.1 is more than 1/10."""
    rest, quotient = _rest(f, x, y), x / y
    whole = (x - rest) / y  # up to rounding
    whole = f.select(_signs_differ(f, rest, y), whole - 1.0, whole)
    lower = floor(f, whole)
    result = f.select(f.compare("ogt", whole - lower, 0.5), lower + 1.0, lower)
    result = f.select(f.compare("oeq", whole, 0.0), _with_sign_of(f, f.zero(x.type), quotient), result)
    return f.select(f.compare("oeq", y, 0.0), quotient, result)


def _signs_differ(f: Function, rest: Value, y: Value) -> Value:
    return f.compare("one", rest, 0.0) & (f.compare("olt", rest, 0.0) ^ f.compare("olt", y, 0.0))


def _rest(f: Function, x: Value, y: Value) -> Value:
    """Return the exact remainder of x / y with the quotient rounded towards zero, as fmod of C: it has the sign of x."""
    if element_of(x.type) == "double":
        return _with_sign_of(f, _rest_of_magnitudes(f, absolute(f, x), absolute(f, y), single=False), x)
    wide, other = (f.convert("fpext", absolute(f, one), "double") for one in (x, y))
    return _with_sign_of(f, f.convert("fptrunc", _rest_of_magnitudes(f, wide, other, single=True), "float"), x)


def _rest_of_magnitudes(f: Function, x: Value, y: Value, single: bool) -> Value:
    """Return ``_rest`` of doubles x, y >= 0; ``single`` says that both hold numbers of float precision.

    The rounded quotient, rounded down to a whole number n, may be too large by 1. x - n y is exact as long as n y is: for float
    precision if n has at most 28 bits, for doubles if n y is kept as a sum of two doubles. Lanes in which n is larger, or the
    second double of that sum would underflow, are rare, and are computed lane by lane.
    """
    quotient = x / y
    nearest = (quotient + 2.0**52) - 2.0**52
    whole = f.select(f.compare("ogt", nearest, quotient), nearest - 1.0, nearest)
    if single:
        rest = x - f.op(f"fmul {x.type} {whole.text}, {y.text}", x.type)
        far = f.compare("oge", quotient, 2.0**28)
    else:
        high, low = exact_product(f, whole, y)
        rest = (x - high) - low
        far = f.compare("oge", quotient, 2.0**51) | f.compare("olt", y, 2.0**-900)
        far = far | f.compare("ogt", x, 2.0**900) | f.compare("ogt", y, 2.0**900)
    rest = f.select(f.compare("olt", rest, 0.0), rest + y, rest)
    rest = f.select(f.compare("olt", x, y), x, rest)  # where y is infinite, too
    far = far & f.compare("olt", x, math.inf) & f.compare("oge", x, y) & f.compare("ogt", y, 0.0)
    result = f.variable(rest.type, rest)
    with f.when(f.any(far)):
        places = [f.variable(one.type, one) for one in (x, y, rest)]
        flags = f.variable(f.zero(x.type).type, f.select(far, f.number(1.0, x.type), f.zero(x.type)))
        with f.loop(0, lanes_of(x.type)) as lane:
            at = [f.at(one.place, lane, "double") for one in places]
            is_far = f.load(f.at(flags.place, lane, "double"), "double")
            with f.when(f.compare("ogt", is_far, 0.0)):
                f.store(_rest_by_bits(f, f.load(at[0], "double"), f.load(at[1], "double")), at[2])
        result.set(places[2].get())
    return result.get()


def _rest_by_bits(f: Function, x: Value, y: Value) -> Value:
    """Return the remainder of finite doubles x >= y > 0, by long division in base 2^11."""
    (mantissa, exponent), (divisor, lowest) = _mantissa_and_exponent(f, x), _mantissa_and_exponent(f, y)
    rest, left = f.variable("i64", _unsigned_rest(f, mantissa, divisor)), f.variable("i64", exponent - lowest)
    with f.repeat_while() as loop:
        loop.leave_unless(f.compare("sgt", left.get(), 0))
        bits = f.index(f.least(left.get(), 11))
        rest.set(_unsigned_rest(f, rest.get() << bits, divisor))
        left.set(left.get() - bits)
    result = rest.get()
    shift = f.call("llvm.ctlz.i64", "i64", result, f.number(0, "i1")) - 11
    normal = result << (shift & 63)
    exponent = lowest - shift
    subnormal = result >> ((f.number(1, "i64") - lowest) & 63)
    subnormal = f.select(f.compare("sgt", lowest, 0), result << ((lowest - 1) & 63), subnormal)
    bits = f.select(f.compare("sgt", exponent, 0), normal + ((exponent - 1) << 52), subnormal)
    return f.convert("bitcast", f.select(f.compare("eq", result, 0), result, bits), "double")


def _mantissa_and_exponent(f: Function, x: Value) -> tuple[Value, Value]:
    """Return an i64 mantissa of 53 bits and an i64 exponent with x = mantissa 2^(exponent - 1075), for finite doubles x > 0.

    The exponent of a subnormal number is below 1.
    """
    bits = f.convert("bitcast", x, "i64")
    exponent, fraction = bits >> 52, bits & ((1 << 52) - 1)
    is_normal = f.compare("ne", exponent, 0)
    shift = f.call("llvm.ctlz.i64", "i64", fraction, f.number(0, "i1")) - 11
    mantissa = f.select(is_normal, fraction | (1 << 52), fraction << (shift & 63))
    return mantissa, f.select(is_normal, exponent, f.number(1, "i64") - shift)


def _unsigned_rest(f: Function, a: Value, b: Value) -> Value:
    return f.op(f"urem i64 {a.text}, {b.text}", "i64")


# ---- quotients and remainders of integers


def divided_integers(f: Function, x: Value, y: Value, unsigned: bool) -> Sequence[Value]:
    """Emit the quotient of integers, rounded down, and the remainder, which has the sign of y.

    As in NumPy, both are 0 where y is 0, and the smallest integer // -1 is itself. In both cases the instruction of an x86
    processor would end the process, so its divisor is replaced by 1 there.
    """
    zero, one = f.zero(x.type), f.number(1, x.type)
    by_zero = f.compare("eq", y, 0)
    if unsigned:
        divisor = f.select(by_zero, one, y)
        quotient = f.op(f"udiv {x.type} {x.text}, {divisor.text}", x.type)
        rest = f.op(f"urem {x.type} {x.text}, {divisor.text}", x.type)
    else:
        by_minus_one = f.compare("eq", y, -1)
        divisor = f.select(by_zero | by_minus_one, one, y)
        quotient = f.op(f"sdiv {x.type} {x.text}, {divisor.text}", x.type)
        rest = x - f.op(f"mul {x.type} {quotient.text}, {divisor.text}", x.type)
        quotient = f.select(by_minus_one, -x, quotient)
        low = f.compare("ne", rest, 0) & (f.compare("slt", rest, 0) ^ f.compare("slt", y, 0))
        quotient, rest = f.select(low, quotient - 1, quotient), f.select(low, rest + y, rest)
    return f.select(by_zero, zero, quotient), f.select(by_zero, zero, rest)
