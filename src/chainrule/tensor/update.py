"""Assignments of cells outside compiled functions, such as an optimizer's update, as one program.

    values and gradients as they lie ──> known? ── no ──> function traced over stand-ins ──> program
                                            └── yes ──> its program ──> new values of parameters, other cells in place

A parameter's new value gets memory of its own: a tensor never changes, and the graph of the last step still has the old one.
Every other cell, such as a momentum, is written where it lies.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

from chainrule.graph import Array
from chainrule.recent import Recent
from chainrule.tensor.backend import backend
from chainrule.tensor.cells import Cell, Parameter, in_memory, state_lock, written
from chainrule.tensor.tensor import Tensor
from chainrule.tensor.tracing import tracing

_MOST_PROGRAMS = 16
"""Of one optimizer: for gradients that lie otherwise, or other options."""


class Updates:
    """The programs of a function that assigns parameters, and cells of its own, from the parameters' gradients.

    It must do nothing else: it runs once for each program.
    """

    def __init__(self) -> None:
        self._programs: Recent[Hashable, _Update] = Recent(_MOST_PROGRAMS)

    def __reduce__(self) -> tuple[Any, ...]:
        return Updates, ()  # a copy, or another process, makes programs of its own

    def __repr__(self) -> str:
        return f"<Updates of {len(self._programs)} programs>"

    def run(
        self, function: Callable[[], None], parameters: Sequence[Parameter], cells: Iterable[Cell], frozen: Hashable
    ) -> None:
        """Do what ``function`` does. ``cells``: those of its own that there are; ``frozen``: whatever else it depends on."""

        with_gradients: list[Parameter] = []
        values: list[Array] = []
        key: list[Hashable] = [frozen]
        for one in parameters:
            gradient = one.grad
            if gradient is not None:
                value, slope = one.numbers(), gradient.node.value
                assert slope is not None
                key.append((id(one), value.strides, slope.strides, slope.shape, slope.dtype))
                with_gradients.append(one)
                values += value, slope
        found = tuple(key)
        program = self._programs.get(found)
        if program is None or not program.own.issubset(map(id, cells)):  # state may have been dropped since
            program = _Update(function, parameters, with_gradients, values)
            self._programs.keep(found, program)
        with state_lock:
            ran = program.run(values)
        if not ran:  # in a signal handler, within another run
            function()


class _Update:
    """One program, for values and gradients that lie as ``values`` do."""

    def __init__(
        self,
        function: Callable[[], None],
        parameters: Sequence[Parameter],
        with_gradients: Sequence[Parameter],
        values: Sequence[Array],
    ) -> None:
        stand_ins = [backend().stand_in(one) for one in values]
        with tracing() as trace:
            trace.gradients.update(dict.fromkeys(parameters))
            for place, one in enumerate(with_gradients):
                trace.reads[one] = stand_ins[2 * place].node
                trace.gradients[one] = Tensor(stand_ins[2 * place + 1].node)
            function()
        self._with_gradients = with_gradients  # their ids, by which they are known, stay theirs
        self._parameters = [cell for cell in trace.writes if isinstance(cell, Parameter)]
        self._in_place = [cell for cell in trace.writes if not isinstance(cell, Parameter)]
        elsewhere = {*with_gradients, *trace.writes}
        read = [cell for cell in trace.reads if cell not in elsewhere]
        self._bound = [*read, *self._in_place]
        self.own = set(map(id, self._bound))
        self._program = backend().lent_program(
            [trace.writes[cell] for cell in self._parameters],
            stand_ins,
            row_major=True,
            bound={trace.old_value(cell): cell.memory() for cell in self._bound},
            assigned=[(trace.old_value(cell), trace.writes[cell]) for cell in self._in_place],
        )

    def run(self, values: Sequence[Array]) -> bool:
        """Whether it ran: it cannot within another run on this thread."""
        in_memory(self._bound)
        try:
            new = self._program.run(values)
        finally:
            written(self._in_place)
        if new is None:
            return False
        for one, value in zip(self._parameters, new, strict=True):
            one.replace(value)
        return True
