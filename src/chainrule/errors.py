"""The two kinds of error: UserError, which the user can fix, and InternalError, a bug of chainrule."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterable

from chainrule.display import displayed


class ChainruleError(Exception):
    """Base of everything that chainrule raises on purpose."""


class UserError(ChainruleError, ValueError):
    """Something that was passed in does not fit: the message names the place, the values and the remedy.

    Characters in the message that a terminal would obey are escaped, as it may contain names from outside.
    """

    def __init__(self, message: object = "") -> None:
        super().__init__(displayed(message, lines=True))


class UserIndexError(UserError, IndexError):
    """An index beyond the end. It is an IndexError too, as loops over a sequence need it to end."""


class UserKeyError(UserError, KeyError):
    """A name that is not there. It is a KeyError too, as that of a dict is."""

    __str__ = Exception.__str__  # a KeyError would show the message in quotes


class UserTypeError(UserError, TypeError):
    """A call whose arguments do not fit, or an operation that an object does not support. It is a TypeError too."""


class ChainruleWarning(UserWarning):
    """Something works, but probably not as intended: the message names the place, the values and the remedy."""


class InternalError(ChainruleError, RuntimeError):
    """A bug in chainrule: please report it with the message."""


_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def warn(message: str) -> None:
    """Issue a ChainruleWarning at the line of the user's program that led here."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        level, frame = level + 1, frame.f_back
    warnings.warn(displayed(message, lines=True), ChainruleWarning, stacklevel=level)


def unknown_value(what: str, value: object, known: Iterable[str]) -> UserError:
    """An error for a value outside a known set: ``unknown model 'lenett': did you mean 'lenet'? Known: lenet, mlp``."""
    names = sorted(known)
    near = nearest(str(value), names)
    hint = f"did you mean {near!r}? " if near is not None else ""
    return UserError(f"unknown {what} {value!r}: {hint}Known: {', '.join(names)}")


def nearest(value: str, known: Iterable[str]) -> str | None:
    """The known name of which ``value`` is a misspelling, a beginning or an abbreviation; None if there is none.

    Some common letters are not enough: 'resnet18' and 'mobilenet' are not taken for 'lenet'.
    """
    word, names = value.lower(), sorted(known)
    near = [(count, name) for name in names if (count := _mistakes(word, name.lower())) <= _allowed(word, name)]
    if near:
        return min(near)[1]
    if len(word) < 3:
        return None
    for fits in (_begins, _abbreviates):
        matches = [name for name in names if fits(word, name.lower())]
        if len(matches) == 1:
            return matches[0]
    return None


def _allowed(word: str, name: str) -> int:
    """How many mistakes are tolerated: 1 in a word of three letters or more, 2 from eight letters, 3 from twelve.

    If only digits differ, more than a single wrong digit means another name: resnet34 is not resnet18.
    """
    longest = max(len(word), len(name))
    if _letters(word) == _letters(name):
        return min(1, longest // 3)
    return max(1, longest // 4) if longest > 2 else 0


def _letters(word: str) -> str:
    return "".join(character for character in word if not character.isdigit())


def _begins(word: str, name: str) -> bool:
    """Whether ``word`` begins ``name`` (``cos`` for cosine), or is ``name`` with a suffix (``lenet-5`` for lenet)."""
    further = word.removeprefix(name)
    return name.startswith(word) or (len(name) > 2 and further != word and not further[:1].isalnum())


def _abbreviates(word: str, name: str) -> bool:
    """Whether ``word`` has letters of ``name`` in order, with the first and the last: ``bf16`` for bfloat16."""
    letters = iter(name)
    return word[0] == name[:1] and word[-1] == name[-1:] and all(letter in letters for letter in word)


def _mistakes(word: str, name: str) -> int:
    """How many letters are missing, added, wrong, or swapped with their neighbour (Damerau-Levenshtein distance)."""
    if abs(len(word) - len(name)) > _allowed(word, name):
        return max(len(word), len(name))
    before, row = [0] * (len(name) + 1), list(range(len(name) + 1))
    for i, letter in enumerate(word):
        before, last, row = row, before, [i + 1]
        for j, other in enumerate(name):
            row.append(min(before[j + 1] + 1, row[j] + 1, before[j] + (letter != other)))
            if i and j and letter == name[j - 1] and word[i - 1] == other:
                row[-1] = min(row[-1], last[j - 1] + 1)
    return row[-1]
