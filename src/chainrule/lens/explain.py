"""Explains an error: every node of its graph with its forward value and its upstream, local and downstream gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.errors import UserError, unknown_value
from chainrule.grad import backprop, local_kind, refuse_freed
from chainrule.graph import Array, Graph, Node, leaf
from chainrule.graph.dtypes import is_float
from chainrule.graph.show import Detail, svg
from chainrule.lens import numbers, rendering
from chainrule.lens.describe import in_sum, on_edge, row_to_json, slope
from chainrule.lens.layers import LayerRows, contents, folded, layer_of
from chainrule.lens.naming import formula, is_number, local_formula, names
from chainrule.lens.remarks import remarks
from chainrule.lens.rows import Edge, Row, Step, Summand
from chainrule.ops import Primitive, history, is_tracing, why_no_value
from chainrule.tensor import Tensor
from chainrule.tensor.backward import refuse_compiled

MOST_NODES = 60  # of more, a drawing and the text show layers instead
_MOST_WIDTH = 1600.0  # pixels of a drawing, which is wrapped if it would be wider


@explained
def explain(loss: Tensor, *, wanted: Sequence[Tensor] | None = None) -> Explanation:
    """Go backwards from ``loss``, a single float number, and note every factor of the chain rule on the way.

    ``wanted`` are the tensors whose gradient is asked for; by default every parameter and every tensor made with
    ``requires_grad=True`` that the loss depends on. Nothing changes: no ``.grad``, no parameter, no random state.
    """
    if is_tracing():
        raise UserError(
            "explain: needs numbers, and a traced function has none yet: call it outside, on the loss of the plain function"
        )
    if not isinstance(loss, Tensor):
        raise UserError(
            f"explain: needs a loss, one float number that was computed, got a {type(loss).__name__}: an expression as text is "
            'for the command, chainrule explain "(w @ x - y)**2"'
        )
    node = loss.node
    _check(node)
    graph = Graph(node)
    refuse_compiled("explain", graph.nodes)
    values = _values(graph)
    leaves = [one for one in graph.nodes if one.is_leaf and one.requires_grad]
    targets = leaves if wanted is None else [_wanted(graph, one, i) for i, one in enumerate(wanted)]
    upstreams: dict[Node, Array] = {}
    downstreams: dict[tuple[Node, int], Array] = {}

    def visit(at: Node, upstream: Node, downstream: Sequence[Node | None]) -> None:
        upstreams[at] = _numbers_of(upstream)
        for position, one in enumerate(downstream):
            if one is not None:
                downstreams[at, position] = _numbers_of(one)

    with history("nothing"):
        backprop(node, targets, visit=visit)
    return Explanation(graph, targets, values, upstreams, downstreams)


def _values(graph: Graph) -> dict[Node, Array]:
    """All forward values. Values that were freed, because no gradient rule reads them, are computed again."""
    values: dict[Node, Array] = {}
    with history("nothing"):
        for node in graph.nodes:
            if node.is_freed:
                refuse_freed(node, "explain", "explain before")
            ran = node
            if node.value is None and isinstance(node.operation, Primitive):
                ran = node.operation(*[leaf(values[one]) for one in node.inputs], **node.attributes)
            elif node.value is None:
                raise UserError(f"explain: a constant {why_no_value(node)}")
            values[node] = _numbers_of(ran)
    return values


def _check(node: Node) -> None:
    if node.value is None:
        raise UserError(f"explain: {node!r} was only traced, at {node.origin}: explain a loss that was computed")
    if node.size != 1 or not is_float(node.dtype):
        raise UserError(
            f"explain: starts at the error, one float number, but this is {node.type}: reduce it first with sum(...), "
            "mean(...) or a loss"
        )
    if not node.requires_grad:
        raise UserError(
            "explain: the error depends on nothing that asks for a gradient: was it computed under no_grad(), "
            "or from tensors made without requires_grad=True?"
        )


def _wanted(graph: Graph, tensor: Tensor, position: int) -> Node:
    node = tensor.node
    if not node.requires_grad:
        raise UserError(f"explain: wanted[{position}], {node.type}, asks for no gradient: make it with requires_grad=True")
    if node not in graph.index and node.remembered in graph.index:
        node = node.remembered
    if node not in graph.index:
        label = f" {node.label!r}" if node.label else ""
        raise UserError(
            f"explain: the error does not depend on wanted[{position}]{label}, {node.type}: if a step of an optimizer has "
            "assigned it since, explain before the step"
        )
    return node


def _numbers_of(node: Node) -> Array:
    assert node.value is not None  # a node that ran on its own has its value
    view = node.value.view()
    view.flags.writeable = False
    return view


@explained_methods
class Explanation:
    """Every factor of the chain rule in one computation; prints as a table, draws as SVG, shows itself in a notebook.

    ``rows`` are the nodes in forward order, without constants that are only a number (they stand in the formulas).
    ``explanation["h1"]`` is the row of one name. More than 60 nodes print by layer; ``explanation.layer("conv1")`` has the
    nodes of one layer, and ``table()`` all of them.
    """

    def __init__(
        self,
        graph: Graph,
        wanted: Sequence[Node],
        values: dict[Node, Array],
        upstreams: dict[Node, Array],
        downstreams: dict[tuple[Node, int], Array],
    ) -> None:
        self.graph = graph
        self._names = names(graph)
        self._wanted = set(wanted)
        self._downstreams = downstreams
        self._consumers = graph.consumers()

        def edge(node: Node, position: int) -> Edge:
            name, words = self._names[node.inputs[position]], local_formula(node, position, self._names)
            return Edge(node, position, name, words, local_kind(node, position), downstreams[node, position])

        def summands(node: Node) -> tuple[Summand, ...]:
            return tuple(
                Summand(self._names[user], downstreams[user, position])
                for user in dict.fromkeys(self._consumers[node])
                for position, one in enumerate(user.inputs)
                if one is node and (user, position) in downstreams
            )

        self.rows = [
            Row(
                index,
                self._names[node],
                formula(node, self._names),
                node,
                values[node],
                upstreams.get(node),
                summands(node),
                tuple(edge(node, i) for i in range(len(node.inputs)) if (node, i) in downstreams),
            )
            for index, node in enumerate(graph.nodes)
            if not is_number(node)
        ]
        self._row_of = {row.node: row for row in self.rows}

    def __getitem__(self, name: str) -> Row:
        for row in self.rows:
            if row.name == name:
                return row
        raise unknown_value("node", name, [row.name for row in self.rows])

    @property
    def error(self) -> float:
        """The value that is differentiated."""
        return float(self.rows[-1].value.astype(np.float64).reshape(()))

    @property
    def gradients(self) -> dict[str, Array]:
        """The gradient of the error for each wanted tensor, by name."""
        return {row.name: row.upstream for row in self.rows if row.node in self._wanted and row.upstream is not None}

    def step(self, learning_rate: float) -> dict[str, Step]:
        """One step of gradient descent, w <- w - learning rate * de/dw, for each wanted leaf; nothing is assigned."""
        if not math.isfinite(learning_rate):
            raise UserError(f"step: the learning rate must be a finite number, got {learning_rate}")
        found = {}
        for row in self.rows:
            if row.node in self._wanted and row.node.is_leaf and row.upstream is not None:
                with np.errstate(all="ignore"):
                    new = (row.value - learning_rate * row.upstream).astype(row.value.dtype)
                found[row.name] = Step(row.value, row.upstream, new)
        return found

    def step_lines(self, learning_rate: float) -> list[str]:
        """Each step as a line: ``w <- w - 0.1 * de/dw = [1, 2] - 0.1 * [36, 48] = [-2.6, -2.8]``."""
        rate = in_sum(numbers.number(learning_rate))
        lines = []
        for name, step in self.step(learning_rate).items():
            words = f"{name} <- {name} - {rate} * {slope(self._error_name, name)}"
            if all(map(numbers.is_written, step)):
                old, gradient, new = map(numbers.brief, step)
                lines.append(f"{words} = {old} - {rate} * {in_sum(gradient)} = {new}")
            else:
                lines.append(f"{words}: {numbers.text(step.old)} before, {numbers.text(step.new)} after")
        return lines

    @property
    def notes(self) -> list[str]:
        """What is remarkable: the first value and the first gradient that are not finite, and where gradients end."""
        return remarks(self.rows)

    # ---- as text

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Header and lines of a table: a line per node and input, what concerns the node only in its first line."""
        return rendering.cells(self.rows)

    def table(self, width: int | None = None) -> str:
        """The table as aligned text, and the notes. In fewer characters than it needs, a block of lines per node."""
        return rendering.text(self.rows, self._error_name, self.notes, width)

    def by_layer(self, width: int | None = None) -> str:
        """A line for each call of a layer: what leaves it, the gradient that arrives there, gradients of its parameters."""
        return contents(self.layers, self.notes).text(width)

    @property
    def layers(self) -> list[LayerRows]:
        """The calls of layers, and the nodes outside of them, in forward order, each with its rows."""
        return folded(self.graph, self._row_of)

    def layer(self, path: str) -> LayerRows:
        """The nodes of one layer, such as "conv1", of one of its calls ("relu #2"), or of a part of the model ("layer1").

        Raises:
            UserError: there is no such layer.
        """
        return layer_of(self.layers, path)

    def __str__(self) -> str:
        return self.table() if len(self.graph) <= MOST_NODES else self.by_layer()

    def __repr__(self) -> str:
        last = self.rows[-1]
        counts = f"{len(self.rows)} nodes, {len(self.gradients)} gradients"
        return f"<Explanation of {last.name} = {numbers.text(last.value)}: {counts}>"

    # ---- as a drawing

    def svg(self, *, detail: Detail | None = None, title: str = "") -> str:
        """The graph as SVG: forward values and upstream gradients in the boxes, downstream gradients on the edges.

        ``detail`` is ``"node"`` or ``"module"`` (one box per layer); by default whichever is readable.
        """
        if detail is None:
            detail = "node" if len(self.graph) <= MOST_NODES else "module"
        edge_notes = self._edge_notes if detail == "node" else self._layer_edge_notes
        return svg(self.graph, detail=detail, notes=self._box_notes, edge_notes=edge_notes, most_width=_MOST_WIDTH, title=title)

    def _repr_svg_(self) -> str | None:
        try:
            return self.svg()
        except UserError:  # too large to draw: the notebook then prints it
            return None

    def _box_notes(self, node: Node) -> list[str]:
        row = self._row_of.get(node)
        if row is None:
            return [] if node.size == 1 else [self._names[node]]
        lines = [f"{row.name} = {numbers.brief(row.value)}"]
        if row.upstream is not None:
            lines.append(f"{slope(self._error_name, row.name)} = {numbers.brief(row.upstream)}")
        return lines

    def _edge_notes(self, node: Node, position: int) -> str:
        downstream = self._downstreams.get((node, position))
        return "" if downstream is None else on_edge(downstream)

    def _layer_edge_notes(self, node: Node, position: int) -> str:
        """What the whole layer passes back to that input, which is the same for all nodes of the layer that use it."""
        parts = [
            self._downstreams[user, place]
            for user in dict.fromkeys(self._consumers[node.inputs[position]])
            for place, one in enumerate(user.inputs)
            if one is node.inputs[position] and user.origin.module == node.origin.module and (user, place) in self._downstreams
        ]
        if not node.origin.module or not parts:
            return self._edge_notes(node, position)
        with np.errstate(all="ignore"):
            return on_edge(sum(parts[1:], start=parts[0]))

    @property
    def _error_name(self) -> str:
        return self.rows[-1].name

    # ---- as data

    def to_json(self) -> dict[str, Any]:
        """The explanation as plain data for JSON: large arrays as counts and ranges, numbers that are not finite as null."""
        return {
            "error": numbers.plain(self.rows[-1].value),
            "nodes": [row_to_json(row, self._row_of) for row in self.rows],
            "gradients": {name: numbers.plain(gradient) for name, gradient in self.gradients.items()},
            "notes": self.notes,
        }
