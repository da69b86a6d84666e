"""``chainrule lr``: which learning rates are worth a try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.cli.app import app, check_environment
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say, say_whose_code
from chainrule.cli.training_options import as_typed, refuse_options_beside, takes_training_options
from chainrule.display import displayed
from chainrule.train.config import Config, check_code


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule lr\n\n  chainrule lr runs/lenet-mnist-1\n\n"
    "  chainrule lr --model resnet20 --data photos/ --optimizer adam --json",
)
@takes_training_options
def lr(
    context: typer.Context,
    run: Annotated[
        Path | None,
        typer.Argument(help="Folder of a run, whose options are taken; by default those below.", show_default=False),
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps at most, each with a larger rate.")] = 300,
    lowest: Annotated[
        float | None,
        typer.Option(help="Rate to begin with; by default a thousandth of the optimizer's own.", show_default=False),
    ] = None,
    highest: Annotated[
        float | None,
        typer.Option(help="Rate to end with; by default a hundred times the optimizer's own.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the picture (SVG, PNG) and the losses (CSV, JSON); by default lr in the run's, or "
            "runs/<model>-<data>-lr. An earlier sweep in it is replaced, anything else is not.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
    **options: Any,
) -> None:
    """Find a learning rate: a short training in which it grows, until the loss diverges. No run is changed."""
    from chainrule.cli.console import show_table
    from chainrule.cli.reading import ReadingProgress, beside, say_notes
    from chainrule.train import RunFolder, command_line, find_lr, next_folder, open_datasets
    from chainrule.train.lr_finder import sweep_limits
    from chainrule.train.opening import check_data_of_run
    from chainrule.train.pictures.lr_picture import SWEEP_FOLDER, write_sweep

    check_environment()
    if run is not None:
        refuse_options_beside(context, displayed(run))
        config = RunFolder.open(run).config
        check_data_of_run(displayed(run), config.data, "put it there again")
        check_code(displayed(run), config, movable=False)
        target = out or run / "lr"
    else:
        config = Config(**options)
        target = out or next_folder(config).with_name(next_folder(config).name.rpartition("-")[0] + "-lr")
    sweep_limits(config, lowest, highest, steps)
    SWEEP_FOLDER.check(target)
    say_whose_code(config.model, config.model_digest)
    with ReadingProgress(beside()) as reading:
        opened = open_datasets(config, reading)
    say_notes(opened.notes, beside())
    config = opened.config
    if not as_json:
        say(f"{config.model}, {config.precision}, seed {config.seed}\n{opened.about}")
    with ReadingProgress(beside(), "steps") as progress:
        found = find_lr(
            config,
            opened.training,
            opened.test,
            lowest=lowest,
            highest=highest,
            steps=steps,
            on_step=lambda done, most, rate, loss: progress(f"learning rate {rate:.2g}, loss {loss:.3g}", done, most),
        )
    write_sweep(target, found, f"{config.model} on {opened.training.name}, {config.optimizer}, seed {config.seed}")
    if as_json:
        typer.echo(json.dumps({**found.facts(), "folder": str(target)}))
        return
    typer.echo()
    show_table(found.contents())
    where = "within" if found.holds_present else "outside of"
    say(f"\n{found.reason}")
    if found.proposal is not None:
        say(f"the rate of the options, {found.present:g}, lies {where} that range")
    typer.echo(f"drawing: {displayed(target / 'lr.svg')}")
    if found.proposal is not None:
        typer.echo(f"use it:  {command_line('train', *as_typed(config, lr=found.proposal))}")
