"""``chainrule predict``: what a trained model takes images for."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.arguments import whole_number
from chainrule.cli.app import UNREAD, app, check_environment
from chainrule.cli.choosing import ImageSize, ModelOfWeights, Normalise, Weights, chosen_model
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import complain, say
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.train.config import MOST_COUNTED

if TYPE_CHECKING:
    from chainrule.train import Prediction, TrainedModel


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule predict my-seven.png\n\n  chainrule predict runs/lenet-mnist-1\n\n"
    "  chainrule predict runs/lenet-mnist-1 my-seven.png --invert\n\n"
    "  chainrule predict runs/photos holiday/ --out holiday.csv\n\n"
    "  chainrule predict runs/photos 'archive/**/*.jpg' --top 1 --json\n\n"
    "  chainrule predict --weights resnet18.safetensors photo.jpg",
)
def predict(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of a run. Without one, the LeNet that ships with chainrule takes images for digits.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Image files (PNG, JPEG, WebP, ...), folders, which are searched with all folders in them, or quoted "
            "patterns, in which ** stands for any folders. Without any, three digits that ship with chainrule, for a model of "
            "MNIST."
        ),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to show.")] = 3,
    invert: Annotated[bool, typer.Option(help="Turn light into dark first: for dark strokes on white.")] = False,
    weights: Weights = None,
    model: ModelOfWeights = "",
    image_size: ImageSize = "",
    normalise: Normalise = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write the predictions into this file, as CSV or JSON, as its name ends. In CSV, what a spreadsheet would "
            "take for a formula has ./ before it if it is the name of a file, and ' if it is that of a class.",
            show_default=False,
        ),
    ] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV instead of a table.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """The most probable classes of images."""
    from chainrule.cli.reading import ReadingProgress, beside
    from chainrule.data.image_paths import find_images
    from chainrule.formats import write_atomically
    from chainrule.train.prediction_files import written

    whole_number("top", top, 1, MOST_COUNTED)
    form = _format(out, as_csv, as_json)
    check_environment()
    if run is not None and (weights is not None or _means_images(run)):
        images, run = [str(run), *(images or [])], None
    trained = chosen_model(run, weights, model, image_size=image_size, normalise=normalise)
    files = find_images(images) if images else list(_samples(trained, [run] if run is not None else ["--weights", weights]))
    unread: list[Prediction] = []
    on_screen = form and out is None and sys.stdout.isatty()  # where a line that is redrawn would be in the way
    with ReadingProgress(beside()) as progress:
        told = None if on_screen else progress
        predictions = _noticing(trained.predictions(files, top, invert, told), unread)
        if not form:
            shown = list(predictions)
        else:
            pieces = written(predictions, form, min(top, len(trained.classes)))
            if out is not None:
                write_atomically(out, [piece.encode() for piece in pieces])
            else:
                for piece in pieces:
                    typer.echo(piece, nl=False)
    if not form:
        if images and run is None and weights is None and len(unread) < len(files):
            say(f"taken for digits by {trained.source}:")
        _show(shown, sampled=not images)
    elif out is not None:
        say(f"predictions of {len(files) - len(unread):,} images: {displayed(out)}")
    if unread:
        named = [f"{displayed(one.path)} {one.error}" for one in unread]
        complain("\n  ".join([f"{len(unread):,} of {len(files):,} images cannot be read:", *named]))
        raise typer.Exit(UNREAD)


def _format(out: Path | None, as_csv: bool, as_json: bool) -> str:
    """The format to write, or "" for a table; a UserError where the options contradict each other or ``out`` cannot be made."""
    from chainrule.train.prediction_files import FORMATS

    flags = [name for name, given in zip(FORMATS, (as_csv, as_json), strict=True) if given]
    if len(flags) > 1:
        raise UserError("--csv and --json print the same in two formats: leave one of them out")
    if out is None:
        return flags[0] if flags else ""
    ending = out.suffix.lower().removeprefix(".")
    if ending not in FORMATS:
        raise UserError(f"--out {displayed(out)}: the name must end with .csv or .json, which says what is written")
    if flags:
        raise UserError(f"--{flags[0]} prints, and --out writes what its name ends with: leave one of them out")
    if not out.parent.is_dir():  # said before all images are read
        raise UserError(f"--out {displayed(out)}: there is no folder {displayed(out.parent)}: make it, or choose another")
    return ending


def _noticing(predictions: Iterable[Prediction], unread: list[Prediction]) -> Iterator[Prediction]:
    """The predictions as they come; those of what gave no image are put into ``unread``."""
    for one in predictions:
        if one.error:
            unread.append(one)
        yield one


def _show(predictions: Sequence[Prediction], sampled: bool) -> None:
    """A table, in which the samples that ship with chainrule go by their names."""
    from chainrule.cli.tables import prediction_table

    if sampled:
        say(f"three of MNIST's test images, which ship in {Path(predictions[0].path).parent}:")
        predictions = [replace(one, path=Path(one.path).name) for one in predictions]
    prediction_table([one for one in predictions if not one.error])


def _means_images(word: Path) -> bool:
    """Whether the first word is no folder of a run but an image: a file, the name of one, or a pattern."""
    from chainrule.data.image_files import image_endings

    if os.path.lexists(word):
        return not word.is_dir()
    return glob.has_magic(str(word)) or word.suffix.lower() in image_endings()


def _samples(trained: TrainedModel, given: Sequence[object]) -> Sequence[Path]:
    """The images that ship with chainrule, if they are what the model was trained on."""
    from chainrule.data import MNIST_SAMPLES
    from chainrule.train import command_line

    if trained.data != "mnist":
        on = f"was trained on {displayed(trained.data)}" if trained.data else "does not say what it was trained on"
        raise UserError(
            f"no image is given: `{command_line('predict', *given, 'IMAGE...')}` takes files; the samples that ship with "
            f"chainrule are digits of MNIST, and {trained.source} {on}"
        )
    return MNIST_SAMPLES
