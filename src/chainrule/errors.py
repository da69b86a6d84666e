"""The two kinds of error: what a user can mend, and what only we can."""

from __future__ import annotations

import difflib
import os
import sys
import warnings
from collections.abc import Iterable


class ChainruleError(Exception):
    """Base of everything that chainrule raises on purpose."""


class UserError(ChainruleError, ValueError):
    """Something that was passed in does not fit: the message names the place, the values and the remedy."""


class UserIndexError(UserError, IndexError):
    """A place beyond the end: an IndexError too, as Python's own sequences raise, by which loops over them end."""


class UserTypeError(UserError, TypeError):
    """A call that does not fit, or a question that this kind of thing has no answer to: a TypeError too, as Python's own."""


class ChainruleWarning(UserWarning):
    """Something works, but hardly as it was meant: the message names the place, the values and the remedy."""


class InternalError(ChainruleError, RuntimeError):
    """A bug in chainrule: please report it with the message."""


_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def warn(message: str) -> None:
    """Warn of something that is allowed, but hardly meant, at the line of the user's program that led here."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, ChainruleWarning, stacklevel=level)


def unknown_value(what: str, value: object, known: Iterable[str]) -> UserError:
    """An error for a value outside a known set: ``unknown model 'lenett': did you mean 'lenet'? Known: lenet, mlp``."""
    names = sorted(known)
    lower = {name.lower(): name for name in names}
    near = difflib.get_close_matches(str(value).lower(), lower, n=1, cutoff=0.4)
    hint = f"did you mean {lower[near[0]]!r}? " if near else ""
    return UserError(f"unknown {what} {value!r}: {hint}Known: {', '.join(names)}")
