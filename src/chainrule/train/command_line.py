"""The command as it was called: what a message tells people to type must work where they typed the last command."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from chainrule.arguments import explained
from chainrule.display import displayed


@explained
def command_line(*words: object) -> str:
    """``words`` after the command's name, as a person types them: ``.venv/bin/chainrule predict 'runs/my digits'``.

    The name is ``chainrule`` where the shell finds this command under it, else the path that was typed, or
    ``python -m chainrule``. In another program, which typed none, it is ``chainrule``.
    """
    return " ".join(map(_quoted, [*_called(), *map(str, words)]))


def _quoted(word: str) -> str:
    """The text as the shell reads it; characters that a terminal would obey are written out, in $'...' of bash and zsh."""
    if displayed(word) == word:
        return shlex.quote(word)
    return "$'" + displayed(word.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def _called() -> list[str]:
    typed = sys.argv[0] if sys.argv else ""
    started = Path(typed)
    if started.name == "__main__.py" and started.parent.name == "chainrule":
        return [sys.orig_argv[0], "-m", "chainrule"]
    if started.stem != "chainrule" or started.suffix == ".py":
        return ["chainrule"]
    found = shutil.which("chainrule")
    if found is not None and started.exists() and os.path.samefile(found, started):
        return ["chainrule"]
    return [typed]
