"""The programs of a page in docs/, and what it shows of their output."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from chainrule import UserError


def programs(page: Path, names: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Run each program of ``page`` in turn, with ``names``; for each, what it printed and what the page shows below it.

    A UserError that ends a program is printed, and the lines that it names are those of the page.
    """
    text = page.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```\n(?:```\n(.*?)^```)?", text, re.S | re.M):
        code = compile("\n" * text[: found.start(1)].count("\n") + found[1], str(page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            try:
                exec(code, names)
            except UserError as error:
                print(error)
        yield printed.getvalue(), found[2] or ""
