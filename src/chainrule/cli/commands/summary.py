"""``chainrule summary``: the layers of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chainrule.arguments import written_whole
from chainrule.cli.app import app
from chainrule.cli.choosing import Weights, chosen_model
from chainrule.cli.parsing import NamingCommand
from chainrule.errors import UserError, unknown_value
from chainrule.models import MODELS
from chainrule.models.own import is_own


@app.command(
    cls=NamingCommand,
    epilog="Examples:\n\n  chainrule summary\n\n  chainrule summary resnet18\n\n"
    "  chainrule summary mlp --input 3x32x32 --classes 10\n\n  chainrule summary runs/lenet-mnist-1\n\n"
    "  chainrule summary --weights resnet18.safetensors",
)
def summary(
    model: Annotated[
        str, typer.Argument(help="Name of a model, or folder of a run; by default lenet.", show_default=False)
    ] = "",
    image: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Size of one image: channels x height x width. By default what the model is usually trained on.",
            show_default=False,
        ),
    ] = None,
    classes: Annotated[
        int | None, typer.Option(min=2, help="Number of classes. By default the model's usual number.", show_default=False)
    ] = None,
    weights: Weights = None,
) -> None:
    """Layers of a model with output shapes, parameters, multiply-adds and receptive fields."""
    from chainrule.models import build
    from chainrule.tensor import tracing

    if weights is not None:
        if image is not None or classes is not None:
            raise UserError("--weights says itself for which images and classes it is: leave --input and --classes out")
        trained = chosen_model(None, weights, model)
        network, shape = trained.model, trained.image_shape
    elif model in MODELS or is_own(model) or not model:
        model = model or "lenet"
        usual = MODELS[model] if model in MODELS else MODELS["lenet"]
        shape = usual.image if image is None else _image_shape(image)
        with tracing():  # which takes no memory, whatever the size
            network = build(model, shape[0], usual.classes if classes is None else classes, (shape[1], shape[2]))
    elif Path(model).is_dir():
        trained = chosen_model(Path(model), None, "", judging=False, movable=False)
        network, shape = trained.model, trained.image_shape
    else:
        raise UserError(f"{unknown_value('model', model, MODELS)}, or the folder of a run")
    from chainrule.cli.tables import summary_table

    summary_table(network.summary((1, *shape)))


def _image_shape(text: str) -> tuple[int, int, int]:
    sizes = [written_whole(part) for part in text.lower().split("x")]
    if len(sizes) != 3 or not sizes[0] or not sizes[1] or not sizes[2]:
        raise UserError(f"--input must be channels x height x width, for example 3x32x32, got {text!r}")
    return sizes[0], sizes[1], sizes[2]
