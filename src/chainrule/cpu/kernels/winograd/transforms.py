"""The matrices of Winograd's minimal filtering for windows of three taps, and the instructions that multiply by them.

F(m x m, 3 x 3) makes m x m output pixels from an image tile d of a x a pixels, a = m + 2, and a window g of 3 x 3 taps:

    Y = A^T [ (G g G^T) . (B^T d B) ] A

with a * a products, "." element by element, where the direct sum takes 9 * m * m: 36 for 144, or 16 for 36. The gradient of g
is the same bilinear form read the other way: G^T [ (B^T d B) . (A y A^T) ] G. See Lavin and Gray, "Fast Algorithms for
Convolutional Neural Networks" (2016), section 4, for the algorithm. For m = 4 they interpolate at 0, 1, -1, 2, -2 and infinity;
the points here make the largest error in float32 a fourth of that, with as many instructions (see Barabasz et al., "Error
Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural Networks", 2020, on the choice of points).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from chainrule.cpu.codegen.emit import Function, Value

Matrix = tuple[tuple[Fraction, ...], ...]

POINTS = {2: [Fraction(0), Fraction(1), Fraction(-1)], 4: [Fraction(text) for text in ("0", "5/8", "-5/8", "3/2", "-3/2")]}
"""Where polynomials are interpolated, besides infinity, by m."""


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """The coefficients of the product of (x - root), the constant one first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _image_matrix(points: Sequence[Fraction]) -> Matrix:
    rows = [[*_with_roots([other for other in points if other != point]), Fraction(0)] for point in points]
    return tuple(tuple(row) for row in [*rows, _with_roots(points)])


def _window_matrix(points: Sequence[Fraction]) -> Matrix:
    scales = [1 / math.prod((point - other for other in points if other != point), start=Fraction(1)) for point in points]
    rows = [tuple(scale * point**k for k in range(3)) for scale, point in zip(scales, points, strict=True)]
    return (*rows, (Fraction(0), Fraction(0), Fraction(1)))


def _output_matrix(points: Sequence[Fraction]) -> Matrix:
    count = len(points) - 1
    return tuple((*(point**k for point in points), Fraction(k == count - 1)) for k in range(count))


def transposed(matrix: Matrix) -> Matrix:
    return tuple(zip(*matrix, strict=True))


B_T = {m: _image_matrix(points) for m, points in POINTS.items()}
"""The transform of the image, by m: a x a."""
G = {m: _window_matrix(points) for m, points in POINTS.items()}
"""The transform of the window, by m: a x 3."""
A_T = {m: _output_matrix(points) for m, points in POINTS.items()}
"""The transform of the products to output pixels, by m: m x a."""


def transform(f: Function, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """``matrix`` times the column ``values``, in few instructions.

    The points of interpolation are p and -p in pairs, so rows and columns come in pairs that differ in signs only: two such
    columns meet the sum and the difference of their values, two such rows are an even part plus and minus an odd one.
    """
    matrix, values = _merge_columns(f, matrix, list(values))
    results: list[Value] = []
    while len(results) < len(matrix):
        row = matrix[len(results)]
        odd = _odd_part(row, matrix[len(results) + 1]) if len(results) + 1 < len(matrix) else None
        if odd is None:
            results.append(_combination(f, row, values))
            continue
        scale = _scale(odd)
        even_value = _combination(f, [one - other for one, other in zip(row, odd, strict=True)], values)
        odd_value = _combination(f, [one / scale for one in odd], values)
        results += [_add(f, even_value, scale, odd_value), _add(f, even_value, -scale, odd_value)]
    return results


def _odd_part(row: Sequence[Fraction], following: Sequence[Fraction]) -> list[Fraction] | None:
    """The part of ``row`` that ``following`` has with the other sign; None unless the rest is the same in both."""
    if any(abs(one) != abs(other) for one, other in zip(row, following, strict=True)):
        return None
    odd = [one if one != other else Fraction(0) for one, other in zip(row, following, strict=True)]
    return odd if any(odd) and list(row) != odd else None


def _scale(row: Sequence[Fraction]) -> Fraction:
    """A number of ``row`` to divide it by, so that none needs rounding in binary, if there is one."""
    numbers = [one for one in row if one]
    exact = (scale for scale in numbers if all((one / scale).denominator.bit_count() == 1 for one in numbers))
    return next(exact, numbers[0])


def _merge_columns(f: Function, matrix: Matrix, values: list[Value]) -> tuple[Matrix, list[Value]]:
    columns = list(transposed(matrix))
    merged_columns: list[tuple[Fraction, ...]] = []
    merged: list[Value] = []
    j = 0
    while j < len(columns):
        pair = columns[j : j + 2]
        if len(pair) == 2 and all(abs(a) == abs(b) for a, b in zip(*pair, strict=True)):
            first, second = pair
            merged_columns.append(tuple(a if a == b else Fraction(0) for a, b in zip(first, second, strict=True)))
            merged_columns.append(tuple(a if a != b else Fraction(0) for a, b in zip(first, second, strict=True)))
            merged += [values[j] + values[j + 1], values[j] - values[j + 1]]
            j += 2
        else:
            merged_columns.append(columns[j])
            merged.append(values[j])
            j += 1
    return transposed(tuple(merged_columns)), merged


def _combination(f: Function, factors: Sequence[Fraction], values: Sequence[Value]) -> Value:
    """The sum of ``values`` times ``factors``, of which one at least is not zero."""
    terms = [(factor, value) for factor, value in zip(factors, values, strict=True) if factor]
    terms.sort(key=lambda term: term[0] != 1)  # stable: a term that needs no instruction comes first
    factor, total = terms[0]
    if factor == -1:
        total = -total
    elif factor != 1:
        total = f.number(float(factor), total.type) * total  # type: ignore[assignment]
    for factor, value in terms[1:]:
        total = _add(f, total, factor, value)
    return total


def _add(f: Function, total: Value, factor: Fraction, value: Value) -> Value:
    """total + factor * value."""
    if factor == 1:
        return total + value
    if factor == -1:
        return total - value
    return f.multiply_add(f.number(float(factor), value.type), value, total)
