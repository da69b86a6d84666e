"""Quarter turns of huge angles, by whole numbers.

A double is m 2^e with a whole m of 53 bits. Of 2/pi, the bits that make multiples of 4 of m 2^e 2/pi do not matter, and those
far behind the point do not reach the result: 192 bits in between tell how far into which quarter the angle is, for every
double (Payne and Hanek, "Radian reduction for trigonometric functions", 1983).
"""

from __future__ import annotations

from itertools import pairwise

from chainrule.cpu.codegen.emit import Function, Value

HUGE = 2.0**20
"""Angles from here on are huge."""

# the bits of 2/pi, behind one word of zeros
_TWO_OVER_PI = (
    *(0, 0xA2F9836E4E441529, 0xFC2757D1F534DDC0, 0xDB6295993C439041, 0xFE5163ABDEBBC561, 0xB7246E3A424DD2E0),
    *(0x06492EEA09D1921C, 0xFE1DEB1CB129A73E, 0xE88235F52EBB4484, 0xE99C7026B45F7E41, 0x3991D639835339F4),
    *(0x9C845F8BBDF9283B, 0x1FF897FFDE05980F, 0xEF2F118B5A0A6D1F, 0x6D367ECF27CB09B7, 0x4F463F669E5FEA2D),
    *(0x7527BAC7EBE5F17B, 0x3D0739F78A5292EA, 0x6BFB5FB11F8D5D08, 0x56033046FC7B6BAB),
)
_HALF_PI = 0xC90FDAA22168C235  # in 2^-63


def split_huge_turns(f: Function, x: Value) -> tuple[Value, Value]:
    """x = q pi/2 + r, |r| <= pi/4, for one finite double from ``HUGE`` on: r, and q, of which the two lowest bits count."""
    bits = f.convert("bitcast", x, "i64")
    mantissa = (bits & ((1 << 52) - 1)) | (1 << 52)
    # m 2^(biased - 1075): the first bit of 2/pi that counts becomes 2, so it is bit biased - 1076, counted from 1
    first = (bits >> 52) - 1013
    words = _words_from(f, first)
    whole, fraction = _fraction_of_product(f, mantissa, words)
    below = f.compare("slt", fraction, 0)
    size = f.select(below, -fraction, fraction)
    r = _times_half_pi(f, size)
    return f.select(below, -r, r), whole + f.convert("zext", below, "i64")


def _words_from(f: Function, first: Value) -> list[Value]:
    """Three words of the table from bit ``first`` on, the highest first."""
    table = Value(f, f.module.constant("two_over_pi", "i64", _TWO_OVER_PI), "ptr")
    begin, shift = f.at(table, first >> 6, "i64"), first & 63
    words = [f.load(f.at(begin, i, "i64"), "i64") for i in range(4)]
    return [f.call("llvm.fshl.i64", "i64", high, low, shift) for high, low in pairwise(words)]


def _fraction_of_product(f: Function, mantissa: Value, words: list[Value]) -> tuple[Value, Value]:
    """mantissa * words is a number below 4, with 190 bits behind the point: its two bits before the point, and 128 behind it
    as a number with a sign, in 2^-128, so that from 1/2 on it counts from the next whole number downwards."""
    wide = f.convert("zext", mantissa, "i128")
    product: list[Value] = []  # the lowest word first
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
    """size 2^-128 pi/2, rounded: the 64 highest bits of each, multiplied, and 61 or more of the product."""
    zeros = f.call("llvm.ctlz.i128", "i128", size, f.number(0, "i1")) & 127
    highest = (size << zeros) >> 64
    product = f.op(f"mul i128 {highest.text}, {_HALF_PI}", "i128") >> 65
    scale = f.number(1023 - 62, "i64") - f.convert("trunc", zeros, "i64")  # an exponent
    number = f.convert("sitofp", f.convert("trunc", product, "i64"), "double")
    return f.op(f"fmul double {number.text}, {f.convert('bitcast', scale << 52, 'double').text}", "double")
