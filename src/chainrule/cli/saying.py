"""What the command says in sentences: errors, warnings and notes beside the results, and lines among them."""

from __future__ import annotations

import os

from chainrule.cli.width import columns
from chainrule.display import displayed
from chainrule.models.own import is_own
from chainrule.train.config import Config


def complain(message: str) -> None:
    """Write an error to standard error; what ends the command is up to the caller."""
    say_beside("error: ", "bold red", message)


def warn(message: Warning | str, category: object, filename: str, *_: object, **__: object) -> None:
    """Show a warning as people want it: what it says, and not which line of the library said so."""
    if f"{os.sep}PIL{os.sep}" in filename:  # it finds fault with what stands beside the pixels, and does not name the file
        return
    say_beside("warning: ", "bold yellow", str(message))


def say_beside(kind: str, style: str, message: str) -> None:
    """Write to standard error what begins with ``kind`` ("note: ") in a style of rich, in lines that fit."""
    from rich.console import Console
    from rich.text import Text

    from chainrule.cli.messages import message_lines

    shown = "\n".join(message_lines(kind + displayed(message, lines=True), columns()))
    said = shown.removeprefix(kind.rstrip()).removeprefix(" ")  # a first word that is too long for the line begins the next
    Console(stderr=True, soft_wrap=True).print(Text.assemble((kind, style), said))


def say(message: str) -> None:
    """Write lines broken to the width that there is."""
    from rich.console import Console

    from chainrule.cli.messages import message_lines

    shown = "\n".join(message_lines(displayed(message, lines=True), columns()))
    Console(soft_wrap=True, highlight=False, markup=False).print(shown)


def say_whose_code(model: str, digest: str) -> None:
    """A word about a network of somebody's own, whose file is run."""
    if is_own(model):
        say_beside(
            "note: ",
            "bold",
            f"the network is made by running {displayed(model)} (SHA-256 {digest[:12]}...), which may do "
            "whatever a program can: run only code that you trust",
        )


def say_how_judged(config: Config) -> None:
    """A word about images that are judged in another way than by one look at each."""
    if config.flip_test:
        say_beside("note: ", "bold", "each image is judged as it is and mirrored, as in the run's training (--flip-test)")
