"""What is known about a node of an explained computation, and about each edge back from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from chainrule.errors import unknown_value
from chainrule.grad import LocalKind, local_diagonal, local_row
from chainrule.graph import Array, Node, Role
from chainrule.graph.names import source_line
from chainrule.lens import numbers
from chainrule.ops import Primitive

MOST_JACOBIAN = 1024  # a Jacobian of more numbers than this is not computed whole


class Step(NamedTuple):
    """A step of gradient descent for a leaf: new = old - learning rate * gradient."""

    old: Array
    gradient: Array
    new: Array

    def __repr__(self) -> str:
        return f"<Step from {numbers.text(self.old)} by {numbers.text(self.gradient)} to {numbers.text(self.new)}>"


class Summand(NamedTuple):
    """What a node that uses a value passes back to it."""

    name: str  # of the user
    gradient: Array

    def __repr__(self) -> str:
        return f"<Summand {numbers.text(self.gradient)} from {self.name}>"


@dataclass(frozen=True, eq=False, repr=False)
class Edge:
    """From a node back to one of its inputs: downstream = upstream * local."""

    node: Node
    position: int
    name: str  # of the input
    formula: str  # of the local gradient, in the names of the graph
    kind: LocalKind
    downstream: Array

    def __repr__(self) -> str:
        return f"<Edge to {self.name}: local gradient {self.formula}, downstream {numbers.text(self.downstream)}>"

    @property
    def input(self) -> Node:
        """The node that this edge leads back to."""
        return self.node.inputs[self.position]

    @property
    def elementwise(self) -> bool:
        """Whether the local gradient is diagonal: a factor for each element."""
        return isinstance(self.node.operation, Primitive) and self.node.operation.elementwise

    @property
    def local(self) -> Array | None:
        """The local gradient, computed when it is asked for; None where it is a large matrix (use ``row``).

        It is the diagonal, in the shape of the input, for an elementwise node; the only row, in the shape of the input, for a
        node that is a single number; else the whole Jacobian, in the shape of the output followed by that of the input.
        """
        if self.elementwise:
            return local_diagonal(self.node, self.position)
        if self.node.size == 1:
            return self.row((0,) * self.node.ndim)
        if self.node.size * self.input.size > MOST_JACOBIAN:
            return None
        rows = [self.row(unit) for unit in np.ndindex(self.node.shape)]
        return np.array(rows, dtype=self.input.dtype).reshape(self.node.shape + self.input.shape)

    def row(self, unit: tuple[int, ...]) -> Array:
        """d node[unit] / d input: the row of the Jacobian for a unit of the node, in the shape of the input."""
        return local_row(self.node, self.position, unit)


@dataclass(frozen=True, eq=False, repr=False)
class Row:
    """What is known about a node. ``upstream`` is None if no gradient arrives; ``edges`` pass gradients on."""

    index: int  # in the graph, and in its drawings
    name: str
    formula: str  # how it was computed; empty for a leaf
    node: Node
    value: Array
    upstream: Array | None
    summands: tuple[Summand, ...]  # whose sum the upstream gradient is
    edges: tuple[Edge, ...]

    def __repr__(self) -> str:
        made = f" = {self.formula}" if self.formula else ""
        upstream = "none" if self.upstream is None else numbers.text(self.upstream)
        return f"<Row {self.name}{made}: {numbers.text(self.value)}, upstream {upstream}>"

    @property
    def operation(self) -> str:
        """The name of the primitive, or of the kind of leaf."""
        return self.node.operation.name

    @property
    def role(self) -> Role:
        """What the primitive does to the gradient."""
        return self.node.operation.role

    @property
    def module(self) -> str:
        """Path of the layer in the model; empty outside one."""
        return self.node.origin.module

    @property
    def line(self) -> str:
        """The line of the program that made it, as ``train.py:12``; empty if unknown."""
        return source_line(self.node)

    def edge(self, name: str) -> Edge:
        """The edge back to the input that is called ``name``."""
        for one in self.edges:
            if one.name == name:
                return one
        raise unknown_value(f"input of {self.name}", name, [one.name for one in self.edges])
