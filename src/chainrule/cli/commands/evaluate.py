"""``chainrule evaluate``: how well a trained model does on test images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.cli.app import app, check_environment
from chainrule.cli.choosing import ModelOfWeights, Weights, chosen_model
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say
from chainrule.errors import UserError

if TYPE_CHECKING:
    from chainrule.data import Dataset
    from chainrule.train import TrainedModel


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule evaluate runs/lenet-mnist-1\n\n"
    "  chainrule evaluate runs/lenet-mnist-1 --data my-digits/ --json\n\n"
    "  chainrule evaluate --weights resnet18.safetensors --data photos/",
)
def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run; by default the LeNet that ships.", show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help="Another data set with the same classes; its test split is used.")] = None,
    weights: Weights = None,
    model: ModelOfWeights = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Loss, accuracy and confusions of a trained model on the test images."""
    from chainrule.cli.tables import confusion_table, worst_classes_table
    from chainrule.data import Loader
    from chainrule.train import command_line, difference, judge
    from chainrule.train import evaluate as evaluate_on

    check_environment()
    trained = chosen_model(run, weights, model)
    if data is None and not trained.data:
        raise UserError(f"{trained.source} does not say what it was trained on: give --data, a data set with its classes")
    test = _test_images(trained.data if data is None else data, trained)
    if test.image_shape != trained.image_shape:
        raise UserError(
            f"{test.name} has images {test.image_shape} (C, H, W), {trained.source} was trained on {trained.image_shape}: "
            "give data with images of that size"
        )
    if not trained.named and len(test.classes) != len(trained.classes):
        raise UserError(
            f"{trained.source} is for {len(trained.classes):,} classes, {test.name} has {len(test.classes):,}: give data with "
            "the classes that it was trained on, in that order"
        )
    if trained.named and list(test.classes) != trained.classes:
        raise UserError(
            f"{trained.source} and {test.name} have different classes: {difference(trained.classes, test.classes)}: "
            "give data with the classes that it was trained on"
        )
    loader = Loader(test, 250, shuffle=False, transforms=[trained.normalise])
    found = evaluate_on(trained.model, loader, judge(trained.model, trained.precision, trained.flip_test))
    if as_json:
        facts = {"loss": found.loss, "accuracy": found.accuracy, "images": found.images, "classes": list(found.classes)}
        typer.echo(json.dumps({**facts, "confusion": found.confusion.tolist()}))
        return
    say(f"{found.correct:,} of {found.images:,} test images right: accuracy {100 * found.accuracy:.2f}%, loss {found.loss:.4f}")
    given: list[object] = [] if run is None else [run]
    given += [] if weights is None else ["--weights", weights, *(["--model", model] if model else [])]
    whole = command_line("evaluate", *given, *([] if data is None else ["--data", data]), "--json")
    confusion_table(found, whole)
    worst_classes_table(found)


def _test_images(data: str, trained: TrainedModel) -> Dataset:
    """Images to test on; a folder's are converted to what the model takes."""
    from chainrule.cli.reading import ReadingProgress, beside, say_notes
    from chainrule.train import open_test_images

    with ReadingProgress(beside()) as progress:
        test, notes = open_test_images(data, trained.image_shape, progress)
    say_notes(notes, beside())
    return test
