"""What of a state fits a model, and what does not, said in a few lines however large the model is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

Shape = tuple[int, ...]

_MOST_NAMES = 6  # that are written out; more are put together
_MOST_GROUPS = 8


@dataclass(frozen=True)
class Misfit:
    """The differences between the names and shapes of a model's state and those of another: empty if there are none.

    ``shapes`` has, by name, the shape in the model and that in the state.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[tuple[str, Shape, Shape], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.shapes)

    def lines(self, source: str) -> list[str]:
        """What is missing, unexpected and of another shape: a line each, or some; ``source`` is the word for the state."""
        found = [f"missing: {grouped(self.missing)}"] if self.missing else []
        found += [f"unexpected: {grouped(self.unexpected)}"] if self.unexpected else []
        written = {name: f"{name}: the model has shape {have}, the {source} {given}" for name, have, given in self.shapes}
        if len(written) <= _MOST_NAMES:
            return [*found, *written.values()]
        first = next(iter(written.values()))
        return [*found, f"of another shape: {grouped(list(written))}; the first is {first}"]


def compared(model: Mapping[str, Shape], state: Mapping[str, Shape], known: Collection[str]) -> Misfit:
    """How a state with these names and shapes differs from a model's; it may have all names that are ``known``."""
    return Misfit(
        tuple(name for name in model if name not in state),
        tuple(str(name) for name in state if name not in model and name not in known),
        tuple((name, shape, state[name]) for name, shape in model.items() if name in state and state[name] != shape),
    )


def grouped(names: Sequence[str]) -> str:
    """``names`` if they are few; else those that begin alike as one group with their number: ``layer4.* (15 entries)``.

    Groups are the deepest of which there are not too many.
    """
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    deepest = max(name.count(".") for name in names)
    groups = _groups(names, 1)
    for depth in range(2, deepest + 1):
        deeper = _groups(names, depth)
        if len(groups) >= 3 or len(deeper) > _MOST_GROUPS:
            break
        groups = deeper
    shown = [f"{group}.* ({count:,} entries)" if count > 1 else group for group, count in groups.items()]
    more = len(shown) - _MOST_GROUPS
    return ", ".join(shown) if more <= 1 else f"{', '.join(shown[:_MOST_GROUPS])} and {more:,} more groups"


def _groups(names: Collection[str], depth: int) -> dict[str, int]:
    """The beginnings of names, up to ``depth`` parts but the last, with how many have each; a name that is alone is whole."""
    members: dict[str, list[str]] = {}
    for name in names:
        parts = name.split(".")
        members.setdefault(".".join(parts[:depth]) if len(parts) > depth else ".".join(parts[:-1]) or name, []).append(name)
    return {(group if len(found) > 1 else found[0]): len(found) for group, found in members.items()}
