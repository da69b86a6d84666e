"""``chainrule evaluate``: how well a trained model does on test images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.cli.app import app, check_environment
from chainrule.cli.choosing import ImageSize, ModelOfWeights, Normalise, Weights, chosen_model
from chainrule.cli.parsing import NamingCommand
from chainrule.cli.saying import say
from chainrule.display import displayed
from chainrule.errors import UserError

if TYPE_CHECKING:
    from chainrule.data import Dataset
    from chainrule.train import TrainedModel

_BATCH = 250  # images that are judged at a time


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule evaluate runs/lenet-mnist-1\n\n"
    "  chainrule evaluate runs/lenet-mnist-1 --data my-digits/ --out my-digits-evaluated\n\n"
    "  chainrule evaluate --weights resnet18.safetensors --data photos/ --json",
)
def evaluate(
    run: Annotated[
        Path | None, typer.Argument(help="Folder of a run; by default the LeNet that ships.", show_default=False)
    ] = None,
    data: Annotated[str | None, typer.Option(help="Another data set with the same classes; its test split is used.")] = None,
    weights: Weights = None,
    model: ModelOfWeights = "",
    image_size: ImageSize = "",
    normalise: Normalise = "",
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the confusion matrix (SVG, PNG, CSV), the accuracy of each class and the worst images; by default "
            "the folder evaluation in the run's. An earlier evaluation in it is replaced, anything else is not.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Loss, accuracy and confusions of a trained model on the test images, and its worst mistakes."""
    from chainrule.cli.reading import ReadingProgress, beside
    from chainrule.cli.tables import accuracy_table, confusion_table
    from chainrule.data import Loader
    from chainrule.train import difference, judge
    from chainrule.train import evaluate as evaluate_on
    from chainrule.train.evaluation_files import check_folder, facts_of, worst_images, write_evaluation
    from chainrule.train.opening import check_data_of_run

    check_environment()
    trained = chosen_model(run, weights, model, image_size=image_size, normalise=normalise)
    if data is None and not trained.data:
        raise UserError(f"{trained.source} does not say what it was trained on: give --data, a data set with its classes")
    if data is None:
        check_data_of_run(trained.source, trained.data, "give --data, where its images are now")
    target = run / "evaluation" if out is None and run is not None else out
    if target is not None:
        check_folder(target)
    test, files = _test_images(trained.data if data is None else data, trained)
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
    loader = Loader(test, _BATCH, shuffle=False, transforms=[trained.normalise])
    done = 0
    with ReadingProgress(beside()) as progress:

        def judged(images: int) -> None:
            nonlocal done
            done += images
            progress(f"judging {test.name}", done, len(test))

        by = judge(trained.model, trained.precision, trained.flip_test)
        found = evaluate_on(trained.model, loader, by, judged, keep_answers=True)
    worst = worst_images(found, files)
    if as_json:
        typer.echo(json.dumps(facts_of(found, worst, test.name)))
    else:
        low, high = found.interval
        say(
            f"{found.correct:,} of {found.images:,} test images right: accuracy {100 * found.accuracy:.2f}%, loss "
            f"{found.loss:.4f}\n95% interval of the accuracy: {100 * low:.2f} - {100 * high:.2f}"
        )
        confusion_table(found, "written with --out FOLDER" if target is None else displayed(target / "confusion.csv"))
        accuracy_table(found)
    if target is not None:
        write_evaluation(target, found, worst, test)
    if not as_json:
        written = "written with --out FOLDER" if target is None else displayed(target)
        say(f"\npictures and tables of confusions, classes and the {len(worst)} worst images: {written}")


def _test_images(data: str, trained: TrainedModel) -> tuple[Dataset, list[str] | None]:
    """Images to test on, and their files; a folder's are converted to what the model takes."""
    from chainrule.cli.reading import ReadingProgress, beside, say_notes
    from chainrule.train import open_images

    with ReadingProgress(beside()) as progress:
        test, notes, files = open_images(data, trained.image_shape, "test", progress)
    say_notes(notes, beside())
    return test, None if files is None else list(map(str, files))
