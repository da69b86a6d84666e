"""A compiled function whose program computes, beside its results, values that somebody wants to look at.

    function ──> trace ──> observer(trace): which values? ──> one program ──> results
                                                                 └── look(detail): in which runs ──> observations

Looking changes nothing: the passes decide about the results as if nobody looked (see ``graph.Observed``), so weights are the
same bits whether anything is observed or not, and runs that do not look take no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from chainrule.graph import Array, Observed
from chainrule.tensor.calls import Call, Change
from chainrule.tensor.compiled import CompiledFunction
from chainrule.tensor.traced import Traced
from chainrule.tensor.tracing import Trace

Observer = Callable[[Trace], Sequence[Observed]]
"""Gives the values to observe, from what tracing recorded; it makes their nodes. They must be reductions, and what leads to
them from the nodes of the function elementwise."""


class ObservedFunction(CompiledFunction[..., Any]):
    """``function``, compiled together with what ``observer`` asks for."""

    def __init__(self, function: Callable[..., Any], observer: Observer) -> None:
        super().__init__(function, None, None)
        self._observer = observer
        self._detail = 0
        self._count = 0  # of observed values, in the last tracing
        self._views: dict[int, list[Array]] = {}  # of them, by the number of the tracing

    def look(self, detail: int) -> None:
        """Observe, from the next call on, what is of this ``detail`` or less; 0, at first, for nothing."""
        if detail != self._detail:
            self._detail = detail
            for several in self._traced.values():
                for one in several:
                    one.program.observe(detail)

    def observations(self) -> list[Array]:
        """The observed values of the last call, in the order in which the observer gave them: views of memory that the next
        call overwrites.

        Those of a higher detail than that of the call are without meaning. There are none before the first call, and none on
        the reference engine, which has no programs.
        """
        return [] if self._last is None else self._views.get(self._last.number, [])

    def _observed(self, trace: Trace) -> Sequence[Observed]:
        observed = self._observer(trace)
        self._count = len(observed)
        return observed

    def _made(self, call: Call, broken: Change | None) -> Traced:
        made = super()._made(call, broken)
        made.program.observe(self._detail)
        self._views[made.number] = [made.program.output(made.outputs + number) for number in range(self._count)]
        return made
