"""An explanation as text that fits a width: a table if it fits, else a block of lines for each node."""

from __future__ import annotations

from collections.abc import Sequence

from chainrule.graph.fitting import Column, fitted_table, left_out_note
from chainrule.graph.names import display_width
from chainrule.graph.wrapping import wrapped
from chainrule.lens import numbers
from chainrule.lens.describe import local_text, slope, upstream_text
from chainrule.lens.rows import Row

HEADER = ("node", "formula", "role", "value", "upstream", "local gradient", "downstream")


def cells(rows: Sequence[Row]) -> tuple[list[str], list[list[str]]]:
    """Header and lines of a table: a line per node and input, what concerns the node only in its first line."""
    layers = any(row.module for row in rows)
    lines = []
    for row in rows:
        about = [row.name, row.formula or row.operation, row.role.value, numbers.text(row.value), upstream_text(row)]
        passes = [[local_text(row, edge), numbers.brief(edge.downstream)] for edge in row.edges] or [["", ""]]
        for line, passed in enumerate(passes):
            place = [row.module if line == 0 else ""] if layers else []
            lines.append([*(about if line == 0 else [""] * len(about)), *passed, *place])
    return [*HEADER, "layer"] if layers else [*HEADER], lines


def text(rows: Sequence[Row], error: str, notes: Sequence[str], width: int | None) -> str:
    """The explanation in lines of at most ``width``; the table leaves the roles out if that makes it fit."""
    header, lines = cells(rows)
    columns = [Column(name, column) for name, *column in zip(header, *lines, strict=True)]
    head, body, left = fitted_table(columns, width, least=("role",))
    if not head:
        body = [line for row in rows for line in _block(row, error, width)]
    said = [f"note: {note}" for note in notes]
    if left:
        said.append(left_out_note(left))
    return "\n".join([*head, *body, *(line for one in said for line in wrapped(one, width))])


def _block(row: Row, error: str, width: int | None) -> list[str]:
    """``h1 = w @ x = 11 (switcher)``, and below it upstream, local and downstream gradients."""
    formula = f"{row.formula} = " if row.formula else ""
    place = f", layer {row.module}" if row.module else ""
    *first, last = equation(f"{row.name} = {formula}{numbers.text(row.value)}", width)
    role = f"({row.role.value}{place})"
    fits = width is None or display_width(f"{last}  {role}") <= width
    lines = [*first, f"{last}  {role}"] if fits else [*first, last, *wrapped(role, width, "  ")]
    if row.upstream is not None:
        lines += equation(f"upstream {slope(error, row.name)} = {upstream_text(row)}", width, "  ")
    for edge in row.edges:
        lines += equation(f"local {local_text(row, edge)}", width, "  ")
        lines += wrapped(f"downstream {numbers.brief(edge.downstream)}", width, "    ")
    return lines


def equation(line: str, width: int | None, indent: str = "") -> list[str]:
    """``line``, broken before equals signs if it is too wide, and between words if that is not enough."""
    if width is None or display_width(indent + line) <= width:
        return [indent + line]
    first, *others = line.split(" = ")
    lines = wrapped(first, width, indent)
    whole = len(lines) == 1
    for one in others:
        joined = f"{lines[-1]} = {one}"
        if whole and display_width(joined) <= width:
            lines[-1] = joined
        else:
            parts = wrapped(f"= {one}", width, f"{indent}  ")
            lines += parts
            whole = len(parts) == 1  # after a part that took several lines, the next part begins on a new line
    return lines
