"""Lines of text wrapped to a width between words, so that what belongs together stays together.

A word is never broken, so that numbers, paths and names stay whole: a word that is too wide stands on a line of its own.
Words are tied to each other, the stronger the less they may be parted: a number and what it counts or measures (``64 images``,
``loss 0.25``), a shape (``1 x 28 x 28``), an operator and what it applies to, a command in backquotes, a tuple, and a list in
brackets, whose rows come apart before their numbers do. Ties give way, the weakest first, only where even a line of their own
would not be wide enough.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from chainrule.graph.names import display_width

_NUMBER = re.compile(r"""[('"]*[-+]?\d[\d,.:/x]*(e[-+]?\d+)?%?[)\]'",.;:]*""")
_ENDS_A_PART = (",", ";", ".", ")", "]", ":")
_BETWEEN = frozenset(["and", "as", "at", "by", "for", "from", "in", "is", "of", "on", "or", "than", "to", "where", "with"])
"""Words in front of which a number belongs to what stands before it, as in ``step 5 of 9``, and not to what follows."""
_LOOSE, _TIGHT = frozenset(["=", "-", "+", "<-", "<", ">", "<=", ">="]), frozenset(["*", "/", "@"])
_QUOTED = re.compile(r"`[^`]+`")
_TUPLE = re.compile(r"\((?:[^\s(),]+, )+[^\s(),]*\)")
_NOT, _WEAK, _MIDDLE, _STRONG = range(4)  # strengths of ties; within brackets they are stronger still


def wrapped(line: str, width: int | None, indent: str = "", hanging: str = "  ") -> list[str]:
    """``line`` broken at spaces into lines of at most ``width`` characters, or left whole if ``width`` is None.

    The first line begins with ``indent``, all others with ``indent + hanging``.
    """
    if width is None or display_width(indent + line) <= width:
        return [indent + line]
    words = line.split(" ")
    ties = _ties(words)
    lines, current = [], indent

    def place(first: int, end: int, is_part: bool = False) -> None:
        """Put the words from ``first`` up to ``end`` on this line, on the next one, or, where neither has room, in parts."""
        nonlocal current
        unit, begun = " ".join(words[first:end]), bool(current.strip())
        joined = f"{current} {unit}" if begun else current + unit
        if display_width(joined) <= width:
            current = joined
            return
        is_whole = end - first == 1 or display_width(indent + hanging + unit) <= width
        if begun and (is_whole or not is_part):  # parts of parts go on where the ones before them end
            lines.append(current.rstrip())
            current = indent + hanging
        if is_whole:
            current += unit
            return
        for part in _parts(ties, first, end):
            place(*part, is_part=True)

    for part in _parts(ties, 0, len(words), loosest=_NOT):
        place(*part)
    return [*lines, current.rstrip()]


def _parts(ties: Sequence[int], first: int, end: int, loosest: int | None = None) -> Iterator[tuple[int, int]]:
    """The parts, each as its first word and its end, of the words from ``first`` up to ``end``, parted at the loosest ties."""
    if loosest is None:
        loosest = min(ties[first + 1 : end])
    begin = first
    for place in range(first + 1, end):
        if ties[place] == loosest:
            yield begin, place
            begin = place
    yield begin, end


def _ties(words: Sequence[str]) -> list[int]:
    """How strongly each word is tied to the one before it."""
    ties = [_NOT] * (len(words) + 1)

    def tie(place: int, strength: int) -> None:
        ties[place] = max(ties[place], strength)

    for i, word in enumerate(words):
        backward, forward = _bonds(words[i - 1] if i else "", word, words[i + 1] if i + 1 < len(words) else "")
        tie(i, backward)
        tie(i + 1, forward)
    line = " ".join(words)
    tied = {place for pattern in (_QUOTED, _TUPLE) for match in pattern.finditer(line) for place in range(*match.span())}
    depths, place = _depths(line), -1
    for i, word in enumerate(words[:-1]):
        place += len(word) + 1  # of the space behind the word
        if place in tied:
            tie(i + 1, _STRONG)
        if depths[place]:
            tie(i + 1, _STRONG + depths[place])
    return ties


def _bonds(before: str, word: str, after: str) -> tuple[int, int]:
    """How strongly ``word`` is tied to the words on either side of it, as far as these three can tell."""
    if word in ("x", "|.|"):
        return _MIDDLE, _STRONG
    if word in _LOOSE:
        return _NOT, _WEAK
    if word in _TIGHT:
        return _WEAK, _MIDDLE
    if word == "**":
        return _STRONG, _STRONG
    if word in ("of", "to") and _NUMBER.fullmatch(before) and _NUMBER.fullmatch(after):
        return _WEAK, _WEAK
    if _NUMBER.fullmatch(word):
        begins, ends = before.endswith(_ENDS_A_PART[:-1]), word.endswith(_ENDS_A_PART)  # a part of the sentence
        if not ends and (begins or (after[:1].isalpha() and after not in _BETWEEN)):
            return _NOT, _WEAK
        if not begins:
            return _WEAK, _NOT
    return _NOT, _NOT


def _depths(line: str) -> list[int]:
    """In how many pairs of square brackets each character stands; a bracket without a partner does not count."""
    steps, opened = [0] * (len(line) + 1), []
    for place, character in enumerate(line):
        if character == "[":
            opened.append(place)
        elif character == "]" and opened:
            steps[opened.pop()] += 1
            steps[place] -= 1
    depths, depth = [], 0
    for step in steps[:-1]:
        depth += step
        depths.append(depth)
    return depths
