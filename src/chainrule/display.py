"""Text from outside, such as names of files and classes, made safe to show: a terminal must not take it for commands."""

from __future__ import annotations

import unicodedata

_KEPT = frozenset("\u200c\u200d")  # joiners, which names in Persian and some emoji need; they are harmless
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def displayed(text: object, lines: bool = False) -> str:
    r"""``text`` with all characters escaped that a terminal would obey or that change how others appear: ``\x1b[2J``.

    These are control characters, line and paragraph separators, marks that change the direction of writing, invisible
    characters, and bytes of a file name that are not valid text. ``lines`` keeps line breaks, for messages of several lines
    whose names are clean already.
    """
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    return "".join(character if _harmless(character, lines) else _written_out(character) for character in shown)


def _harmless(character: str, lines: bool) -> bool:
    return character in _KEPT or (lines and character == "\n") or unicodedata.category(character) not in _UNSEEN


def _written_out(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python passes on a byte of a name that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(character) or (
        f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    )
