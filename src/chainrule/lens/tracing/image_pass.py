"""An image's way through a network, forwards to the loss of one class, and what comes back: every number of it.

A node's number is its place in ``Graph(loss).nodes``, where each node follows its inputs. It is the same in all passes of a
model.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from chainrule.arguments import explained_methods, whole_number
from chainrule.errors import UserError, unknown_value
from chainrule.grad import LocalKind, compared, computed, in_float64, local_kind, passed_back, passed_to
from chainrule.graph import PARAMETER, Array, Graph, Node
from chainrule.lens.explain import Explanation, explain
from chainrule.lens.naming import local_formula, names
from chainrule.lens.numbers import MOST_NUMBERS
from chainrule.lens.rows import Edge, Row
from chainrule.ops import Custom, precision, running_on
from chainrule.tensor import Tensor

TOLERANCE = 1e-5
"""The largest relative error against finite differences that is taken for right, as for ``cr.audit``."""

WHICH = ("value", "upstream", "downstream", "local")


@dataclass(frozen=True)
class LocalRow:
    """A row of a node's Jacobian: d node[unit] / d input, in the shape of the input, with its kind and formula.

    ``upstream`` is the gradient of the loss with respect to that unit, by which the row is multiplied on the way back.
    """

    row: Array
    kind: LocalKind
    formula: str
    upstream: float


@dataclass(frozen=True)
class EdgeCheck:
    """What a node passes back to an input, against finite differences in float64.

    ``error`` is relative, and right up to ``tolerance``. It is None where finite differences cannot tell: all elements stand at
    kinks or jumps, or are not finite.
    """

    position: int
    input: Node
    error: float | None
    tolerance: float


@explained_methods
class Pass:
    """The forward and the backward pass of one image. ``Tracer.trace`` makes it.

    Attributes:
        label: the class whose loss it is; ``labelled`` tells whether it was asked for, or is the most probable one.
        probabilities: what the network takes the image for, (classes,).
        pixels: the image (C, H, W), bytes or numbers from 0 to 1.
        graph: the computation of the loss; ``graph.nodes`` are numbered.
        image, scores: the nodes of the network's input (1, C, H, W) and of its output (1, classes).
    """

    def __init__(
        self,
        loss: Node,
        scores: Node,
        image: Node,
        pixels: Array,
        label: int,
        labelled: bool,
        probabilities: Array,
        precision: str = "float32",
    ) -> None:
        self.graph = Graph(loss)
        self.image, self.scores = image, scores
        self.pixels, self.label, self.labelled, self.probabilities = pixels, label, labelled, probabilities
        self.precision = precision
        self._loss = loss

    def __repr__(self) -> str:
        return f"<Pass of an image to the loss of class {self.label}, {self.loss:.6g}: {len(self.graph)} nodes>"

    @property
    def loss(self) -> float:
        """The cross entropy of the class ``label``."""
        return float(Tensor(self._loss))

    @property
    def nbytes(self) -> int:
        """Bytes of all values and gradients, counted once each."""
        arrays = [node.value for node in self.graph.nodes]
        if "explanation" in vars(self):
            arrays += [row.upstream for row in self.explanation.rows]
        owners = {id(_owner(one)): _owner(one) for one in arrays if one is not None}
        return sum(one.nbytes for one in owners.values())

    @functools.cached_property
    def names(self) -> dict[Node, str]:
        """The name of each node, as formulas have it."""
        return names(self.graph)

    @functools.cached_property
    def consumers(self) -> dict[Node, list[Node]]:
        """The nodes that use each node."""
        return self.graph.consumers()

    @functools.cached_property
    def _filters(self) -> set[Node]:
        """The leaves, and what convolutions take for their filters: the first of their axes is no batch."""
        filters = {node.inputs[1] for node in self.graph.nodes if node.operation.name.startswith("conv2d")}
        return filters | {node for node in self.graph.leaves if node is not self.image}

    @functools.cached_property
    def explanation(self) -> Explanation:
        """Every factor of the chain rule. The way back is computed when it is first asked for."""
        with precision(self.precision):
            return explain(Tensor(self._loss))

    @functools.cached_property
    def _rows(self) -> dict[int, Row]:
        return {row.index: row for row in self.explanation.rows}

    def steps(self) -> list[Row]:
        """The nodes at which a gradient arrives, from the loss back to the leaves, each once and after all that use it."""
        return [row for row in reversed(self.explanation.rows) if row.upstream is not None]

    def node(self, number: int) -> Node:
        """The node with a number; a UserError if there is none."""
        return self.graph.nodes[self._number(number)]

    def row(self, number: int) -> Row:
        """What is known about the node with a number.

        Raises:
            UserError: there is no such node, or it is a constant that is only a number.
        """
        row = self._rows.get(self._number(number))
        if row is None:
            raise UserError(
                f"node {number} is the constant {self.names[self.graph.nodes[number]]}, which stands in the formulas"
            )
        return row

    def _number(self, number: int) -> int:
        return whole_number("the number of a node", number, 0, len(self.graph) - 1)

    def parameter(self, name: str) -> Row:
        """What is known about a parameter, by its path in the model, such as ``conv1.weight``.

        Raises:
            UserError: the loss depends on no parameter of that name.
        """
        known = {row.node.label: row for row in self.explanation.rows if row.node.operation is PARAMETER}
        if name not in known:
            raise unknown_value("parameter", name, known)
        return known[name]

    def source(self, name: str) -> Row:
        """What is known about a parameter, or about the network's input, which is called ``image``."""
        return self.row(self.graph.index[self.image]) if name == self.image.label else self.parameter(name)

    def edge(self, number: int, position: int) -> Edge:
        """The edge from a node back to one of its inputs; a UserError if no gradient goes there."""
        row = self.row(number)
        for edge in row.edges:
            if edge.position == position:
                return edge
        places = [f"{edge.position} ({edge.name})" for edge in row.edges]
        reason = f"it passes gradients back to its inputs {', '.join(places)}" if places else "it passes no gradient back"
        raise UserError(f"{row.name} passes no gradient to an input {position}: {reason}")

    # ---- numbers

    def tensor(self, number: int, which: str = "value", position: int | None = None, channel: int | None = None) -> Array:
        """A value, the upstream gradient, or for the input ``position`` of a node the downstream or the local gradient.

        The local gradient is shown where it is a picture: see ``local_shown``.

        Of an image (1, C, H, W) the 1 is dropped, and with a ``channel`` only that one is given, (H, W).

        Raises:
            UserError: there is nothing of that kind, no such channel, or the channel of something that is no image.
        """
        if which not in WHICH:
            raise unknown_value("array", which, WHICH)
        row = self.row(number)
        of = row.node
        if which == "downstream":
            edge = row.edges[0] if position is None and len(row.edges) == 1 else self.edge(number, _given(position))
            array, of = edge.downstream, edge.input
        elif which == "local":
            edge = row.edges[0] if position is None and len(row.edges) == 1 else self.edge(number, _given(position))
            local, of = self.local_shown(number, edge.position, always=True), edge.input
            if local is None:
                raise UserError(
                    f"the local gradient of {row.name} for {edge.name} is a {edge.kind.value} matrix: look at the row of a unit"
                )
            array = local
        elif which == "upstream":
            if row.upstream is None:
                raise UserError(f"no gradient arrives at {row.name}: the loss does not depend on it in a way that has a slope")
            array = row.upstream
        else:
            array = row.value
        if array.ndim == 4 and array.shape[0] == 1 and of not in self._filters:
            array = array[0]
        if channel is None:
            return array
        if array.ndim != 3:
            raise UserError(
                f"{row.name} is {list(array.shape)}, and only an image (C, H, W) has channels: leave the channel out"
            )
        chosen: Array = array[whole_number("channel", channel, 0, array.shape[0] - 1)]
        return chosen

    def unit(self, number: int, unit: tuple[int, ...]) -> tuple[int, ...]:
        """The indices of a unit of a node, checked; the first, where it is a batch of 1, may be left out."""
        return indices_of(self.row(number).name, self.node(number).shape, unit)

    def local(self, number: int, position: int, unit: tuple[int, ...]) -> LocalRow:
        """d node[unit] / d input ``position``: a row of the Jacobian, by the node's own rule.

        Raises:
            UserError: there is no such unit or input.
        """
        row, place = self.row(number), self.unit(number, unit)
        if not 0 <= position < len(row.node.inputs):
            raise UserError(f"{row.name} has {len(row.node.inputs)} inputs: there is no input {position}")
        kind, formula = local_kind(row.node, position), local_formula(row.node, position, self.names)
        with precision(self.precision):
            local = Edge(row.node, position, "", formula, kind, row.value).row(place)
        return LocalRow(local, kind, formula, 0.0 if row.upstream is None else float(row.upstream[place]))

    def local_shown(self, number: int, position: int, always: bool = False) -> Array | None:
        """The local gradient of a node for an input, where it can be shown at once; None where it is a large matrix.

        For an elementwise node that is the diagonal, in the shape of the input, and for a router the number of units that each
        element of the input goes to, 0 or 1 where windows do not overlap. A node that is a single number has one row, in the
        shape of the input, and others are given whole if they are small. Where the Jacobian is constant, such as that of an
        addition, its diagonal is given only if it is small, unless ``always``.
        """
        edge = self.edge(number, position)
        node, small = edge.node, edge.node.size * edge.input.size <= MOST_NUMBERS
        if edge.elementwise:
            wanted = always or small or edge.kind is not LocalKind.CONSTANT
        else:
            wanted = small or node.size == 1 or edge.kind is LocalKind.ROUTING
        if not wanted:
            return None
        with precision(self.precision):
            return passed_to(node, position) if edge.kind is LocalKind.ROUTING else edge.local

    def check(self, number: int) -> tuple[EdgeCheck, ...]:
        """What the node passes back, for a random upstream gradient, against finite differences in float64.

        Everything else is as it was in the pass: statistics of batches and masks are frozen.
        """
        row = self.row(number)
        node, rng = row.node, np.random.default_rng(0)
        if not row.edges:
            return ()
        within = Graph(node).nodes if isinstance(node.operation, Custom) else node.inputs
        values = {one: in_float64(one.value) for one in within if one.value is not None and one is not node}
        with running_on(None):
            upstream, downstream = passed_back(node)
        values[node] = computed([node], values)[node]
        found = []
        for edge in row.edges:
            difference = compared(node, edge.position, upstream, downstream[edge.position], values, rng)
            decided = difference.is_decided(TOLERANCE) and np.isfinite(difference.error)
            found.append(EdgeCheck(edge.position, edge.input, difference.error if decided else None, TOLERANCE))
        return tuple(found)


def _given(position: int | None) -> int:
    if position is None:
        raise UserError("a downstream gradient is for one of the inputs: give its position")
    return position


def indices_of(what: str, shape: tuple[int, ...], given: tuple[int, ...]) -> tuple[int, ...]:
    """``given`` as the indices of an element of an array of that shape; a leading 0 may be left out where there is one place.

    Raises:
        UserError: they are too few or too many, or outside; the message says what would fit.
    """
    unit = (0, *given) if shape[:1] == (1,) and len(given) == len(shape) - 1 else tuple(given)
    if len(unit) != len(shape) or any(not 0 <= i < size for i, size in zip(unit, shape, strict=True)):
        last = ", ".join(str(size - 1) for size in shape)
        raise UserError(f"{what} is {list(shape)}, and has no element {list(given)}: indices go from 0 to {last or 'nothing'}")
    return unit


def _owner(array: Array) -> Array:
    """The array that holds the memory of a view."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array
