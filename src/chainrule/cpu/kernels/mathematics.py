"""Emits elementary functions for float and double, in vectors of any number of lanes.

The code calls no functions, and its only branch is around the reduction of huge angles, which are rare.

Each function reduces its argument to a small range, where a polynomial approximates it. The reductions are the usual ones: Cody
and Waite, "Software Manual for the Elementary Functions" (1980), for exp, sin and cos; the logarithm by s = f / (2 + f) as in
fdlibm (Sun Microsystems, 1993). ``scripts/fit_polynomials.py`` prints the coefficients.

Special values are those of NumPy, except that results of exp too small for a normal number are 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.cpu.codegen.emit import Function, Value, element_of, is_floating, lanes_of, suffix
from chainrule.cpu.kernels import turns

LARGEST_MULTIPLIED = 64
"""Powers with whole exponents up to here are computed by repeated multiplication."""


@dataclass(frozen=True)
class _Format:
    """A floating-point type: the layout of its bits, the limits of its functions, and coefficients of sufficient precision.

    ``ln2`` and ``half_pi`` are given as sums of several parts. All parts but the last have so few bits that their products
    with the integers that occur are exact.
    """

    integer: str
    width: int
    mantissa_bits: int
    bias: int
    sqrt_half: int  # the bits of sqrt(1/2)
    smallest: float  # the smallest normal number
    exp_range: tuple[float, float]  # the arguments for which exp is a normal number
    ln2: tuple[float, ...]
    half_pi: tuple[float, ...]
    tanh_end: float  # from here on tanh is 1
    erf_end: float  # from here on erf is 1
    exp: tuple[float, ...]  # (e^r - 1 - r) / r^2, |r| <= ln 2 / 2
    log: tuple[float, ...]  # (2 artanh(s) / s - 2) / s^2 in s^2
    sin: tuple[float, ...]  # (sin r / r - 1) / r^2 in r^2, |r| <= pi / 4
    cos: tuple[float, ...]  # (cos r - 1 + r^2 / 2) / r^4 in r^2
    erf: tuple[float, ...]  # erf(x) / x in x^2, |x| <= 1
    erfc: tuple[float, ...]  # -ln erfc(x), x >= 1
    atan: tuple[float, ...]  # (atan t / t - 1) / t^2 in t^2, |t| <= tan(pi / 8)
    erfc_centre: float  # k of the next line
    scaled_erfc: tuple[float, ...]  # (1 + 2 x) e^(x^2) erfc(x) in (x - k) / (x + k), x >= 0


_FLOAT = _Format(
    integer="i32",
    width=32,
    mantissa_bits=23,
    bias=127,
    sqrt_half=0x3F3504F3,
    smallest=2.0**-126,
    exp_range=(-87.33654, 88.72283),
    ln2=(float.fromhex("0x1.62e4p-1"), float.fromhex("0x1.7f7d1cp-20")),
    half_pi=(float.fromhex("0x1.921fb544p+0"), float.fromhex("0x1.0b4611a626331p-34")),  # for double
    tanh_end=20.0,
    erf_end=4.0,
    exp=(0.5, 0.166665763, 0.041666463, 0.00836323574, 0.00139337336),
    log=(0.666666687, 0.400001228, 0.285507739, 0.233315974),
    sin=(-0.166666642, 0.00833274703, -0.000195876986),
    cos=(0.0416666642, -0.00138883025, 2.45477386e-05),
    erf=(1.12837911, -0.37612626, 0.112835974, -0.0268543288, 0.00518931216, -0.000801885501, 7.88249745e-05),
    erfc=(0.000341962354, 1.1270889, 0.638142467, 0.103111453, -0.0218417067, 0.00294894585, -0.000186551712),
    atan=(-0.3333333, 0.1999955, -0.14264227, 0.10746236, -0.06459168),
    erfc_centre=2.0,
    scaled_erfc=(
        *(1.2769784, -0.09276382, -0.16603051, 0.16405098, -0.054217987, -0.008030456, 0.008710104, 0.0012518557),
        *(-0.0014234299, -0.0004008141, 0.00017178888, 8.060236e-05),
    ),
)
_DOUBLE = _Format(
    integer="i64",
    width=64,
    mantissa_bits=52,
    bias=1023,
    sqrt_half=0x3FE6A09E667F3BCD,
    smallest=2.0**-1022,
    exp_range=(-708.3964185322641, 709.782712893384),
    ln2=(float.fromhex("0x1.62e42fefa3p-1"), float.fromhex("0x1.3de6af278ece6p-42")),
    half_pi=(
        float.fromhex("0x1.921fb544p+0"),
        float.fromhex("0x1.0b4611a6p-34"),
        float.fromhex("0x1.3198a2ep-69"),
        float.fromhex("0x1.b839a252049c1p-104"),
    ),
    tanh_end=40.0,
    erf_end=6.0,
    exp=(
        *(0.5, 0.1666666666666667, 0.04166666666666668, 0.008333333333326082, 0.0013888888888879001, 0.00019841269875003973),
        *(2.480158733663232e-05, 2.7557255168123062e-06, 2.755726307600547e-07, 2.5105313423078524e-08),
        2.0918212752506956e-09,
    ),
    log=(
        *(0.666666666666667, 0.39999999999898883, 0.2857142862622888, 0.2222221109702545, 0.18182891667529086),
        *(0.1533164279681813, 0.14617365005617672),
    ),
    sin=(
        *(-0.16666666666666666, 0.008333333333330938, -0.00019841269836741755, 2.755731609375319e-06),
        *(-2.505112999912784e-08, 1.5917995630635248e-10),
    ),
    cos=(
        *(0.041666666666666664, -0.001388888888888739, 2.480158729875508e-05, -2.7557317266186513e-07),
        *(2.0876145106497293e-09, -1.1382548343152154e-11),
    ),
    erf=(
        *(1.1283791670955126, -0.37612638903183543, 0.1128379167094513, -0.026866170643256995, 0.005223977607269946),
        *(-0.0008548325982543225, 0.00012055295112667001, -1.4924740785377576e-05, 1.6447471190594618e-06),
        *(-1.62088298568102e-07, 1.3721520406351092e-08, -7.798543850549943e-10),
    ),
    erfc=(
        *(5.25530610055349e-07, 1.1283738752344383, 0.6366445675882951, 0.1027008999186594, -0.01898544054561009),
        *(-0.0004171020651739851, 0.001922650075452321, -0.0007760226343185617, 0.00013843208229647933),
        *(1.8591234887288997e-05, -2.2168398241704738e-05, 8.46709272682243e-06, -2.0883233454373484e-06),
        *(3.648123420213575e-07, -4.530923031074751e-08, 3.833569578436844e-09, -1.9889327194207288e-10),
        4.7841387941070134e-12,
    ),
    atan=(
        *(-0.3333333333333333, 0.19999999999995646, -0.1428571428469054, 0.11111111017032477, -0.09090904644927628),
        *(0.0769218463484144, -0.06664530458067883, 0.05858303869105911, -0.05086213230646847, 0.039252490394240835),
        -0.019201049625759567,
    ),
    erfc_centre=4.0,
    scaled_erfc=(
        *(1.2329951186255526, -0.13962111684056286, 0.015379652102620534, 0.0680970542547345, -0.10103906603634463),
        *(0.09373283499688301, -0.06633036581160325, 0.03716751556122799, -0.01619773405928154, 0.005031969765430473),
        *(-0.0007577733341269424, -0.0001992555477643379, 0.00015062219182222135, -2.4403077893153096e-05),
        *(-1.1224608550871058e-05, 5.717804978216537e-06, 3.0101627607877694e-07, -8.352288678378558e-07),
        *(6.301206090884694e-08, 1.1554930300507913e-07, -7.79759001533321e-09, -1.3789322128127174e-08),
        -1.8526881213680997e-09,
    ),
)
_FORMATS = {"float": _FLOAT, "double": _DOUBLE}

# (2 artanh(s) / s - 2 - 2/3 s^2) / s^4 in s^2, for a logarithm of twice the precision; and 2/3 as a sum of two doubles
_LOG_TAIL = (
    *(0.4, 0.2857142857142937, 0.2222222222165326, 0.18181818335936328, 0.15384594908967653, 0.1333480740126904),
    *(0.11706168485185489, 0.11723846525896416),
)
_TWO_THIRDS = (float.fromhex("0x1.5555555555555p-1"), float.fromhex("0x1.5555555555555p-55"))


def _format(x: Value) -> _Format:
    return _FORMATS[element_of(x.type)]


# ---- bits and arithmetic


def _bits(f: Function, x: Value) -> Value:
    return f.convert("bitcast", x, _format(x).integer)


def _from_bits(f: Function, bits: Value, like: Value) -> Value:
    return f.convert("bitcast", bits, element_of(like.type))


def absolute(f: Function, x: Value) -> Value:
    """Emit |x| of floats or doubles."""
    return f.call(f"llvm.fabs.{suffix(x.type)}", x.type, x)


def _sign_bit(f: Function, x: Value) -> Value:
    return _bits(f, x) & -(1 << (_format(x).width - 1))


def _flip(f: Function, x: Value, sign: Value) -> Value:
    """Return -x where the highest bit of ``sign``, an integer, is set, else x."""
    return _from_bits(f, _bits(f, x) ^ sign, x)


def _product(f: Function, a: Value, b: Value) -> Value:
    return f.op(f"fmul {a.type} {a.text}, {b.text}", a.type)


def _at_most(f: Function, x: Value, limit: float) -> Value:
    """Return the smaller of x and ``limit``; nan stays nan."""
    return f.select(f.compare("ogt", x, limit), f.number(limit, x.type), x)


def _polynomial(f: Function, x: Value, coefficients: Sequence[float]) -> Value:
    """Evaluate a polynomial in x by Horner's rule; the coefficients are given from the lowest power up."""
    result = f.number(coefficients[-1], x.type)
    for coefficient in reversed(coefficients[:-1]):
        result = f.multiply_add(result, x, f.number(coefficient, x.type))
    return result


# ---- numbers of twice the precision: sums high + low, where high is the sum rounded, and low the rounding error


def _exact_sum(f: Function, a: Value, b: Value) -> tuple[Value, Value]:
    """Return a + b as high + low, exactly, for |a| >= |b| or a = 0 (Dekker, 1971)."""
    high = a + b
    return high, b - (high - a)


def exact_product(f: Function, a: Value, b: Value) -> tuple[Value, Value]:
    """Return a * b as high + low, exactly: by a fused multiply-add, or else from halves (Dekker, 1971)."""
    high = _product(f, a, b)
    if f.module.has_fma:
        return high, f.fma(a, b, -high)
    (a1, a2), (b1, b2) = _halves(f, a), _halves(f, b)
    low = _product(f, a1, b1) - high
    for first, second in ((a1, b2), (a2, b1), (a2, b2)):
        low = low + _product(f, first, second)
    return high, low


def _halves(f: Function, a: Value) -> tuple[Value, Value]:
    """Return ``a`` as a sum of two numbers with half of its bits each, so that their products are exact (Veltkamp)."""
    scaled = _product(f, a, f.number(2.0 ** ((_format(a).mantissa_bits + 2) // 2) + 1, a.type))
    high = scaled - (scaled - a)
    return high, a - high


# ---- square roots, maximum and minimum


def sqrt(f: Function, x: Value) -> Value:
    """Emit the square root, correctly rounded; nan for negative numbers."""
    return f.call(f"llvm.sqrt.{suffix(x.type)}", x.type, x)


def rsqrt(f: Function, x: Value) -> Value:
    """Emit 1 / sqrt(x), where root and quotient are rounded correctly; no estimate of the processor's is used."""
    return f.number(1.0, x.type) / sqrt(f, x)


def maximum(f: Function, a: Value, b: Value) -> Value:
    """Emit the larger of two floats or signed integers; nan if either is nan. It is cheapest if one of them is constant."""
    return _extreme(f, a, b, "gt")


def minimum(f: Function, a: Value, b: Value) -> Value:
    """Emit the smaller of two floats or signed integers; nan if either is nan. It is cheapest if one of them is constant."""
    return _extreme(f, a, b, "lt")


def _extreme(f: Function, a: Value, b: Value, better: str) -> Value:
    if not is_floating(a.type):
        return f.select(f.compare(f"s{better}", a, b), a, b)
    if not a.text.startswith("%"):  # let b be the constant, as LLVM then leaves out its check for nan
        a, b = b, a
    chosen = f.select(f.compare(f"o{better}", b, a), b, a)  # keeps a nan of a, but loses a nan of b
    return f.select(f.compare("uno", b, b), b, chosen)


# ---- exponential


def _split_exponent(f: Function, high: Value, low: Value | None = None) -> tuple[Value, Value]:
    """Return r and n with high + low = n ln 2 + r, |r| <= ln 2 / 2.

    n is returned as an integer, shifted to the place of the exponent, so that adding it to the bits of a number multiplies the
    number by 2^n.
    """
    form = _format(high)
    rounder = f.number(1.5 * 2.0**form.mantissa_bits, high.type)  # after adding it, the lowest bits are n
    shifted = f.multiply_add(high, f.number(1 / math.log(2), high.type), rounder)
    n, r = shifted - rounder, high
    for part in form.ln2:
        r = f.multiply_add(n, f.number(-part, n.type), r)
    return r if low is None else r + low, _bits(f, shifted) << form.mantissa_bits


def _exp_within_range(f: Function, high: Value, low: Value | None = None) -> Value:
    """Return e^(high + low) if that is a normal number; undefined otherwise, and for nan."""
    r, exponent = _split_exponent(f, high, low)
    less_one = f.multiply_add(_product(f, r, r), _polynomial(f, r, _format(r).exp), r)
    return _from_bits(f, _bits(f, less_one + 1.0) + exponent, r)


def _exp(f: Function, high: Value, low: Value | None = None) -> Value:
    """Return e^(high + low) for all numbers: inf beyond the largest number, 0 below the smallest normal number."""
    smallest, largest = _format(high).exp_range
    result = _exp_within_range(f, high, low)
    result = f.select(f.compare("ugt", high, largest), high + math.inf, result)  # inf, or nan
    return f.select(f.compare("olt", high, smallest), f.zero(high.type), result)


def exp(f: Function, x: Value) -> Value:
    """Emit e^x; results below the smallest normal number are 0."""
    return _exp(f, x)


def sigmoid(f: Function, x: Value) -> Value:
    """Emit 1 / (1 + e^-x), computed from e^-|x|, which does not overflow."""
    one, small = f.number(1.0, x.type), exp(f, -absolute(f, x))
    return f.select(f.compare("oge", x, 0.0), one, small) / (small + one)


def tanh(f: Function, x: Value) -> Value:
    """Emit tanh x = (e^2x - 1) / (e^2x + 1), with e^2x - 1 = 2^n (e^r - 1) + 2^n - 1, which is accurate near 0."""
    form, magnitude = _format(x), absolute(f, x)
    r, exponent = _split_exponent(f, _at_most(f, magnitude + magnitude, 2 * form.tanh_end))
    less_one = f.multiply_add(_product(f, r, r), _polynomial(f, r, form.exp), r)
    scale = _from_bits(f, exponent + (form.bias << form.mantissa_bits), x)
    numerator = f.multiply_add(scale, less_one, scale - 1.0)
    return _flip(f, numerator / (numerator + 2.0), _sign_bit(f, x))


def erf(f: Function, x: Value) -> Value:
    """Emit erf x: x P(x^2) for |x| < 1, else 1 - e^-G(|x|) with the sign of x, with polynomials P and G."""
    form, magnitude = _format(x), absolute(f, x)
    small = _product(f, x, _polynomial(f, _product(f, x, x), form.erf))
    tail = _exp_within_range(f, -_polynomial(f, _at_most(f, magnitude, form.erf_end), form.erfc))
    large = _flip(f, f.number(1.0, x.type) - tail, _sign_bit(f, x))
    return f.select(f.compare("oge", magnitude, 1.0), large, small)


def erfc(f: Function, x: Value) -> Value:
    """Emit erfc x = 1 - erf x as e^(-x^2) P((x - k) / (x + k)) / (1 + 2 x) for x >= 0, and 2 - erfc(-x) for x < 0.

    The formula is that of Shepherd and Laframboise, "Chebyshev approximation of (1 + 2x) exp(x^2) erfc x" (1981). x^2 is
    computed in twice the precision.
    """
    form = _format(x)
    magnitude = _at_most(f, absolute(f, x), 30.0)  # from there on erfc is 0; at inf the product below would be nan
    quotient = (magnitude - form.erfc_centre) / (magnitude + form.erfc_centre)
    scaled = _polynomial(f, quotient, form.scaled_erfc) / (magnitude + magnitude + 1.0)
    square, rest = exact_product(f, magnitude, magnitude)
    result = _product(f, _exp(f, -square, -rest), scaled)
    return f.select(f.compare("olt", x, 0.0), f.number(2.0, x.type) - result, result)


def expm1(f: Function, x: Value) -> Value:
    """Emit e^x - 1 as 2 (2^(n-1) (e^r - 1) + 2^(n-1) - 1/2), which is accurate near 0 and does not overflow early.

    Next to ``exp`` of the same number it costs little, as LLVM computes their common part only once.
    """
    form = _format(x)
    r, exponent = _split_exponent(f, x)
    less_one = f.multiply_add(_product(f, r, r), _polynomial(f, r, form.exp), r)
    scale = _from_bits(f, exponent + ((form.bias - 1) << form.mantissa_bits), x)
    half = f.multiply_add(scale, less_one, scale - 0.5)
    result = f.select(f.compare("ugt", x, form.exp_range[1]), x + math.inf, half + half)  # inf, or nan
    result = f.select(f.compare("olt", x, -50.0), f.number(-1.0, x.type), result)
    return f.select(f.compare("oeq", x, 0.0), x, result)  # x itself, as -0 has to stay -0


def sech_squared(f: Function, x: Value) -> Value:
    """Emit sech^2 x = 1 / cosh^2 x, the derivative of tanh, as (2 w / (1 + w^2))^2 with w = e^-|x|."""
    small = exp(f, -absolute(f, x))
    sech = (small + small) / f.multiply_add(small, small, f.number(1.0, x.type))
    return _product(f, sech, sech)


# ---- logarithm


def _fraction_and_exponent(f: Function, x: Value) -> tuple[Value, Value]:
    """Return m and e, both as floats, with x = m 2^e and sqrt(1/2) <= m < sqrt(2), for positive x."""
    form = _format(x)
    tiny = f.compare("olt", x, form.smallest)
    bits = _bits(f, f.select(tiny, _product(f, x, f.number(2.0**form.mantissa_bits, x.type)), x))
    one = form.bias << form.mantissa_bits
    biased = (bits + (one - form.sqrt_half)) >> form.mantissa_bits
    fraction = _from_bits(f, bits + one - (biased << form.mantissa_bits), x)
    # AVX2 has no instruction to convert 64-bit integers. An integer in the lowest bits of the float 2^52 makes it 2^52 plus
    # that integer, so a subtraction finishes the conversion.
    whole = f.number(2.0**form.mantissa_bits, x.type)
    offset = f.select(
        tiny,
        f.number(2.0**form.mantissa_bits + form.bias + form.mantissa_bits, x.type),
        f.number(2.0**form.mantissa_bits + form.bias, x.type),
    )
    return fraction, _from_bits(f, biased | _bits(f, whole), x) - offset


def _log_of_fraction(f: Function, fraction: Value) -> tuple[Value, Value, Value]:
    """Return the parts a, b, c of ln m = a - (b - c) for a fraction m near 1; a is m - 1.

    It is 2 artanh s with s = (m - 1) / (m + 1), where a polynomial in s^2 approximates artanh.
    """
    rest = fraction - 1.0
    s = rest / (rest + 2.0)
    z, half = _product(f, s, s), _product(f, _product(f, rest, rest), f.number(0.5, rest.type))
    tail = _product(f, z, _polynomial(f, z, _format(rest).log))
    return rest, half, _product(f, s, half + tail)


def log(f: Function, x: Value) -> Value:
    """Emit the natural logarithm, e ln 2 + ln m for x = m 2^e; -inf at 0, nan for negative numbers."""
    fraction, exponent = _fraction_and_exponent(f, x)
    rest, half, small = _log_of_fraction(f, fraction)
    high, low = (f.number(part, x.type) for part in _format(x).ln2)
    small = f.multiply_add(exponent, low, small)
    return _with_ends_of_log(f, x, f.multiply_add(exponent, high, rest - (half - small)))


def log2(f: Function, x: Value) -> Value:
    """Emit the logarithm to the base 2, e + ln m / ln 2 for x = m 2^e, which is exact where x is a power of 2, as m is 1."""
    fraction, exponent = _fraction_and_exponent(f, x)
    rest, half, small = _log_of_fraction(f, fraction)
    return _with_ends_of_log(f, x, f.multiply_add(rest - (half - small), f.number(1 / math.log(2), x.type), exponent))


def _with_ends_of_log(f: Function, x: Value, result: Value) -> Value:
    """Return ``result``, the logarithm of x where x is positive and finite, and the special values elsewhere."""
    result = f.select(f.compare("olt", x, math.inf), result, x)  # inf and nan are their own logarithms
    below = f.select(f.compare("oeq", x, 0.0), f.number(-math.inf, x.type), f.number(math.nan, x.type))
    return f.select(f.compare("ole", x, 0.0), below, result)


def log1p(f: Function, x: Value) -> Value:
    """Emit ln(1 + x) as ln u + (x - (u - 1)) / u, where u is 1 + x, rounded; the second term corrects for the rounding."""
    u = x + 1.0
    result = log(f, u) + (x - (u - 1.0)) / u
    result = f.select(f.compare("oeq", u, 0.0) | f.compare("oeq", u, math.inf), log(f, u), result)
    return f.select(f.compare("oeq", u, 1.0), x, result)  # for small x, and as -0 has to stay -0


def softplus(f: Function, x: Value) -> Value:
    """Emit ln(1 + e^x) as max(0, x) + ln(1 + e^-|x|), which does not overflow."""
    return maximum(f, f.number(0.0, x.type), x) + log1p(f, exp(f, -absolute(f, x)))


def _precise_log(f: Function, x: Value) -> tuple[Value, Value]:
    """Return ln x as high + low, with a relative error of about 2^-64, for positive finite doubles."""
    fraction, exponent = _fraction_and_exponent(f, x)
    # s = (m - 1) / (m + 1) = s1 + s2
    d1 = fraction + 1.0
    d2 = fraction - (d1 - 1.0)
    rest = fraction - 1.0
    s1 = rest / d1
    p1, p2 = exact_product(f, s1, d1)
    s2 = (((rest - p1) - p2) - _product(f, s1, d2)) / d1
    # z = s^2, c = s^3, w = 2/3 + z T(z)
    z1, z2 = exact_product(f, s1, s1)
    z2 = f.multiply_add(s1 + s1, s2, z2)
    c1, c2 = exact_product(f, s1, z1)
    c2 = f.multiply_add(s2, z1, f.multiply_add(s1, z2, c2))
    w1, w2 = _exact_sum(f, f.number(_TWO_THIRDS[0], x.type), _product(f, z1, _polynomial(f, z1, _LOG_TAIL)))
    w2 = w2 + _TWO_THIRDS[1]
    v1, v2 = exact_product(f, c1, w1)
    v2 = f.multiply_add(c2, w1, f.multiply_add(c1, w2, v2))
    # ln x = e ln 2 + 2 s + c w
    u1, u2 = _exact_sum(f, s1 + s1, v1)
    u2 = u2 + (s2 + s2 + v2)
    high, low = (f.number(part, x.type) for part in _DOUBLE.ln2)
    t1, t2 = _exact_sum(f, _product(f, exponent, high), u1)
    return _exact_sum(f, t1, t2 + f.multiply_add(exponent, low, u2))


# ---- power


def power(f: Function, x: Value, exponent: float) -> Value:
    """Emit x ** exponent with the special values of ``np.power``; as there, the exponent is rounded to the type of x."""
    if element_of(x.type) == "float":
        with np.errstate(over="ignore"):
            exponent = float(np.float32(exponent))
    if not math.isfinite(exponent):
        return _power_infinite(f, x, exponent)
    if exponent == int(exponent) and abs(exponent) <= LARGEST_MULTIPLIED:
        return _whole_power(f, x, int(exponent))
    if exponent == 0.5:
        return sqrt(f, x)  # for -inf and -0 as well, as in NumPy
    if exponent == -0.5:
        return f.select(f.compare("oeq", x, -math.inf), f.zero(x.type), rsqrt(f, x + 0.0))
    return _power_by_log(f, x, exponent)


def _power_infinite(f: Function, x: Value, exponent: float) -> Value:
    """Return x ** exponent for an exponent that is inf, -inf or nan."""
    one, magnitude = f.number(1.0, x.type), absolute(f, x)
    if math.isnan(exponent):
        return f.select(f.compare("oeq", x, 1.0), one, f.number(math.nan, x.type))
    grows = f.compare("ogt" if exponent > 0 else "olt", magnitude, 1.0)
    result = f.select(grows, f.number(math.inf, x.type), f.zero(x.type))
    return f.select(f.compare("uno", x, x), x, f.select(f.compare("oeq", magnitude, 1.0), one, result))


def _whole_power(f: Function, x: Value, exponent: int) -> Value:
    """Return x ** exponent by repeated multiplication, beyond the 4th power in twice the precision, as rounding errors add up.

    A negative power is the reciprocal of the positive power, and inexact where that is subnormal.
    """
    count = abs(exponent)
    wide = x
    if count <= 4:
        result = f.number(1.0, x.type)
        for bit in f"{count:b}" if count else "":
            result = _product(f, result, result)
            result = _product(f, result, x) if bit == "1" else result
    elif element_of(x.type) == "float":
        wide = result = f.convert("fpext", x, "double")
        for bit in f"{count:b}"[1:]:
            result = _product(f, result, result)
            result = _product(f, result, wide) if bit == "1" else result
    else:
        result = _compensated_power(f, x, count)
    if exponent < 0:
        result = f.number(1.0, result.type) / result
    return result if result.type == x.type else f.convert("fptrunc", result, "float")


def _compensated_power(f: Function, x: Value, count: int) -> Value:
    """Return x ** count by repeated multiplication of high + low, numbers of twice the precision, for count >= 1."""
    high, low = x, f.zero(x.type)
    for bit in f"{count:b}"[1:]:
        square, error = exact_product(f, high, high)
        high, low = square, f.multiply_add(high + high, low, error)
        if bit == "1":
            product, error = exact_product(f, high, x)
            high, low = product, f.multiply_add(low, x, error)
    result = high + low
    # Where high overflows, low is nan; where high is -0, the sum may be 0. Both give high itself.
    return f.select(f.compare("one", result, 0.0), result, high)


def _power_by_log(f: Function, x: Value, exponent: float) -> Value:
    """Return x ** exponent as e^(exponent ln |x|), with the sign, or nan, for negative x."""
    magnitude = absolute(f, x)
    if element_of(x.type) == "float":
        wide = log(f, f.convert("fpext", magnitude, "double"))
        result = f.convert("fptrunc", exp(f, _product(f, wide, f.number(exponent, wide.type))), "float")
    else:
        result = _precise_power(f, magnitude, exponent)
    if exponent == int(exponent):
        return _flip(f, result, _sign_bit(f, x)) if int(exponent) % 2 else result
    without_root = f.compare("olt", x, 0.0) & f.compare("one", x, -math.inf)
    return f.select(without_root, f.number(math.nan, x.type), result)


def _precise_power(f: Function, x: Value, exponent: float) -> Value:
    """Return x ** exponent for doubles x >= 0, by a logarithm of twice the precision."""
    factor = math.copysign(min(abs(exponent), 2.0**70), exponent)  # as from there on, powers are 0, inf or those of 1
    high, low = _precise_log(f, x)
    p1, p2 = exact_product(f, high, f.number(factor, x.type))
    result = _exp(f, p1, f.multiply_add(low, f.number(factor, x.type), p2))
    # Where high + low overflows although high does not, exp gives nan.
    result = f.select(f.compare("uno", result, result), f.number(math.inf, x.type), result)
    at_zero, at_infinity = (f.zero(x.type), x) if exponent > 0 else (f.number(math.inf, x.type), f.number(1.0, x.type) / x)
    result = f.select(f.compare("olt", x, math.inf), result, at_infinity)  # inf and nan
    return f.select(f.compare("oeq", x, 0.0), at_zero, result)


def tensor_power(f: Function, x: Value, y: Value) -> Value:
    """Emit x ** y with the special values of ``np.power``, which are those of pow in C99."""
    single = element_of(x.type) == "float"
    base, exponent = (f.convert("fpext", one, "double") if single else one for one in (x, y))
    magnitude, one = absolute(f, base), f.number(1.0, base.type)
    result = exp(f, _product(f, log(f, magnitude), exponent)) if single else _precise_tensor_power(f, magnitude, exponent)
    is_one = f.compare("oeq", magnitude, 1.0) & f.compare("ord", exponent, exponent)
    result = f.select(is_one | f.compare("oeq", exponent, 0.0), one, result)
    whole, odd = _whole_and_odd(f, exponent)
    sign = f.select(odd, _sign_bit(f, base), f.zero(_bits(f, base).type))
    result = _flip(f, result, sign)
    without_root = f.compare("olt", base, 0.0) & f.compare("one", base, -math.inf) & f.compare("oeq", whole, 0.0)
    result = f.select(without_root, f.number(math.nan, base.type), result)
    result = f.select(f.compare("oeq", base, 1.0), one, result)
    return f.convert("fptrunc", result, "float") if single else result


def _precise_tensor_power(f: Function, x: Value, y: Value) -> Value:
    """Return x ** y for doubles x >= 0, as ``_precise_power`` does; undefined for x = 1 and for y = 0."""
    limit = 2.0**70
    factor = _at_most(f, y, limit)
    factor = f.select(f.compare("olt", factor, -limit), f.number(-limit, y.type), factor)
    high, low = _precise_log(f, x)
    p1, p2 = exact_product(f, high, factor)
    result = _exp(f, p1, f.multiply_add(low, factor, p2))
    infinite, zero = f.number(math.inf, x.type), f.zero(x.type)
    result = f.select(f.compare("uno", result, result), infinite, result)  # as in ``_precise_power``
    grows = f.compare("ogt", y, 0.0)
    result = f.select(f.compare("oeq", x, math.inf), f.select(grows, infinite, zero), result)
    result = f.select(f.compare("oeq", x, 0.0), f.select(grows, zero, infinite), result)
    return f.select(f.compare("uno", x, y), x + y, result)


def _whole_and_odd(f: Function, y: Value) -> tuple[Value, Value]:
    """Return 1.0 where doubles are whole numbers (infinity counts as such), else 0.0; and an i1 for whether they are odd."""
    magnitude = absolute(f, y)

    def is_whole(x: Value) -> Value:
        rounder = f.number(2.0**52, x.type)  # adding it rounds to a whole number; numbers from here on are whole
        return f.compare("oge", x, 2.0**52) | f.compare("oeq", (x + rounder) - rounder, x)

    whole = is_whole(magnitude)
    half = _product(f, magnitude, f.number(0.5, y.type))
    odd = whole & (is_whole(half) ^ 1)
    return f.select(whole, f.number(1.0, y.type), f.zero(y.type)), odd


# ---- sine and cosine


def _split_turns(f: Function, x: Value) -> tuple[Value, Value]:
    """Return r and q with x = q pi/2 + r and |r| <= pi/4, for x >= 0.

    q is an integer of the width of x, of which only the two lowest bits are right. A float is reduced as a double.
    """
    wide = f.convert("fpext", x, "double") if element_of(x.type) == "float" else x
    rounder = f.number(1.5 * 2.0**52, wide.type)
    shifted = f.multiply_add(wide, f.number(2 / math.pi, wide.type), rounder)
    quarters, r = shifted - rounder, wide
    for part in _format(x).half_pi:
        r = f.multiply_add(quarters, f.number(-part, r.type), r)
    r, quarter = _with_huge_turns(f, wide, r, f.convert("bitcast", shifted, "i64"))
    if wide is x:
        return r, quarter
    return f.convert("fptrunc", r, "float"), f.convert("trunc", quarter, "i32")


def _with_huge_turns(f: Function, x: Value, r: Value, quarter: Value) -> tuple[Value, Value]:
    """Return ``r`` and ``quarter``, corrected in the lanes with huge angles; these are rare, and are computed lane by lane."""
    huge = f.compare("oge", x, turns.HUGE) & f.compare("olt", x, math.inf)
    found, found_quarter = f.variable(r.type, r), f.variable(quarter.type, quarter)
    with f.when(f.any(huge)):
        angles, rests, quarters = f.variable(x.type, x), f.variable(r.type, r), f.variable(quarter.type, quarter)
        with f.loop(0, lanes_of(x.type)) as lane:
            angle = f.load(f.at(angles.place, lane, "double"), "double")
            with f.when(f.compare("oge", angle, turns.HUGE) & f.compare("olt", angle, math.inf)):
                rest, whole = turns.split_huge_turns(f, angle)
                f.store(rest, f.at(rests.place, lane, "double"))
                f.store(whole, f.at(quarters.place, lane, "i64"))
        found.set(rests.get())
        found_quarter.set(quarters.get())
    return found.get(), found_quarter.get()


def _sine_of_quarter(f: Function, r: Value, quarter: Value) -> Value:
    """Return sin(r + quarter pi/2) for |r| <= pi/4, from the polynomial of the sine or the cosine."""
    form, z = _format(r), _product(f, r, r)
    sine = f.multiply_add(_product(f, z, r), _polynomial(f, z, form.sin), r)
    cosine = f.multiply_add(z, f.number(-0.5, r.type), f.number(1.0, r.type))
    cosine = f.multiply_add(_product(f, z, z), _polynomial(f, z, form.cos), cosine)
    result = f.select(f.compare("ne", quarter & 1, 0), cosine, sine)
    return _flip(f, result, (quarter & 2) << (form.width - 2))


def sin(f: Function, x: Value) -> Value:
    """Emit sin x, x in radians; nan for inf."""
    r, quarter = _split_turns(f, absolute(f, x))
    return _flip(f, _sine_of_quarter(f, r, quarter), _sign_bit(f, x))


def cos(f: Function, x: Value) -> Value:
    """Emit cos x, x in radians; nan for inf."""
    r, quarter = _split_turns(f, absolute(f, x))
    return _sine_of_quarter(f, r, quarter + f.number(1, quarter.type))


def tan(f: Function, x: Value) -> Value:
    """Emit tan x, x in radians, as sin(r + q pi/2) / cos(r + q pi/2), where the cosine is the sine of a quarter turn more."""
    r, quarter = _split_turns(f, absolute(f, x))
    result = _sine_of_quarter(f, r, quarter) / _sine_of_quarter(f, r, quarter + f.number(1, quarter.type))
    return _flip(f, result, _sign_bit(f, x))


def atan(f: Function, x: Value) -> Value:
    """Emit the arc tangent, which changes its sign with x.

    For 0 <= x <= tan(pi/8) it is a polynomial, for x from there to tan(3 pi/8) pi/4 + atan((x - 1) / (x + 1)), and for larger x
    pi/2 - atan(1 / x).
    """
    magnitude = absolute(f, x)
    one = f.number(1.0, x.type)
    middle, large = (f.compare("ogt", magnitude, math.tan(eighths * math.pi / 8)) for eighths in (1, 3))
    numerator = f.select(large, -one, f.select(middle, magnitude - 1.0, magnitude))
    t = numerator / f.select(large, magnitude, f.select(middle, magnitude + 1.0, one))
    z = _product(f, t, t)
    part = f.multiply_add(_product(f, t, z), _polynomial(f, z, _format(x).atan), t)
    high, low = _quarter_pi(_format(x))

    def turned_by(angle: float) -> Value:
        return f.select(large, f.number(2 * angle, x.type), f.select(middle, f.number(angle, x.type), f.zero(x.type)))

    return _flip(f, turned_by(high) + (turned_by(low) + part), _sign_bit(f, x))


def _quarter_pi(form: _Format) -> tuple[float, float]:
    """Return pi/4 as the nearest number of the format, and the difference of pi/4 from it."""
    nearest = float(np.float32(math.pi / 4)) if form is _FLOAT else math.pi / 4
    return nearest, math.pi / 4 - nearest if form is _FLOAT else 3.061616997868383e-17
