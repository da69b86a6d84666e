"""The matrices of Winograd's minimal filtering for windows of three taps, and the code that multiplies by them.

F(m x m, 3 x 3) computes m x m output pixels from an image tile d of a x a pixels (a = m + 2) and a window g of 3 x 3 taps:

    Y = A^T [ (G g G^T) . (B^T d B) ] A

"." multiplies element by element, so this takes a * a products where the direct sum takes 9 * m * m: for m = 4, 36 instead of
144; for m = 2, 16 instead of 36. The gradient of g follows by transposition of the same bilinear form, where y is the gradient
of Y:

    G^T [ (B^T d B) . (A y A^T) ] G

The a * a elements of a transformed tile are called *frequencies*.

See Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks" (2016), section 4, for the algorithm. For m = 4 they
interpolate at 0, 1, -1, 2, -2 and infinity. The points here take as many instructions, and the largest error in float32 is a
fourth of theirs (see Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution for Deep Neural
Networks", 2020, on the choice of points).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from chainrule.cpu.codegen.emit import Function, Value

Matrix = tuple[tuple[Fraction, ...], ...]

POINTS = {2: [Fraction(0), Fraction(1), Fraction(-1)], 4: [Fraction(text) for text in ("0", "5/8", "-5/8", "3/2", "-3/2")]}
"""The points at which polynomials are interpolated, besides infinity, by m."""


def _with_roots(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of all (x - root), from the constant up."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [s - root * c for s, c in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients


def _image_matrix(points: Sequence[Fraction]) -> Matrix:
    """Return B^T: for each point the coefficients of the product over the other points; last, that over all points."""
    rows = [[*_with_roots([other for other in points if other != point]), Fraction(0)] for point in points]
    return tuple(tuple(row) for row in [*rows, _with_roots(points)])


def _window_matrix(points: Sequence[Fraction]) -> Matrix:
    """Return G: for each point its powers, divided by the product of its differences to the other points; last, infinity."""
    scales = [1 / math.prod((point - other for other in points if other != point), start=Fraction(1)) for point in points]
    rows = [tuple(scale * point**k for k in range(3)) for scale, point in zip(scales, points, strict=True)]
    return (*rows, (Fraction(0), Fraction(0), Fraction(1)))


def _output_matrix(points: Sequence[Fraction]) -> Matrix:
    """Return A^T: a row for each power k, with the k-th power of each point; the point infinity has the highest power only."""
    count = len(points) - 1
    return tuple((*(point**k for point in points), Fraction(k == count - 1)) for k in range(count))


def transposed(matrix: Matrix) -> Matrix:
    """Return the transpose of a matrix."""
    return tuple(zip(*matrix, strict=True))


B_T = {m: _image_matrix(points) for m, points in POINTS.items()}
"""B^T, the transform of the image, a x a, by m."""
G = {m: _window_matrix(points) for m, points in POINTS.items()}
"""G, the transform of the window, a x 3, by m."""
A_T = {m: _output_matrix(points) for m, points in POINTS.items()}
"""A^T, the transform of the products to output pixels, m x a, by m."""


def transform(f: Function, matrix: Matrix, values: Sequence[Value]) -> list[Value]:
    """Emit ``matrix`` times the column ``values``, in few instructions; returns the elements of the product.

    The points of interpolation come in pairs p and -p, so rows and columns come in pairs that differ only in signs. Two such
    columns are replaced by columns for the sum and the difference of their values. Two such rows are an even part plus an odd
    part, and the even part minus the odd part.
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
    """Return the part of ``row`` that ``following`` has with opposite sign; None if they do not differ in just some signs."""
    if any(abs(one) != abs(other) for one, other in zip(row, following, strict=True)):
        return None
    odd = [one if one != other else Fraction(0) for one, other in zip(row, following, strict=True)]
    return odd if any(odd) and list(row) != odd else None


def _scale(row: Sequence[Fraction]) -> Fraction:
    """Return an element of ``row`` by which to divide the row.

    If possible, it is one for which all quotients are exact in binary, so that they need no rounding.
    """
    numbers = [one for one in row if one]
    exact = (scale for scale in numbers if all((one / scale).denominator.bit_count() == 1 for one in numbers))
    return next(exact, numbers[0])


def _merge_columns(f: Function, matrix: Matrix, values: list[Value]) -> tuple[Matrix, list[Value]]:
    """Replace pairs of columns that differ only in signs by columns for the sum and the difference of their values."""
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
    """Emit the sum of ``values`` times ``factors``, at least one of which is not 0."""
    terms = [(factor, value) for factor, value in zip(factors, values, strict=True) if factor]
    terms.sort(key=lambda term: term[0] != 1)  # a term with factor 1 first, as it needs no instruction; the sort is stable
    factor, total = terms[0]
    if factor == -1:
        total = -total
    elif factor != 1:
        total = f.number(float(factor), total.type) * total  # type: ignore[assignment]
    for factor, value in terms[1:]:
        total = _add(f, total, factor, value)
    return total


def _add(f: Function, total: Value, factor: Fraction, value: Value) -> Value:
    """Emit total + factor * value."""
    if factor == 1:
        return total + value
    if factor == -1:
        return total - value
    return f.multiply_add(f.number(float(factor), value.type), value, total)
