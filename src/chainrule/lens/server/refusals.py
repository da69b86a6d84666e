"""Why a request is not answered, as the page shows it: what is the matter, and what to do about it, a sentence each."""

from __future__ import annotations

import re

from chainrule.errors import UserError

_UNKNOWN = re.compile(r"(.*?\bunknown .*?): ((?:[^:]*[?.] )?(?:Known|Given): .*)")
"""What is said of a name that is not known, behind whatever names the place: what may be meant, and all that are known."""


class Refusal(Exception):  # noqa: N818 - an answer, too
    """A request that is not answered: an HTTP ``status``, the ``error`` and a ``hint``, both whole sentences."""

    def __init__(self, status: int, error: str, hint: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.hint = status, error, hint


def refusal_of(error: UserError) -> Refusal:
    """What a UserError says, taken apart: its remedy, which stands behind its last colon, is the hint; or what
    is known, where a name is not."""
    message = " ".join(str(error).split("\n"))
    unknown = _UNKNOWN.fullmatch(message)
    if unknown:
        matter, known = unknown.groups()
        return Refusal(400, sentence(matter), sentence(known[0].upper() + known[1:]))
    matter, colon, remedy = message.rpartition(": ")
    if not colon or _is_open(matter):
        return Refusal(400, sentence(message))
    return Refusal(400, sentence(matter), sentence(remedy))


def _is_open(text: str) -> bool:
    """Whether a bracket or a quotation begins in ``text`` and does not end there, so that it cannot be cut off behind it."""
    return text.count("(") > text.count(")") or text.count("[") > text.count("]") or text.count("`") % 2 == 1


def sentence(text: str) -> str:
    """``text``, if there is any, from a capital letter, unless it begins with a name, to a full stop."""
    if not text:
        return text
    first = text.split(maxsplit=1)[0]
    begun = text[0].upper() + text[1:] if first.isalpha() and first.islower() and ": " not in text else text
    return begun if begun[-1] in ".?!" else f"{begun}."
