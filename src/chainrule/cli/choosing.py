"""Which model a command uses: that of a run, that of a file of weights, or the LeNet that ships with chainrule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chainrule.cli.saying import say_beside, say_how_judged, say_whose_code
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.models.own import digest, is_own, located

if TYPE_CHECKING:
    from chainrule.train import TrainedModel

Weights = Annotated[
    Path | None,
    typer.Option(
        help="Take the weights of this safetensors file, of whatever program, instead of a run's.",
        show_default=False,
    ),
]
ModelOfWeights = Annotated[
    str,
    typer.Option(
        "--model",
        help="With --weights: the model that they are for, as `chainrule models` lists it, or FILE.py:FUNCTION. By default the "
        "one that fits. With a run of a network of your own: where its FILE.py:FUNCTION is now.",
        show_default=False,
    ),
]

ImageSize = Annotated[
    str,
    typer.Option(
        help="With --weights of others: the height x width that images are resized to, such as 224x224. By default what the "
        "model is usually trained on.",
        show_default=False,
    ),
]
Normalise = Annotated[
    str,
    typer.Option(
        help="With --weights of others: what images are normalised by, imagenet or MEAN/STD, such as 0.5/0.5. By default "
        "imagenet for images in colour.",
        show_default=False,
    ),
]


def chosen_model(
    run: Path | None,
    weights: Path | None,
    model: str,
    judging: bool = True,
    movable: bool = True,
    image_size: str = "",
    normalise: str = "",
) -> TrainedModel:
    """The model that is meant, after a word about what was assumed of it; the LeNet that ships if none is named.

    If it is to judge images, it is also said how it does that. ``movable`` is that of ``check_code``.
    ``image_size`` and ``normalise`` say of weights of others how their images are read.
    """
    from chainrule.train import RunFolder, model_of_run, model_of_weights, shipped_model
    from chainrule.train.config import check_code, elsewhere, read_size

    if model and weights is None and (run is None or not is_own(model)):
        raise UserError(
            f"--model {displayed(model)} needs --weights, the file with its weights: a run says itself what it is of"
        )
    for option, value in (("--image-size", image_size), ("--normalise", normalise)):
        if value and weights is None:
            raise UserError(f"{option} belongs to --weights: a run says itself how its images are read, so leave it out")
    if weights is not None:
        if run is not None:
            raise UserError(f"--weights takes the place of the run {displayed(run)}: leave one of them out")
        if is_own(model):
            say_whose_code(model, digest(located(model)))
        trained = model_of_weights(weights, model, read_size(image_size), normalise)
        for note in trained.notes:
            say_beside("note: ", "bold", note)
        return trained
    if run is None:
        return shipped_model()
    folder = RunFolder.open(run)
    if model:
        folder.config = elsewhere(folder.config, model)
    check_code(displayed(run), folder.config, movable)
    say_whose_code(folder.config.model, folder.config.model_digest)
    if judging:
        say_how_judged(folder.config)
    return model_of_run(folder)
