"""Reduces huge angles to a quarter turn, with integer arithmetic.

A double is m 2^e with an integer m of 53 bits. In the product m 2^e 2/pi, the high bits of 2/pi contribute only multiples of 4,
that is, full turns, and do not matter; bits far behind the point are too small to matter. The 192 bits in between suffice to
compute the quarter and the rest of the angle, for every double (Payne and Hanek, "Radian reduction for trigonometric
functions", 1983).
"""

from __future__ import annotations

from itertools import pairwise

from chainrule.cpu.codegen.emit import Function, Value

HUGE = 2.0**20
"""Angles from here on count as huge."""

# the bits of 2/pi behind its point, after a word of zeros
_TWO_OVER_PI = (
    *(0, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0),
    *(0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4),
    *(0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D),
    *(0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB),
)
_HALF_PI = 0xC90FDAA22168C235  # pi/2 in units of 2^-63


def split_huge_turns(f: Function, x: Value) -> tuple[Value, Value]:
    """Return r (double) and q (i64) with x = q pi/2 + r and |r| <= pi/4, for a finite scalar double x >= ``HUGE``.

    Only the two lowest bits of q are right, as full turns are left out.
    """
    bits = f.convert("bitcast", x, "i64")
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    # x = m 2^(biased - 1075), so bit n of 2/pi, counted from 1, is worth 2^(biased - 1075 - n) in the product with m. Multiples
    # of 4 are full turns, so the first bit that matters is the one worth 2: bit biased - 1076.
    first = (bits >> 52) - 1013
    words = _words_from(f, first)
    whole, fraction = _fraction_of_product(f, mantissa, words)
    below = f.compare("slt", fraction, 0)
    size = f.select(below, -fraction, fraction)
    r = _times_half_pi(f, size)
    return f.select(below, -r, r), whole + f.convert("zext", below, "i64")


def _words_from(f: Function, first: Value) -> list[Value]:
    """Return 192 bits of the table from bit ``first`` on, as three words, the highest first."""
    table = Value(f, f.module.constant("two_over_pi", "i64", _TWO_OVER_PI), "ptr")
    begin, shift = f.at(table, first >> 6, "i64"), first & 63
    words = [f.load(f.at(begin, i, "i64"), "i64") for i in range(4)]
    return [f.call("llvm.fshl.i64", "i64", high, low, shift) for high, low in pairwise(words)]


def _fraction_of_product(f: Function, mantissa: Value, words: list[Value]) -> tuple[Value, Value]:
    """Return the product of mantissa and words, which is taken modulo 4 and has 190 bits behind the point, in two parts.

    The first part is the two bits before the point, an i64. The second is the fraction, a signed i128 in units of 2^-128: from
    1/2 on it is negative, and counts from the next integer downwards.
    """
    wide = f.convert("zext", mantissa, "i128")
    product: list[Value] = []  # from the lowest word up
    carry: Value | None = None
    for word in reversed(words):
        part = f.op(f"mul i128 {wide.text}, {f.convert('zext', word, 'i128').text}", "i128")
        part = part if carry is None else part + carry
        product.append(f.convert("trunc", part, "i64"))
        carry = part >> 64
    low, middle, high = product
    two = f.number(2, "i64")
    upper, lower = (f.call("llvm.fshl.i64", "i64", a, b, two) for a, b in ((high, middle), (middle, low)))
    fraction = (f.convert("zext", upper, "i128") << 64) | f.convert("zext", lower, "i128")
    return high >> 62, fraction


def _times_half_pi(f: Function, size: Value) -> Value:
    """Return size 2^-128 pi/2 as a double.

    The 64 highest bits of both factors are multiplied, and at least 61 bits of the product are converted.
    """
    zeros = f.call("llvm.ctlz.i128", "i128", size, f.number(0, "i1")) & 127
    highest = (size << zeros) >> 64
    product = f.op(f"mul i128 {highest.text}, {_HALF_PI}", "i128") >> 65
    scale = f.number(1023 - 62, "i64") - f.convert("trunc", zeros, "i64")  # an exponent
    number = f.convert("sitofp", f.convert("trunc", product, "i64"), "double")
    return f.op(f"fmul double {number.text}, {f.convert('bitcast', scale << 52, 'double').text}", "double")
