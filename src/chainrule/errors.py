"""The two kinds of error: what a user can mend, and what only we can."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class ChainruleError(Exception):
    """Base of everything that chainrule raises on purpose."""


class UserError(ChainruleError, ValueError):
    """Something that was passed in does not fit: the message names the place, the values and the remedy."""


class ChainruleWarning(UserWarning):
    """Something works, but hardly as it was meant: the message names the place, the values and the remedy."""


class InternalError(ChainruleError, RuntimeError):
    """A bug in chainrule: please report it with the message."""


def unknown_value(what: str, value: object, known: Iterable[str]) -> UserError:
    """An error for a value outside a known set: ``unknown model 'lenett': did you mean 'lenet'? Known: lenet, mlp``."""
    names = sorted(known)
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(value).lower(), lower, n=1, cutoff=0.4)
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    return UserError(f"unknown {what} {value!r}: {hint}Known: {', '.join(names)}")
