"""What shows something: the console, tables on it, and how times and losses are written."""

from __future__ import annotations

import bisect
from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from chainrule.graph.names import display_width
from chainrule.graph.tables import Contents
from chainrule.graph.wrapping import wrapped

_READABLE_NAME, LEAST_NAME = 24, 16  # how short the names of classes may get before columns are left out, and after
_BESIDE_NAME = 16  # characters beside a name where each row of a table is a block of lines


def console(file: Any = None) -> Console:
    """Standard output, or ``file``; where there is no terminal, as wide as ``width.settle`` says."""
    return Console(highlight=False, file=file)


def show_table(contents: Contents, show: Console | None = None) -> None:
    """A table, as wide as it needs and at most as wide as there is room: see ``Contents``."""
    show = show or console()
    header, rows, below = contents.parts(show.width, ruler=False)
    bold = [contents.title] if contents.title else []
    for line in [*(line for one in bold for line in wrapped(one, show.width)), *header]:
        show.print(Text(line, "bold"), soft_wrap=True)
    for line in [*rows, *below]:
        show.print(Text(line), soft_wrap=True)


def show_named_table(make: Callable[[int], Contents], names: Sequence[str], show: Console) -> None:
    """The table that ``make`` gives for the longest names of classes that fit; longer names are shortened in the middle.

    Once names would get too short to be read, the columns that matter least are left out.
    """
    longest = max(map(display_width, names), default=0)
    for least, with_least in ((_READABLE_NAME, True), (LEAST_NAME, False)):
        room = most_room(make, show.width, least, longest, with_least)
        if room:
            show_table(make(room), show)
            return
    show_table(make(max(8, show.width - _BESIDE_NAME)), show)


def most_room(make: Callable[[int], Contents], width: int, least: int, longest: int, with_least: bool = True) -> int:
    """The most characters of a name, from ``least`` to ``longest``, with which the table fits ``width``; 0 if none do."""

    def is_too_wide(room: int) -> bool:
        return not make(room).fits(width, with_least)

    if is_too_wide(least):
        return 0
    return least - 1 + bisect.bisect_right(range(least, max(least, longest) + 1), False, key=is_too_wide)


def time_left(seconds: float) -> str:
    """Seconds as 1:05, or, from an hour on, as 2:03:09."""
    whole = max(0, round(seconds))
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def loss_text(loss: float) -> str:
    """A loss with four digits behind the point, or in powers of ten if it is huge."""
    return f"{loss:.4f}" if loss < 1e5 else f"{loss:.3g}"


def fitted(parts: Sequence[str], width: int, least: Sequence[int] = (0, 0)) -> str:
    """Parts side by side in a line. If it is wider than ``width``, the parts at the places ``least`` are left out in turn."""
    kept = list(parts)
    for place in least:
        if len(line := "  ".join(kept)) <= width or len(kept) == 1:
            return line
        del kept[min(place, len(kept) - 1)]
    line = "  ".join(kept)
    return line if len(line) <= width or len(kept) == 1 else fitted(kept[1:], width, ())


def counted(number: int, one: str, more: str = "") -> str:
    """``1 image``, ``2,000 images``: a number with its noun, whose plural is ``more``, or ends with s."""
    return f"{number:,} {one if number == 1 else more or one + 's'}"
