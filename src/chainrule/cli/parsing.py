"""How the command reads its line: a formula may look like an option (``chainrule explain "-a**2" a=-3``), and what is said of
a mistake shows what was typed, or what the shell put for a ``*``, as text."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from chainrule.cli.help import Command, Group
from chainrule.display import displayed

_OPTION = re.compile(r"--?[A-Za-z][\w-]*(=.*)?", re.DOTALL)


class CommandGroup(Group):
    """The command with its subcommands. Complaints about its line are clean of what a terminal would obey."""

    def make_context(self, *args: Any, **options: Any) -> Any:
        """Read the line as far as the subcommand."""
        with _clean():
            return super().make_context(*args, **options)

    def invoke(self, ctx: Any) -> Any:
        """Read the rest, and run the subcommand."""
        with _clean():
            return super().invoke(ctx)


@contextlib.contextmanager
def _clean() -> Iterator[None]:
    try:
        yield
    except Exception as error:
        message = getattr(error, "message", None)
        if hasattr(error, "format_message") and isinstance(message, str):
            vars(error)["message"] = displayed(message)
        raise


class NamingCommand(Command):
    """A command whose arguments name files or folders."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the line; of a name that begins with a minus say how it is given."""
        try:
            return super().parse_args(ctx, list(args))
        except Exception as error:
            word = _taken_for_option(error, args)
            if word:
                complaint = f"No such option: {word}. If it is the name of a file or a folder, put -- before it: -- {word}"
                vars(error)["message"] = complaint
            raise


def _taken_for_option(error: Exception, args: Sequence[str]) -> str:
    """The word that the parser took for an option, if it may be a name; else an empty text."""
    option = getattr(error, "option_name", "")
    if not option or not hasattr(error, "possibilities"):  # the complaint is another one
        return ""
    for word in args[: args.index("--")] if "--" in args else args:
        is_short = word[:1] == "-" and word[:2] != "--"
        if is_short and len(word) > 2 and option[1:] in word:  # letters that are options may come before the one that is none
            return word
        if word.partition("=")[0] == option and os.path.lexists(word):
            return word
    return ""


class FormulaCommand(Command):
    """A command whose first argument is a formula, which may begin with a minus."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Hand the line on with the formula marked as no option."""
        options = [one for one in self.get_params(ctx) if one.param_type_name == "option"]
        flags = {name for one in options if getattr(one, "is_flag", False) or one.name == "help" for name in one.opts}
        valued = {name for one in options for name in one.opts} - flags
        return super().parse_args(ctx, formula_apart(args, flags, valued))


def formula_apart(arguments: Sequence[str], flags: Collection[str], valued: Collection[str]) -> list[str]:
    """The same line with its options first, then ``--`` and all that is none.

    The first argument that begins with a minus is the formula, unless it is an option (``--json``) or looks like a misspelt
    one (``--jsn``). A name that is given a value (``h=3``) is a name in a formula too, so that ``-h`` is then minus h.
    """
    given = {name.strip() for name, equals, _ in (one.partition("=") for one in arguments) if equals}
    options: list[str] = []
    others: list[str] = []
    rest = iter(arguments)
    for one in rest:
        name, equals, _ = one.partition("=")
        minus_a_name = not others and one.startswith("-") and one.lstrip("-") in given
        if one == "--":
            others += rest
        elif name in valued and not minus_a_name:
            value = None if equals else next(rest, None)
            if value is None and not equals:
                return [*options, one]  # whose value is missing, as the parser then says
            options += [one] if value is None else [one, value]
        elif minus_a_name or not one.startswith("-") or (not others and one not in flags and _is_formula(one)):
            others.append(one)
        else:
            options.append(one)  # or what the parser says is none
    return [*options, "--", *others]


def _is_formula(text: str) -> bool:
    """Whether a word begins with a minus and is no option: with a single minus, or with more and not spelt like an option."""
    return not _OPTION.fullmatch(text) or (not text.startswith("--") and "=" not in text)
