"""What passes tell of their work."""

from __future__ import annotations

from dataclasses import dataclass

from chainrule.graph.tables import Contents, Table

SHOW = "CHAINRULE_SHOW"
"""The environment variable with the names of passes after which what they left is printed."""


@dataclass(frozen=True)
class PassReport:
    """What one pass did: its name, what it changed in words, and how long it took."""

    name: str
    change: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: {self.change}"


class PassReports(Table, tuple[PassReport, ...]):
    """Those of all passes, in their order. Prints as a table."""

    def contents(self) -> Contents:
        """One row for each pass: its name, what it changed, and milliseconds."""
        rows = [(one.name, one.change, f"{1e3 * one.seconds:.1f}") for one in self]
        timed = any(one.seconds for one in self)
        notes = [] if timed else ["the program was kept from an earlier process, so the passes took no time"]
        return Contents("what each pass of the compiler changed", ("pass", "change", "ms>"), rows, notes)
