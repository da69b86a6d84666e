"""``chainrule health``: why a training does not learn, from what it recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from chainrule.cli.app import app
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say, say_whose_code
from chainrule.display import displayed
from chainrule.errors import UserError


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule health runs/lenet-mnist-1\n\n  chainrule health runs/lenet-mnist-1 --json\n\n"
    "  chainrule health runs/lenet-mnist-1 --step 16",
)
def health(
    run: Annotated[Path, typer.Argument(help="Folder of a run, which may still be training.")],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the picture (SVG, PNG) and the figures (JSON); by default health in the run's. An earlier look in "
            "it is replaced, anything else is not.",
            show_default=False,
        ),
    ] = None,
    step: Annotated[
        int | None,
        typer.Option(
            help="Take the steps up to this one again, in memory, and name the images of its batch that pulled most.",
            show_default=False,
            min=1,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of sentences and tables.")] = False,
) -> None:
    """Say what stands out in a training: gradients, updates and dead units, layer by layer and step by step."""
    from chainrule.cli.console import show_table
    from chainrule.train import health as health_of
    from chainrule.train.pictures.health_picture import HEALTH_FOLDER, write_health

    if step is not None:
        if out is not None:
            raise UserError("--out is where the picture goes, and --step draws none: leave one of them out")
        _look_at_step(run, step, as_json)
        return
    target = out or run / "health"
    found = health_of(run)
    HEALTH_FOLDER.check(target)
    unwritten: UserError | None = None
    try:
        write_health(target, found)
    except UserError as error:
        if out is not None:
            raise
        unwritten = error  # a run may lie where nothing can be written, and be looked at all the same
    if as_json:
        typer.echo(json.dumps({**found.facts(), "folder": None if unwritten else str(target)}))
        return
    say(found.about() + "\n")
    if found.damage():
        say(found.damage() + "\n")
    for finding in found.findings:
        say(f"{finding.name}\n  {finding.sentence()}")
    if not found.findings:
        say("nothing stands out")
    for table in found.tables():
        typer.echo()
        show_table(table)
    if unwritten is not None:
        say(f"\nno drawing: {unwritten}: name another folder with --out")
        return
    typer.echo(f"\ndrawing: {displayed(target / 'health.svg')}")


def _look_at_step(run: Path, step: int, as_json: bool) -> None:
    """What ``--step`` shows."""
    from chainrule.cli.console import show_table
    from chainrule.cli.reading import ReadingProgress, beside
    from chainrule.train import RunFolder, step_again
    from chainrule.train.opening import check_data_of_run

    folder = RunFolder.open(run)
    check_data_of_run(displayed(run), folder.config.data, "put its images back there")
    say_whose_code(folder.config.model, folder.config.model_digest)
    with ReadingProgress(beside(), "steps") as progress:
        found = step_again(folder, step, lambda done, total: progress("taking steps again", done, total))
    if as_json:
        typer.echo(json.dumps(found.facts()))
        return
    say(f"{found.sentence()}\n")
    show_table(found.contents())
