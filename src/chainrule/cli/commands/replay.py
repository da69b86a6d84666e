"""``chainrule replay``: a step of a training that was not finite, node by node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.app import app
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say, say_whose_code
from chainrule.cli.width import columns
from chainrule.display import displayed


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule replay runs/mine/capsule.safetensors\n\n"
    "  chainrule replay capsule.safetensors --model nets.py:make",
)
def replay(
    capsule: Annotated[Path, typer.Argument(help="File that `chainrule train` left of a step that was not finite.")],
    model: Annotated[
        str,
        typer.Option(
            help="Where the file of a network of your own is now: FILE.py:FUNCTION. It must be the one that was trained with.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Take a step again, node by node, and name the first node whose value is nan or infinite."""
    from chainrule.train import open_capsule

    kept = open_capsule(capsule, model)
    say_whose_code(kept.config.model, kept.config.model_digest)  # before any of it is run
    say(f"{displayed(kept.config.model)}, step {kept.step} (epoch {kept.epoch + 1}): {kept.noticed}")
    found = kept.first_bad_node()
    if found is None:
        say("NumPy, which computes the step node by node, finds nothing in it that is not finite.")
        return
    typer.echo("")
    typer.echo("\n".join(found.lines(columns())))
    if found.row is not None:
        typer.echo("")
        place = kept.image(found.row)
        say(f"{place[0].upper()}{place[1:]}.")
