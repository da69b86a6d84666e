"""Sums of products by subscripts, such as ``einsum("bij,jk->bik", x, w)``, as transposes, matrix products and sums.

A *label* names an axis: a letter, or, for an axis that the ellipsis stands for, its number counted from the last of these.
Operands are contracted in pairs; the pair that takes the fewest multiplications comes first. Seen from a pair, a label is one
of four kinds: batch (of both operands, and needed later), inner (of both, and summed here), left or right (of one operand
only). A pair of floats with inner labels is one matrix product, (batch, left, inner) @ (batch, inner, right). Any other pair is
multiplied element by element.
"""

from __future__ import annotations

import itertools
import math
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from chainrule import ops
from chainrule.errors import UserError
from chainrule.graph import Node
from chainrule.graph.dtypes import bool_, is_float, promote
from chainrule.ops import compose

Label = str | int


@dataclass(frozen=True)
class _Term:
    """A node, and the labels of its axes."""

    node: Node
    labels: tuple[Label, ...]

    @property
    def sizes(self) -> dict[Label, int]:
        """The size of the axis of each label."""
        return dict(zip(self.labels, self.node.shape, strict=True))

    def in_order(self, labels: Sequence[Label]) -> Node:
        """The node with its axes in the order of ``labels``, all of which it has."""
        axes = tuple(self.labels.index(label) for label in labels)
        return self.node if axes == tuple(range(len(axes))) else ops.transpose(self.node, axes=axes)

    def summed(self, kept: Collection[Label]) -> _Term:
        """The sum over the axes whose labels are not ``kept``."""
        axes = tuple(axis for axis, label in enumerate(self.labels) if label not in kept)
        labels = tuple(label for label in self.labels if label in kept)
        return _Term(ops.sum_(self.node, axes=axes), labels) if axes else self


def einsum(subscripts: str, operands: Sequence[Node]) -> Node:
    """The sum of products that ``subscripts`` describe, in the dtype that the operands have in common.

    Raises:
        UserError: ``subscripts`` cannot be read, or the operands do not fit them.
    """
    inputs, output = _read(subscripts, operands)
    dtype = promote(*(node.dtype for node in operands))
    if dtype == bool_:
        raise UserError("einsum: is not defined for bool: cast to int32 first to count, or to float32")
    pairs = zip(operands, inputs, strict=True)
    terms = [_with_distinct_labels(subscripts, compose.to_dtype(node, dtype), labels) for node, labels in pairs]
    sizes = _sizes(subscripts, terms)
    terms = [_without_stretched_axes(term, sizes) for term in terms]
    while len(terms) > 1:
        first, second = min(itertools.combinations(terms, 2), key=_multiplications)
        rest = [term for term in terms if term is not first and term is not second]
        needed = {*output, *(label for term in rest for label in term.labels)}
        terms = [_contracted(first, second, needed), *rest]
    return terms[0].summed(output).in_order(output)


# ---- subscripts


def _read(subscripts: str, operands: Sequence[Node]) -> tuple[list[tuple[Label, ...]], tuple[Label, ...]]:
    """The labels of each operand and of the output."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    texts = left.split(",")
    for text in (*texts, right):
        letters = text.replace("...", "", 1)
        if not all(letter in string.ascii_letters for letter in letters):
            raise UserError(
                f"einsum: {subscripts!r} cannot be read: subscripts are letters, an ellipsis (...) once for each operand, "
                "commas and one arrow (->)"
            )
    if len(texts) != len(operands):
        raise UserError(f"einsum: {subscripts!r} describes {len(texts)} operands, got {len(operands)}")
    inputs = [_labels(subscripts, text, node, place) for place, (text, node) in enumerate(zip(texts, operands, strict=True))]
    hidden = sorted({label for labels in inputs for label in labels if isinstance(label, int)}, reverse=True)
    if not arrow:
        letters = "".join(text.replace("...", "") for text in texts)
        return inputs, (*hidden, *sorted(letter for letter in set(letters) if letters.count(letter) == 1))
    before, dots, after = right.partition("...")
    if hidden and not dots:
        raise UserError(f"einsum: the output of {subscripts!r} lacks the axes of the ellipsis: write ... in it")
    output = (*before, *(hidden if dots else ()), *after)
    for label in output:
        if output.count(label) > 1:
            raise UserError(f"einsum: label {label!r} is twice in the output of {subscripts!r}")
        if not any(label in labels for labels in inputs):
            raise UserError(f"einsum: label {label!r} in the output of {subscripts!r} is in no input")
    return inputs, output


def _labels(subscripts: str, text: str, node: Node, place: int) -> tuple[Label, ...]:
    """The labels of the operand at ``place`` that the part ``text`` of the subscripts describes."""
    before, dots, after = text.partition("...")
    hidden = node.ndim - len(before) - len(after)
    if hidden < 0 or (hidden and not dots):
        raise UserError(
            f"einsum: operand {place} of {subscripts!r} is {node.type}, with {node.ndim} axes, but {text!r} names "
            f"{len(before) + len(after)}"
        )
    return (*before, *reversed(range(hidden)), *after)


# ---- operands


def _with_distinct_labels(subscripts: str, node: Node, labels: tuple[Label, ...]) -> _Term:
    """The term in which a label that ``labels`` have several times stands once, for the diagonal of its axes."""
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            size, other = node.shape[first], node.shape[second]
            if size != other:
                raise UserError(f"einsum: label {label!r} of {subscripts!r} stands for axes of {size} and {other} elements")
            rest = [axis for axis in range(node.ndim) if axis not in (first, second)]
            matrices = ops.transpose(node, axes=(*rest, first, second))
            shape = tuple(node.shape[axis] for axis in rest)
            rows = compose.to_shape(matrices, (*shape, size * size))  # in which each (size + 1)th element is on the diagonal
            starts, steps = (0,) * len(rows.shape), (*(1,) * len(shape), size + 1)
            node = ops.slice_(rows, start=starts, stop=rows.shape, step=steps)
            labels = (*(labels[axis] for axis in rest), label)
    return _Term(node, labels)


def _sizes(subscripts: str, terms: Sequence[_Term]) -> dict[Label, int]:
    """The size of each label. An axis of size 1 goes with any other size, as in broadcasting."""
    sizes: dict[Label, int] = {}
    for term in terms:
        for label, size in term.sizes.items():
            have = sizes.setdefault(label, size)
            if have == 1:
                sizes[label] = size
            elif size not in (1, have):
                what = "the ellipsis" if isinstance(label, int) else f"label {label!r}"
                raise UserError(f"einsum: {what} of {subscripts!r} stands for axes of {have} and {size} elements")
    return sizes


def _without_stretched_axes(term: _Term, sizes: dict[Label, int]) -> _Term:
    """The term without axes of size 1 that are broadcast against a larger one: its numbers do not depend on them."""
    labels = tuple(label for label, size in term.sizes.items() if size == sizes[label])
    return _Term(compose.to_shape(term.node, tuple(sizes[label] for label in labels)), labels)


# ---- pairs


def _multiplications(pair: tuple[_Term, _Term]) -> int:
    """How many products of two elements the pair takes."""
    return math.prod({**pair[0].sizes, **pair[1].sizes}.values())


def _contracted(first: _Term, second: _Term, needed: Collection[Label]) -> _Term:
    """The product of two terms, summed over all labels that are not ``needed``."""
    first = first.summed({*needed, *second.labels})
    second = second.summed({*needed, *first.labels})
    sizes = {**first.sizes, **second.sizes}
    shared = [label for label in first.labels if label in second.labels]
    batch = [label for label in shared if label in needed]
    inner = [label for label in shared if label not in needed]
    left = [label for label in first.labels if label not in shared]
    right = [label for label in second.labels if label not in shared]
    labels = (*batch, *left, *right)

    def count(of: Sequence[Label]) -> int:
        return math.prod(sizes[label] for label in of)

    if inner and is_float(first.node.dtype):
        batches = (count(batch),) if batch else ()
        a = compose.to_shape(first.in_order([*batch, *left, *inner]), (*batches, count(left), count(inner)))
        b = compose.to_shape(second.in_order([*batch, *inner, *right]), (*batches, count(inner), count(right)))
        product = compose.product(a, b)
        return _Term(compose.to_shape(product, tuple(sizes[label] for label in labels)), labels)
    every = (*labels, *inner)
    shape = tuple(sizes[label] for label in every)
    a, b = (_along(term, every, shape) for term in (first, second))
    return _Term(ops.multiply(a, b), every).summed(labels)


def _along(term: _Term, labels: Sequence[Label], shape: tuple[int, ...]) -> Node:
    """The node of ``term`` repeated along the axes of ``labels`` that it lacks."""
    node = term.in_order([label for label in labels if label in term.labels])
    missing = tuple(axis for axis, label in enumerate(labels) if label not in term.labels)
    return ops.broadcast(node, shape=shape, axes=missing) if missing else node
