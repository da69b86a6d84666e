"""What a pass tells of its work."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PassReport:
    """What one pass did: its name, what it changed in words, and how long it took."""

    name: str
    change: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.name}: {self.change}"
