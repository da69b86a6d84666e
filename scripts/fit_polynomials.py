"""Print the polynomial coefficients of ``chainrule.cpu.kernels.mathematics``, lowest power first, and how far they are off.

Weighted least squares at Chebyshev points, in 60 digits: close to the best there is in the largest error. Needs mpmath.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np

mp.mp.dps = 60
Real = Any
ALMOST_ZERO = mp.mpf(10) ** -15  # the quotients below have no value at 0 itself


def fit(function: Callable[[Real], Real], low: Real, high: Real, count: int, weight: Callable[[Real], Real]) -> list[Real]:
    """``count`` coefficients, for the smallest weighted error."""
    points = 8 * count if weight is mp.erfc else 6 * count
    places = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * points)) for k in range(points)]
    rows = mp.matrix(points, count)
    wanted = mp.matrix(points, 1)
    for i, x in enumerate(places):
        wanted[i] = weight(x) * function(x)
        for j in range(count):
            rows[i, j] = weight(x) * x**j
    return list(mp.qr_solve(rows, wanted)[0])


def print_fit(
    name: str, function: Callable[[Real], Real], low: Real, high: Real, count: int, dtype: str, weight: Callable[[Real], Real]
) -> None:
    coefficients = fit(function, low, high, count, weight)
    places = [low + (high - low) * k / 401 for k in range(1, 402)]
    error = max(abs(weight(x) * (mp.polyval(coefficients[::-1], x) - function(x))) for x in places)
    rounded = [str(np.dtype(dtype).type(float(one))) for one in coefficients]
    print(f"{name} {dtype}, error 2^{float(mp.log(error, 2)):.1f}: {', '.join(rounded)}")


def of_root(function: Callable[[Real], Real]) -> Callable[[Real], Real]:
    """A function of x as one of x^2."""
    return lambda z: function(mp.sqrt(z))


def one(x: Real) -> Real:
    return mp.mpf(1)


def artanh_rest(s: Real) -> Real:
    return (2 * mp.atanh(s) / s - 2) / s**2


def main() -> None:
    half = mp.log(2) / 2 * mp.mpf("1.001")
    root = (mp.sqrt(2) - 1) / (mp.sqrt(2) + 1) * mp.mpf("1.0001")
    eighth = (mp.pi / 4) ** 2 * mp.mpf("1.001")
    sine, cosine = of_root(lambda r: (mp.sin(r) / r - 1) / r**2), of_root(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4)
    tangent = (mp.sqrt(2) - 1) ** 2 * mp.mpf("1.0001")
    start = ALMOST_ZERO
    for dtype, counts in (("float32", (5, 4, 3, 3, 7, 7, 5)), ("float64", (11, 7, 6, 6, 12, 18, 11))):
        end = 4 if dtype == "float32" else 6
        print_fit("exp", lambda r: (mp.exp(r) - 1 - r) / r**2, -half, half, counts[0], dtype, one)
        print_fit("log", of_root(artanh_rest), mp.mpf(10) ** -20, root**2, counts[1], dtype, one)
        print_fit("sin", sine, start, eighth, counts[2], dtype, one)
        print_fit("cos", cosine, start, eighth, counts[3], dtype, one)
        print_fit("erf", of_root(lambda x: mp.erf(x) / x), start, mp.mpf(1), counts[4], dtype, one)
        print_fit("erfc", lambda x: -mp.log(mp.erfc(x)), mp.mpf(1), mp.mpf(end), counts[5], dtype, mp.erfc)
        print_fit("atan", of_root(lambda t: (mp.atan(t) / t - 1) / t**2), start, tangent, counts[6], dtype, one)
    precise = of_root(lambda s: (artanh_rest(s) - mp.mpf(2) / 3) / s**2)
    print_fit("log, twice the precision", precise, start, root**2, 8, "float64", one)


if __name__ == "__main__":
    main()
