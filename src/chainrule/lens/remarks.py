"""What is remarkable about an explained computation: numbers that are not finite, and where gradients end."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.lens import numbers
from chainrule.lens.describe import product_text, upstream_text
from chainrule.lens.rows import Row


def remarks(rows: Sequence[Row]) -> list[str]:
    """Sentences about the first value and the first gradient that are not finite, and about each place where gradients end."""
    return [*_first_value(rows), *_first_gradient(rows), *_dead_ends(rows)]


def _first_value(rows: Sequence[Row]) -> list[str]:
    row_of = {row.node: row for row in rows}
    for row in rows:
        if numbers.all_finite(row.value):
            continue
        value = numbers.brief(row.value)
        if not row.formula:
            return [f"{row.name} = {value} is not finite{_at(row) or ': it was passed in'}"]
        given = [row_of[one] for one in dict.fromkeys(row.node.inputs) if one in row_of]
        there = ", ".join(f"{one.name} = {numbers.brief(one.value)}" for one in given)
        inputs = f"; there, {there}" if there else ""
        return [f"{row.name} = {row.formula} = {value} is the first value that is not finite{inputs}{_at(row)}"]
    return []


def _first_gradient(rows: Sequence[Row]) -> list[str]:
    for row in reversed(rows):
        if row.upstream is not None and not numbers.all_finite(
            row.upstream
        ):  # though all summands are: see the end of the loop
            return [
                f"going backwards, the gradient for {row.name} is the first that is not finite: {upstream_text(row)}{_at(row)}"
            ]
        for edge in row.edges:
            if not numbers.all_finite(edge.downstream):
                return [
                    f"going backwards, the gradient for {edge.name} at {row.name} = {row.formula} is the first that is not "
                    f"finite: {product_text(row, edge)}{_at(row)}"
                ]
    return []


def _dead_ends(rows: Sequence[Row]) -> list[str]:
    """Where a gradient that is not 0 arrives and nothing but zeros leaves."""
    found = []
    for row in reversed(rows):
        arrives = row.upstream is not None and row.upstream.any()
        if arrives and row.edges and not any(edge.downstream.any() for edge in row.edges):
            inputs = " and ".join(edge.name for edge in row.edges)
            found.append(f"the gradient ends at {row.name} = {row.formula}: its local gradient for {inputs} is 0{_at(row)}")
    return found


def _at(row: Row) -> str:
    return f" (in {row.module} at {row.line})" if row.module and row.line else f" (in {row.module})" if row.module else ""
