"""Rows and edges in words, and as plain data."""

from __future__ import annotations

from typing import Any

from chainrule.grad import LocalKind
from chainrule.graph import PARAMETER, Array, Node
from chainrule.lens import numbers
from chainrule.lens.rows import Edge, Row

MOST_ON_EDGE = 24  # characters beside an edge of a drawing


def slope(of: str, by: str) -> str:
    """How the derivative of ``of`` with respect to ``by`` is written: ``de/dw``."""
    return f"d{of}/d{by}"


def in_sum(term: str) -> str:
    """A term as it is written after a plus sign: in parentheses if it begins with a minus."""
    return f"({term})" if term.startswith("-") else term


def upstream_text(row: Row) -> str:
    """The upstream gradient: ``36``; if several nodes use the value, with what comes back from each: ``9 = 3 + 4 + 2``."""
    if row.upstream is None:
        return ""
    total = numbers.brief(row.upstream)
    if len(row.summands) < 2:
        return total
    terms = " + ".join(in_sum(numbers.brief(one.gradient)) for one in row.summands)
    small = row.upstream.size <= numbers.MOST_NUMBERS and len(terms) <= 60
    return f"{total} = {terms}" if small else f"{total} (sum of {len(row.summands)})"


def local_text(row: Row, edge: Edge) -> str:
    """``dh1/dw = x = [3, 4]``: the formula and, where they are few, the numbers; else the kind."""
    words = f"{slope(row.name, edge.name)} = {edge.formula}"
    if edge.kind is LocalKind.CONSTANT or _is_number(edge.formula):
        return words
    found = _local_numbers(edge)
    if not found:
        return f"{words} ({edge.kind.value})"
    return f"{words}: {found}" if " where " in words or " at " in words else f"{words} = {found}"


def product_text(row: Row, edge: Edge) -> str:
    """The product on the way back along an edge in words: upstream, local and downstream gradient."""
    assert row.upstream is not None  # such a node has an edge
    local = _local_numbers(edge) or edge.formula
    return f"upstream {numbers.brief(row.upstream)}, local gradient {local}, downstream {numbers.brief(edge.downstream)}"


def on_edge(gradient: Array) -> str:
    """A gradient as briefly as it must be written beside an edge of a drawing."""
    short = numbers.brief(gradient, MOST_ON_EDGE)
    return short if len(short) <= MOST_ON_EDGE else short.split(",")[0]


def _is_number(formula: str) -> bool:
    try:
        float(formula)
    except ValueError:
        return False
    return True


def _local_numbers(edge: Edge) -> str:
    """The numbers of the local gradient; empty if they are too many, or have more than two axes."""
    whole = not edge.elementwise and edge.node.size > 1  # a Jacobian with a row per output
    size = edge.input.size * (edge.node.size if whole else 1)
    rank = edge.input.ndim + (edge.node.ndim if whole else 0)
    if size > numbers.MOST_NUMBERS or rank > 2:
        return ""
    local = edge.local
    return "" if local is None else numbers.text(local)


def row_to_json(row: Row, row_of: dict[Node, Row]) -> dict[str, Any]:
    """A row, with its edges, as JSON has it."""
    return {
        "index": row.index,
        "name": row.name,
        "label": row.node.label,
        "operation": row.operation,
        "role": row.role.value,
        "formula": row.formula,
        "parameter": row.node.operation is PARAMETER,
        "inputs": [row_of[one].index for one in row.node.inputs if one in row_of],
        "module": row.module,
        "line": row.line,
        "value": numbers.plain(row.value),
        "upstream": None if row.upstream is None else numbers.plain(row.upstream),
        "summands": [{"from": one.name, "gradient": numbers.plain(one.gradient)} for one in row.summands],
        "edges": [_edge_to_json(edge, row_of) for edge in row.edges],
    }


def _edge_to_json(edge: Edge, row_of: dict[Node, Row]) -> dict[str, Any]:
    small = edge.input.size * (1 if edge.elementwise else edge.node.size) <= numbers.MOST_NUMBERS
    local = edge.local if small else None
    return {
        "input": row_of[edge.input].index,
        "name": edge.name,
        "formula": edge.formula,
        "kind": edge.kind.value,
        "local": None if local is None else numbers.plain(local),
        "downstream": numbers.plain(edge.downstream),
    }
