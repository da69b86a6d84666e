"""``chainrule predict``: what a trained model takes images for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.arguments import whole_number
from chainrule.cli.app import UNREAD, app, check_environment
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import complain, say, say_how_judged, say_whose_code
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.train.config import MOST_COUNTED

if TYPE_CHECKING:
    from chainrule.train import RunFolder


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule predict runs/lenet-mnist-1\n\n  chainrule predict runs/lenet-mnist-1 my-seven.png\n\n"
    "  chainrule predict runs/lenet-mnist-1 scans/*.jpg --invert --json",
)
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    images: Annotated[
        list[Path] | None,
        typer.Argument(
            help="Image files (PNG, JPEG, WebP, ...); without any, three digits that ship with chainrule, for a model of MNIST."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    invert: Annotated[bool, typer.Option(help="Turn light into dark first: for dark strokes on white.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The most probable classes of images."""
    from chainrule.cli.reading import ReadingProgress, beside
    from chainrule.cli.tables import prediction_table
    from chainrule.train import RunFolder, TrainedModel

    whole_number("top", top, 1, MOST_COUNTED)
    check_environment()
    folder = RunFolder.open(run)
    say_whose_code(folder.config)
    say_how_judged(folder.config)
    trained = TrainedModel(folder)
    with ReadingProgress(beside()) as progress:
        predictions = trained.predict(images or _samples(folder), top, invert, progress)
    unread = [one for one in predictions if one.error]
    if as_json:
        rows = [
            {
                "image": one.path,
                "top": [{"class": name, "probability": share} for name, share in one.top],
                "note": one.note,
                "error": one.error,
            }
            for one in predictions
        ]
        typer.echo(json.dumps(rows))
    else:
        if not images:
            say(f"three of MNIST's test images, which ship in {Path(predictions[0].path).parent}:")
            predictions = [replace(one, path=Path(one.path).name) for one in predictions]
        prediction_table([one for one in predictions if not one.error])
    if unread:
        named = [f"{displayed(one.path)} {one.error}" for one in unread]
        complain("\n  ".join([f"{len(unread):,} of {len(predictions):,} images cannot be read:", *named]))
        raise typer.Exit(UNREAD)


def _samples(run: RunFolder) -> Sequence[Path]:
    """The images that ship with chainrule, if they are what the run was trained on."""
    from chainrule.data import MNIST_SAMPLES
    from chainrule.train import command_line

    if run.config.data != "mnist":
        raise UserError(
            f"no image is given: `{command_line('predict', run.path, 'IMAGE...')}` takes files; the samples that ship with "
            f"chainrule are digits of MNIST, and {displayed(run.path)} was trained on {displayed(run.config.data)}"
        )
    return MNIST_SAMPLES
