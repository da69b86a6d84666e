"""An explanation folded by layer: a line for each call of a layer, with the sizes of what leaves it, of the gradient that
arrives there, and of the gradients of its parameters. One layer at a time unfolds to its nodes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from chainrule.arguments import explained_methods
from chainrule.errors import unknown_value
from chainrule.graph import PARAMETER, Array, Graph, Node
from chainrule.graph.groups import module_groups
from chainrule.graph.tables import Contents
from chainrule.lens import numbers, rendering
from chainrule.lens.rows import Row

HEADER = ("layer", "kind", "nodes>", "shape", "|value|>", "|upstream|>", "|gradients| of parameters")
_MEANING = "|.| is the mean of absolute values; upstream is the gradient of the error with respect to what leaves the layer"


@explained_methods
@dataclass(frozen=True, eq=False, repr=False)
class LayerRows:
    """What is known about a call of a layer, or about a node outside of layers.

    Attributes:
        path: that of the layer in the model, with the number of the call where there are several; the node's name outside.
        kind: the class of the layer; the formula of a node outside.
        rows: its nodes, in forward order.
        leaving: those of them that something outside of it reads, or that are the error.
    """

    path: str
    kind: str
    rows: tuple[Row, ...]
    leaving: tuple[Row, ...]

    def __repr__(self) -> str:
        return f"<LayerRows {self.path}: {len(self.rows)} nodes>"

    @property
    def parameters(self) -> list[Row]:
        """Its parameters at which a gradient arrives."""
        return [row for row in self.rows if row.node.operation is PARAMETER and row.upstream is not None]

    def __str__(self) -> str:
        return self.table()

    def table(self, width: int | None = None) -> str:
        """Its nodes, as an explanation shows them."""
        return rendering.text(self.rows, "e", [], width)

    def cells(self) -> tuple[str, ...]:
        """The line of the table of layers."""
        gradients = ", ".join(f"{row.name.removeprefix(f'{row.module}.')} {_size(row.upstream)}" for row in self.parameters)
        return (
            self.path,
            self.kind,
            str(len(self.rows)),
            "; ".join("x".join(map(str, row.value.shape)) or "a number" for row in self.leaving),
            "; ".join(_size(row.value) for row in self.leaving),
            "; ".join(_size(row.upstream) for row in self.leaving if row.upstream is not None),
            gradients,
        )


def _size(values: Array | None) -> str:
    """The mean of absolute values, and how many are not finite."""
    if values is None or not values.size:
        return ""
    finite = np.isfinite(values)
    size = numbers.number(float(np.abs(values[finite].astype(np.float64)).mean()), 3) if finite.any() else ""
    bad = int(values.size - finite.sum())
    return ", ".join(filter(None, [size, f"{bad:,} not finite" if bad else ""]))


def folded(graph: Graph, row_of: Mapping[Node, Row]) -> list[LayerRows]:
    """The calls of layers of a graph, and the nodes outside of them, in forward order."""
    consumers, groups = graph.consumers(), module_groups(graph)
    calls, seen = Counter(group.path for group in groups), Counter[str]()
    found = []
    for group in groups:
        rows = tuple(row_of[node] for node in group.nodes if node in row_of)
        if not rows:
            continue
        members = set(group.nodes)
        leaving = tuple(
            row
            for row in rows
            if not row.node.is_leaf or not group.path
            if row.node in graph.outputs or any(user not in members for user in consumers[row.node])
        )
        if not group.path:
            found.append(LayerRows(rows[0].name, rows[0].formula or rows[0].operation, rows, leaving))
            continue
        seen[group.path] += 1
        call = f" #{seen[group.path]}" if calls[group.path] > 1 else ""
        kind = next(row.node.origin.kind or "function" for row in reversed(rows) if not row.node.is_leaf)
        found.append(LayerRows(f"{group.path}{call}", kind, rows, leaving))
    return found


def contents(layers: Sequence[LayerRows], notes: Sequence[str]) -> Contents:
    """The table of layers."""
    count = sum(len(layer.rows) for layer in layers)
    title = f"{count:,} nodes by layer: explanation.layer(NAME) unfolds a layer to its nodes, explanation.table() all of them"
    said = [_MEANING, *(f"note: {note}" for note in notes)]
    least = ("nodes", "shape", "kind", "|gradients| of parameters")
    return Contents(title, HEADER, [layer.cells() for layer in layers], said, least=least)


def layer_of(layers: Sequence[LayerRows], path: str) -> LayerRows:
    """The layer with a path; for a part of a model, such as "layer1", all of its layers together.

    Raises:
        UserError: there is none; the message names those that are near.
    """
    for layer in layers:
        if layer.path == path:
            return layer
    inside = [layer for layer in layers if layer.path.startswith((f"{path}.", f"{path} #"))]
    if not inside:
        raise unknown_value("layer", path, [layer.path for layer in layers])
    rows = tuple(sorted((row for layer in inside for row in layer.rows), key=lambda row: row.index))
    return LayerRows(path, "", rows, inside[-1].leaving)
