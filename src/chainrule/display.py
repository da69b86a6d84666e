"""Text from outside, such as names of files and classes, made safe to show: it must never command a terminal."""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\u200c\u200d")  # joiners, without which names in Persian and some emoji fall apart; they move nothing
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def displayed(text: object, lines: bool = False) -> str:
    r"""``text`` with what a terminal would obey, and what turns or hides what stands beside it, written out: ``\x1b[2J``.

    That is control characters, line and paragraph separators, marks that change the direction of writing, invisible
    characters, and bytes of a file name that are no text. ``lines`` keeps line breaks: for a message of several lines whose
    names are clean already.
    """
    found = str(text)
    if found.isascii() and found.isprintable():
        return found
    return "".join(one if _harmless(one, lines) else _written_out(one) for one in found)


def _harmless(one: str, lines: bool) -> bool:
    return one in _KEPT or (lines and one == "\n") or unicodedata.category(one) not in _UNSEEN


def _written_out(one: str) -> str:
    code = ord(one)
    if 0xDC80 <= code <= 0xDCFF:  # how Python passes on a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(one) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )
