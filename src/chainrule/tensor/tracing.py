"""Tracing: running a function to get its graph, without computing values. The compiler gets its graphs from here."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chainrule import ops
from chainrule.graph import Node

if TYPE_CHECKING:
    from chainrule.tensor.cells import Cell
    from chainrule.tensor.guards import Notes
    from chainrule.tensor.handle import Handle
    from chainrule.tensor.tensor import Tensor


Check = tuple[Node, Callable[[Any], None]]
"""A node, and a function that gets its value once it is known, and raises a UserError if that is invalid."""


class Trace:
    """What a traced function did, besides making nodes.

    ``reads`` has the leaf that stands for each cell that it read, ``writes`` the node that each cell was assigned, and
    ``gradients`` the gradient that each cell got (None where it was cleared).
    """

    def __init__(self) -> None:
        self.reads: dict[Cell, Node] = {}
        self.writes: dict[Cell, Node] = {}
        self.gradients: dict[Cell, Tensor | None] = {}
        self.gradient_reads: dict[Cell, Tensor | None] = {}  # leaves for gradients from before
        self.asks: dict[Cell, bool] = {}  # ``requires_grad`` of parameters when it was first read
        self.wants: dict[Cell, bool] = {}  # ``requires_grad`` of parameters as the function set it
        self.views: dict[Cell, Node] = {}  # what reads of parameters give after ``requires_grad`` was set
        self.modes: dict[Any, bool] = {}  # the ``training`` flags of modules, as the function set them
        self.flags: dict[Any, bool] = {}  # the ``training`` flags that were read, but for what no gradient can pass
        self.notes: Notes | None = None  # only while a function is compiled
        self.weak: set[Node] = set()  # inputs for NumPy's float64 scalars, which take the other operand's dtype
        self.checks: list[Check] = []
        self.owners: set[int] = set()  # ids of the inputs that ask for gradients
        self.freed: set[Node] = set()  # nodes that backward() would have freed outside of a trace
        self.upstream: dict[Node, Node] = {}  # the gradient that arrived at each node that backward() passed

    def __repr__(self) -> str:
        return f"<Trace of {len(self.reads)} cells read, {len(self.writes)} assigned, {len(self.gradients)} given a gradient>"

    def read(self, cell: Cell) -> Node:
        """The node that stands for the present value of a cell."""
        if cell in self.views:
            return self.views[cell]
        return self.writes[cell] if cell in self.writes else self.old_value(cell)

    def old_value(self, cell: Cell) -> Node:
        """The leaf that stands for the value that a cell had when tracing began."""
        if cell not in self.reads:
            asks = self.asks.get(cell)
            self.reads[cell] = cell._leaf(cell.type, cell.requires_grad if asks is None else asks)
        return self.reads[cell]

    def gradient(self, cell: Cell) -> Tensor | None:
        """The gradient that a cell has now; None if it has none."""
        if cell in self.gradients:
            return self.gradients[cell]
        if cell not in self.gradient_reads:
            self.gradient_reads[cell] = cell._gradient_leaf()
        return self.gradient_reads[cell]

    def write(self, cell: Cell, node: Node) -> None:
        """Record that ``cell`` was assigned the value of ``node``. As outside of a trace, gradients that reach the cell arrive
        there and go no further back."""
        self.writes[cell] = beginning(node, cell if cell.requires_grad else None, cell.name)
        self.views.pop(cell, None)

    def passed(self, node: Node, upstream: Node, downstream: Sequence[Node | None]) -> None:
        """Record that ``backward()`` passed ``node`` (see ``grad.backprop``)."""
        self.upstream[node] = upstream

    def changed(self, cell: Cell) -> None:
        """Record that ``requires_grad`` of ``cell`` was set: later reads of the cell give another node."""
        self.wants[cell] = cell.requires_grad
        value = self.writes[cell] if cell in self.writes else self.old_value(cell)
        self.views[cell] = beginning(value, cell if cell.requires_grad else None, cell.name)


def beginning(node: Node, owner: Handle | None, label: str = "") -> Node:
    """A node with the value of ``node`` that acts as a leaf of the trace: gradients that reach it go no further back.

    They arrive at ``owner``; if that is None, the node asks for none.
    """
    reference = None if owner is None else weakref.ref(owner)
    return Node(ops.stop_gradient, (node,), node.type, {}, None, owner is not None, label=label, owner=reference)


class _Active(threading.local):
    trace: Trace | None = None


_active = _Active()


def active_trace() -> Trace | None:
    """The trace in progress on this thread; None if no function is being traced."""
    return _active.trace


@contextmanager
def tracing() -> Iterator[Trace]:
    """A context in which nodes are made without computing values, and what happens to cells is only recorded."""
    before, _active.trace = _active.trace, Trace()
    try:
        with ops.running_on(None):
            yield _active.trace
    finally:
        _active.trace = before


def verify(node: Node, check: Callable[[Any], None]) -> None:
    """Call ``check`` with the numbers of ``node``, so that it can raise a UserError about them.

    In a traced function that happens each time the program runs: before the run if ``node`` is an input, otherwise after it.
    """
    if node.value is not None:
        check(node.value)
    elif _active.trace is not None:
        _active.trace.checks.append((node, check))
