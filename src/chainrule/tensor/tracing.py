"""Tracing: running a function for its graph alone. The seam that the compiler takes its graphs from."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from chainrule import ops
from chainrule.arguments import explained
from chainrule.errors import UserError
from chainrule.graph import Graph, Node, leaf

if TYPE_CHECKING:
    from chainrule.tensor.cells import Cell
    from chainrule.tensor.guards import Notes
    from chainrule.tensor.tensor import Tensor


Check = tuple[Node, Callable[[Any], None]]
"""A node, and what raises a UserError if its value, once it is known, is not as it must be."""


class Trace:
    """What a traced function did to cells: the leaf that stands for each that it read, the node that each was assigned,
    and the gradient that each got (None where it was cleared)."""

    def __init__(self) -> None:
        self.reads: dict[Cell, Node] = {}
        self.writes: dict[Cell, Node] = {}
        self.gradients: dict[Cell, Tensor | None] = {}
        self.gradient_reads: dict[Cell, Tensor | None] = {}  # a leaf for what stood in ``grad`` before; None where nothing did
        self.asks: dict[Cell, bool] = {}  # parameters, and whether each asked for gradients when it was first looked at
        self.wants: dict[Cell, bool] = {}  # what was set of that
        self.views: dict[Cell, Node] = {}  # what is read of parameters for which that was changed since
        self.modes: dict[Any, bool] = {}  # the ``training`` flags of modules that were set
        self.notes: Notes | None = None  # of a function that is being compiled
        self.weak: set[Node] = set()  # inputs that stand for scalars of NumPy, which take the other operand's dtype
        self.checks: list[Check] = []
        self.owners: set[int] = set()  # ids of the inputs that ask for gradients
        self.freed: set[Node] = set()  # what backward() went through: outside of a trace it would be gone

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
        from chainrule.tensor.tensor import Tensor

        if cell in self.gradients:
            return self.gradients[cell]
        if cell not in self.gradient_reads:
            self.gradient_reads[cell] = Tensor(leaf(cell.type)) if cell.has_gradient else None
        return self.gradient_reads[cell]

    def write(self, cell: Cell, node: Node) -> None:
        """As when it is assigned at once, the history is cut: gradients arrive at the cell, and go no further back."""
        self.writes[cell] = beginning(node, cell if cell.requires_grad else None, cell.name)
        self.views.pop(cell, None)

    def changed(self, cell: Cell) -> None:
        """From now on ``cell`` asks for gradients, or no longer."""
        self.wants[cell] = cell.requires_grad
        value = self.writes[cell] if cell in self.writes else self.old_value(cell)
        self.views[cell] = beginning(value, cell if cell.requires_grad else None, cell.name)


def beginning(node: Node, owner: Tensor | None, label: str = "") -> Node:
    """In a trace: the value of ``node`` as if it were a leaf, whose gradient arrives at ``owner``, if there is one."""
    arrives = None if owner is None else weakref.ref(owner)
    return Node(ops.stop_gradient, (node,), node.type, {}, None, owner is not None, label=label, owner=arrives)


class _Active(threading.local):
    trace: Trace | None = None


_active = _Active()


def active_trace() -> Trace | None:
    """The trace of the function that is being traced on this thread; None if none is."""
    return _active.trace


@contextmanager
def tracing() -> Iterator[Trace]:
    """Inside, nothing runs: nodes are made for their types and structure, and cells keep their values."""
    before, _active.trace = _active.trace, Trace()
    try:
        with ops.running_on(None):
            yield _active.trace
    finally:
        _active.trace = before


def verify(x: Tensor, check: Callable[[Any], None]) -> None:
    """Hold the numbers of ``x`` against ``check``, which raises a UserError: now, or in a traced function whenever they are
    known, before anything runs if ``x`` is an input."""
    if x.node.value is not None:
        check(x.node.value)
    elif _active.trace is not None:
        _active.trace.checks.append((x.node, check))


@explained
def trace(f: Callable[..., Tensor], *inputs: Tensor) -> Graph:
    """The graph of ``f(*inputs)``, without computing anything: to draw it, to count it, to look at it.

    ``inputs`` give shapes and dtypes; their numbers are not looked at.
    """
    from chainrule.tensor.tensor import Tensor, placeholder

    if not callable(f):
        raise UserError(f"trace: f must be a function of tensors, got a {type(f).__name__}")
    for place, one in enumerate(inputs):
        if not isinstance(one, Tensor):
            raise UserError(f"trace: input {place} must be a tensor, got a {type(one).__name__}: pass cr.tensor(data)")
    with tracing():
        output: Any = f(*(placeholder(one.shape, one.dtype) for one in inputs))
    outputs = output if isinstance(output, tuple | list) else (output,)
    for one in outputs:
        if not isinstance(one, Tensor):
            raise UserError(f"trace: f must return a tensor or several, got a {type(one).__name__}")
    return Graph(*(one.node for one in outputs))
