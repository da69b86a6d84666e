"""Assignments of cells outside compiled functions, such as an optimizer's update, as one program.

    values and gradients ──> layouts known? ── no ──> function traced with placeholders ──> program
                                   └── yes ──> its program ──> new values of parameters, other cells in place

The new value of a parameter gets memory of its own, as the graph of the last step still holds the old value, which must not
change. All other cells, such as momentum, are updated in place.
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
"""The most programs that one optimizer keeps. Other layouts of the gradients, or other options, need another program."""


class Updates:
    """The programs of a function that computes new values for parameters and for cells of its own from the gradients.

    The function must have no other effects, as it runs only once for each program.
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
        """Do what ``function`` does, by a program that is made if there is none that fits.

        ``parameters`` are those that it may update. ``cells`` are its own cells that exist now. ``frozen`` is a key for
        everything else that it depends on.
        """

        with_gradients: list[Parameter] = []
        values: list[Array] = []
        key: list[Hashable] = [frozen]
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is not None:
                value, slope = parameter.numbers(), gradient.node.value
                assert slope is not None
                key.append((id(parameter), value.strides, slope.strides, slope.shape, slope.dtype))
                with_gradients.append(parameter)
                values += value, slope
        whole_key = tuple(key)
        program = self._programs.get(whole_key)
        if program is None or not program.own.issubset(map(id, cells)):  # cells of the program may have been dropped since
            program = _Update(function, parameters, with_gradients, values)
            self._programs.keep(whole_key, program)
        with state_lock:
            ran = program.run(values)
        if not ran:  # this thread is in the middle of another run, as in a signal handler
            function()


class _Update:
    """One program, made for ``values``: the value and the gradient of each of ``with_gradients``, in turn.

    It fits all values of the same shapes, dtypes and strides.
    """

    def __init__(
        self,
        function: Callable[[], None],
        parameters: Sequence[Parameter],
        with_gradients: Sequence[Parameter],
        values: Sequence[Array],
    ) -> None:
        stand_ins = [backend().stand_in(value) for value in values]
        with tracing() as trace:
            trace.gradients.update(dict.fromkeys(parameters))
            for place, parameter in enumerate(with_gradients):
                trace.reads[parameter] = stand_ins[2 * place].node
                trace.gradients[parameter] = Tensor(stand_ins[2 * place + 1].node)
            function()
        self._with_gradients = with_gradients  # kept alive, so that the ids in the key stay unique
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
        """Run the program and assign the cells. False, with nothing done, if this thread is in the middle of another run."""
        in_memory(self._bound)
        try:
            new = self._program.run(values)
        finally:
            written(self._in_place)
        if new is None:
            return False
        for parameter, value in zip(self._parameters, new, strict=True):
            parameter.replace(value)
        return True
