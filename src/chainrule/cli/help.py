"""Help on a narrow terminal: the usual page of panels needs about 80 columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from rich.text import Text
from typer.core import TyperCommand, TyperGroup

from chainrule.cli.width import columns
from chainrule.graph.wrapping import wrapped

_PANELS = 80  # the page with panels needs so many columns


class Command(TyperCommand):
    """A subcommand whose help fits a narrow terminal."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """The line that stands above the help, and above the complaint about a mistake."""
        formatter.write("\n".join(_usage(self, ctx, columns())) + "\n")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See ``_write_help``."""
        _write_help(self, ctx, formatter, super().format_help)


class Group(TyperGroup):
    """The command itself, whose help fits a narrow terminal."""

    def format_usage(self, ctx: Any, formatter: Any) -> None:
        """The line that stands above the help, and above the complaint about a mistake."""
        formatter.write("\n".join(_usage(self, ctx, columns())) + "\n")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """See ``_write_help``."""
        _write_help(self, ctx, formatter, super().format_help)


def _write_help(command: Any, ctx: Any, formatter: Any, with_panels: Callable[[Any, Any], None]) -> None:
    """The page with panels, or a plain one of as many columns as there are."""
    width = columns()
    if width < _PANELS:
        formatter.write("\n".join(narrow_page(command, ctx, width)) + "\n")
        return
    epilog, command.epilog = command.epilog, None  # panels would break its lines anywhere, also in the middle of a command
    try:
        with_panels(ctx, formatter)
    finally:
        command.epilog = epilog
    formatter.write("\n".join(f" {line}".rstrip() for line in below(epilog or "", width - 2)[1:]) + "\n")


def _usage(command: Any, ctx: Any, width: int) -> list[str]:
    return wrapped(f"Usage: {ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}", width)


def narrow_page(command: Any, ctx: Any, width: int) -> list[str]:
    """Usage, purpose, subcommands or arguments, options and examples, each name above what it means."""
    lines = [*_usage(command, ctx, width), "", *wrapped(command.help or "", width)]
    named = {"Arguments:": []}  # type: dict[str, list[tuple[str, str]]]
    for one in command.get_params(ctx):
        usual = "Options" if one.param_type_name == "option" else "Arguments"
        record = one.get_help_record(ctx)
        if record is not None:
            named.setdefault(f"{getattr(one, 'rich_help_panel', None) or usual}:", []).append(
                (" ".join(record[0].split()), " ".join(Text.from_markup(_without_tags(record[1])).plain.split()))
            )
    subcommands = [(name, one.get_short_help_str(1000)) for name, one in getattr(command, "commands", {}).items()]
    for title, entries in (*named.items(), ("Commands:", subcommands)):
        if entries:
            lines += ["", title]
        for name, meaning in entries:
            lines += wrapped(name, width, "  ")
            lines += wrapped(meaning, width, "    ", "") if meaning else []
    return lines + below(command.epilog or "", width)


def below(epilog: str, width: int) -> list[str]:
    """What stands below a page of help: titles, which end with a colon, and under each of them commands or other lines."""
    lines = []
    for paragraph in filter(None, map(str.strip, epilog.split("\n\n"))):
        if paragraph.endswith(":"):
            lines += ["", paragraph]
        elif paragraph.startswith("chainrule "):
            lines += broken_command(paragraph, width)
        else:
            lines += wrapped(paragraph, width, "  ", "     ")
    return lines


def _without_tags(words: str) -> str:
    """A help text in which the brackets that typer adds, as in ``[default: 3]``, are not taken for markup."""
    return re.sub(r"(?<!\\)\[(?=default|required|env)", r"\\[", words)


def broken_command(line: str, width: int) -> list[str]:
    """A command that can be copied: broken between arguments, with the backslash that continues it.

    What follows an option stays on its line, as it may be the option's value.
    """
    words: list[str] = []
    for word in re.findall(r"(?:\"[^\"]*\"|'[^']*'|[^\s\"'])+", line):
        if words and re.fullmatch(r"--[\w-]+", words[-1]) and not word.startswith("-"):
            words[-1] += f" {word}"
        else:
            words.append(word)
    return list(_continued(words, width))


def _continued(words: list[str], width: int) -> Iterator[str]:
    now = " "
    for i, word in enumerate(words):
        last = i == len(words) - 1
        if now.strip() and len(f"{now} {word}") + (0 if last else 2) > width:
            yield f"{now} \\"
            now = "     "
        now = f"{now} {word}"
    yield now
