"""Rectangles, lines and words, drawn alike as SVG and as PNG: what pictures of a run are made of."""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from chainrule.display import displayed
from chainrule.graph.names import display_width, shortened_within

if TYPE_CHECKING:
    from PIL.Image import Image

INK, FAINT, LINE, PAPER = "#222222", "#666666", "#bbbbbb", "#ffffff"
"""Colours of what is drawn: of words, of words that matter less, of lines, and of the ground."""

_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "arialuni.ttf", "Arial Unicode.ttf", "arial.ttf")
"""Where the font that Pillow brings lacks a character, the first of these that the system has and that does not lack it."""

_ASCENT = 0.36  # of the size of letters: how far their base line is below their middle


@dataclass(frozen=True)
class Box:
    """A rectangle, its upper left corner first; with ``edge``, the colour of a line around it."""

    x: float
    y: float
    width: float
    height: float
    fill: str = PAPER
    edge: str = ""


@dataclass(frozen=True)
class Words:
    """A line of words, whose middle is at height ``y``; ``anchor`` says what is at ``x``: "start", "middle" or "end".

    ``turned`` words run upwards and begin at (x, y). ``instead`` is written on a PNG if no font has all characters of ``text``.
    """

    x: float
    y: float
    text: str
    size: float = 12
    anchor: str = "start"
    fill: str = INK
    bold: bool = False
    turned: bool = False
    instead: str = ""


@dataclass(frozen=True)
class Line:
    """A line through ``points`` (x, y); ``dash`` are the lengths of its strokes and gaps in turn, none for a whole line."""

    points: tuple[tuple[float, float], ...]
    colour: str = INK
    width: float = 1.6
    dash: tuple[float, ...] = ()


@dataclass
class Drawing:
    """Shapes on a sheet, in the order in which they are drawn; sizes are pixels of a screen."""

    width: float
    height: float
    title: str
    shapes: list[Box | Words | Line] = field(default_factory=list)

    def svg(self) -> str:
        """The drawing as SVG."""
        parts = map(_svg, self.shapes)
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {self.width:g} {self.height:g}" width="{self.width:g}" '
            f'height="{self.height:g}" role="img"><title>{escape(self.title)}</title>'
            "<style>text{font-family:system-ui,sans-serif}</style>"
            f'<rect width="100%" height="100%" fill="{PAPER}"/>{"".join(parts)}</svg>\n'
        )

    def png(self, scale: int = 2) -> bytes:
        """The drawing as PNG, of ``scale`` pixels for each of a screen, so that small words stay legible."""
        from PIL import Image, ImageDraw

        image = Image.new("RGB", (round(self.width * scale), round(self.height * scale)), PAPER)
        draw = ImageDraw.Draw(image)
        for one in self.shapes:
            if isinstance(one, Box):
                corners = [scale * one.x, scale * one.y, scale * (one.x + one.width) - 1, scale * (one.y + one.height) - 1]
                draw.rectangle(corners, one.fill, one.edge or None, scale)
            elif isinstance(one, Line):
                for stroke in _strokes(one):
                    points = [(scale * x, scale * y) for x, y in stroke]
                    draw.line(points, one.colour, max(1, round(scale * one.width)), joint="curve")
            else:
                write(image, one, scale)
        return png_of(image)


def png_of(image: Image) -> bytes:
    """An image as the bytes of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def write(image: Image, words: Words, scale: float = 1) -> None:
    """Write words on an image."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    text = words.text if not words.instead or can_be_written(words.text) else words.instead
    font = _font(text, round(words.size * scale))
    x, y = words.x * scale, words.y * scale
    stroke = scale / 4 if words.bold else 0
    if words.turned:
        length = max(1, round(font.getlength(text)))
        strip = Pillow.new("L", (length + 4, round(2 * words.size * scale)))
        ImageDraw.Draw(strip).text((2, strip.height / 2), text, 255, font, "lm")
        upright = strip.rotate(90, expand=True)
        image.paste(words.fill, (round(x - upright.width / 2), round(y - upright.height)), upright)
        return
    anchor = {"start": "lm", "middle": "mm", "end": "rm"}[words.anchor]
    ImageDraw.Draw(image).text((x, y), text, words.fill, font, anchor, stroke_width=stroke)


def can_be_written(text: str) -> bool:
    """Whether some font that there is has all characters of a text, so that it can be written on a PNG."""
    return _covering(text, 16) is not None


def length_of(text: str, size: float) -> float:
    """About how long a text is in pixels, in letters of a size."""
    return (
        1.04 * float(_font(text, 32).getlength(text)) * size / 32 if can_be_written(text) else 0.6 * size * display_width(text)
    )


def fitting(text: str, size: float, room: float) -> str:
    """A text from outside as it is displayed, shortened in its middle so that it is at most ``room`` pixels long."""
    shown = displayed(text)
    most = display_width(shown)
    while most > 3 and length_of(shortened_within(shown, most), size) > room:
        most -= 1
    return shortened_within(shown, most)


def _font(text: str, size: int) -> Any:
    return _covering(text, size) or _fonts(size)[0]


@functools.lru_cache(4096)
def _covering(text: str, size: int) -> Any:
    return next((font for font in _fonts(size) if not any(_lacks(font, character) for character in set(text))), None)


@functools.lru_cache(64)
def _fonts(size: int) -> list[Any]:
    """Pillow's own font, and those of ``_FONTS`` that there are."""
    from PIL import ImageFont

    size = max(1, size)
    return [ImageFont.load_default(size), *(ImageFont.truetype(path, size) for path in _system_fonts())]


@functools.cache
def _system_fonts() -> list[str]:
    """The files of those of ``_FONTS`` that the system has: to look for them takes a while."""
    from PIL import ImageFont

    found = []
    for name in _FONTS:
        with contextlib.suppress(OSError):
            found.append(str(ImageFont.truetype(name, 12).path))
    return found


def _lacks(font: Any, character: str) -> bool:
    """Whether a font draws for a character what it draws for one that no font has."""
    return not character.isspace() and bytes(font.getmask(character)) == bytes(font.getmask("\U0010fffe"))


def _strokes(line: Line) -> Iterator[list[tuple[float, float]]]:
    """The parts of a line that are drawn."""
    if not line.dash:
        yield list(line.points)
        return
    stroke, turn, left, drawn = [line.points[0]], 0, line.dash[0], True
    for (x, y), (to_x, to_y) in itertools.pairwise(line.points):
        length, done = math.hypot(to_x - x, to_y - y), 0.0
        while length - done >= left:
            done += left
            point = (x + (to_x - x) * done / length, y + (to_y - y) * done / length)
            if drawn:
                yield [*stroke, point]
            stroke, drawn, turn = [point], not drawn, (turn + 1) % len(line.dash)
            left = line.dash[turn]
        left -= length - done
        if stroke[-1] != (to_x, to_y):
            stroke.append((to_x, to_y))
    if drawn and len(stroke) > 1:
        yield stroke


def _svg(one: Box | Words | Line) -> str:
    if isinstance(one, Line):
        return _svg_line(one)
    return _svg_box(one) if isinstance(one, Box) else _svg_words(one)


def _svg_line(line: Line) -> str:
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.points)
    dash = f' stroke-dasharray="{" ".join(f"{part:g}" for part in line.dash)}"' if line.dash else ""
    return f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="{line.width:g}"{dash}/>'


def _svg_box(box: Box) -> str:
    edge = f' stroke="{box.edge}"' if box.edge else ""
    return f'<rect x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" fill="{box.fill}"{edge}/>'


def _svg_words(words: Words) -> str:
    place = f'x="{words.x:g}" y="{words.y + _ASCENT * words.size:g}"'
    if words.turned:
        place = f'transform="translate({words.x + _ASCENT * words.size:g} {words.y:g}) rotate(-90)"'
    anchor = f' text-anchor="{words.anchor}"' if words.anchor != "start" else ""
    bold = ' font-weight="bold"' if words.bold else ""
    text = escape(words.text)
    return f'<text {place} font-size="{words.size:g}" fill="{words.fill}"{anchor}{bold}>{text}</text>'
