"""Reports of passes: what each changed, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.graph.tables import Contents, Table

SHOW = "CHAINRULE_SHOW"
"""The environment variable with the names of passes whose results are printed."""


@dataclass(frozen=True)
class PassReport:
    """What one pass did: its name, what it changed in words, and how long it took."""

    name: str
    change: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: {self.change}"


class PassReports(Table, tuple[PassReport, ...]):
    """The reports of all passes, in their order. Prints as a table."""

    def contents(self) -> Contents:
        """One row for each pass: its name, what it changed, and milliseconds."""
        rows = [(report.name, report.change, f"{1e3 * report.seconds:.1f}") for report in self]
        timed = any(report.seconds for report in self)
        notes = [] if timed else ["the program was kept from an earlier process, so the passes took no time"]
        return Contents("what each pass of the compiler changed", ("pass", "change", "ms>"), rows, notes)
