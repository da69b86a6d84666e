"""``chainrule compare``: runs beside each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.app import app
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say, say_beside
from chainrule.display import displayed


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule compare runs/lenet-mnist-1 runs/lenet-mnist-2\n\n"
    "  chainrule compare runs/lenet-mnist-* --out compared --json",
)
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Folders of at least two runs; each is compared with the first.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the picture (SVG, PNG) and the figures (JSON); by default comparison beside the first run. An "
            "earlier comparison in it is replaced, anything else is not.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Compare runs: what differs in their options, their curves, and whether one is better by more than chance."""
    from chainrule.cli.console import show_table
    from chainrule.train import compare as compare_runs
    from chainrule.train.pictures.comparison_picture import COMPARISON_FOLDER, write_comparison

    target = out or runs[0].parent / "comparison"
    COMPARISON_FOLDER.check(target)
    found = compare_runs(runs)
    write_comparison(target, found)
    for note in found.notes:
        say_beside("note: ", "bold", note)
    if as_json:
        typer.echo(json.dumps({**found.facts(), "folder": str(target)}))
        return
    if found.options:
        show_table(found.options_table())
    else:
        say("The options are the same.")
    typer.echo()
    show_table(found.contents())
    say("\n" + "\n".join(found.sentences()))
    if found.differences:
        say("\nchance is that of which images are tested on; other seeds give other weights, too")
    if any(one.p is None for one in found.differences):
        say("evaluate each run with `chainrule evaluate`, and they are compared image by image, which sees smaller differences")
    typer.echo(f"drawing: {displayed(target / 'comparison.svg')}")
