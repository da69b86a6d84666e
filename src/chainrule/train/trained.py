"""Models with their weights: from a run, from a file of weights, and the LeNet that ships with chainrule."""

from __future__ import annotations

import os
from typing import Any

from chainrule.arguments import explained
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import WeightFile
from chainrule.models import MODELS, TRAINED_LENET, build, check_name, classes_in, load_weights, nearest_model
from chainrule.models.own import is_own
from chainrule.train.checkpoint import is_checkpoint, is_model, load_model, model_description, weights_description
from chainrule.train.command_line import command_line
from chainrule.train.predict import TrainedModel
from chainrule.train.run_folder import RunFolder

_IMAGENET = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
"""Mean and standard deviation of the channels of ImageNet's images, with which the weights of others are trained."""


@explained
def model_of_run(run: RunFolder) -> TrainedModel:
    """The model that a run trained, as of its latest epoch.

    Raises:
        UserError: there is none yet, or its file is damaged or of another model.
    """
    if not run.model.exists():
        raise UserError(
            f"{displayed(run.path)} holds no trained model yet: it is written after the first epoch; continue with "
            f"`{command_line('train', '--resume', run.path)}`"
        )
    facts, config = model_description(run.model), run.config
    if facts["model_digest"] and facts["model_digest"] == config.model_digest:
        facts["model"] = config.model  # which says where the file is now
    model = _loaded(run.model, facts)
    return TrainedModel(model, facts, displayed(run.path), config.precision, config.flip_test, config.data)


@explained
def shipped_model() -> TrainedModel:
    """The LeNet that ships with chainrule, trained on MNIST by ``scripts/trained_lenet.py``."""
    facts = model_description(TRAINED_LENET)
    return TrainedModel(_loaded(TRAINED_LENET, facts), facts, "the LeNet that ships with chainrule", data="mnist")


def _loaded(path: Any, facts: dict[str, Any]) -> Any:
    channels, height, width = facts["image_shape"]
    model = build(facts["model"], channels, len(facts["classes"]), (height, width), facts["model_digest"])
    model = model.astype(facts["dtype"])
    load_model(path, model)
    return model


@explained
def model_of_weights(path: str | os.PathLike[str], name: str = "") -> TrainedModel:
    """A model with the weights of a file (or an index of shards), of a run or of others.

    ``name`` is a model of the catalogue or ``FILE.py:FUNCTION``; without one, the model of the catalogue that fits the file is
    taken. What a run noted beside its weights is used. Of a file without such notes the classes are numbers, and its images are
    those that the model is usually trained on, normalised as those of ImageNet if they are in colour.

    Raises:
        UserError: the file cannot be read, or does not fit the model.
    """
    if name:
        check_name(name)
    file = WeightFile(path)
    source = displayed(file.path)
    if is_model(file.metadata) or is_checkpoint(file.metadata):
        facts = weights_description(file.path)
        if is_own(facts["model"]) and not name:
            raise UserError(
                f"{source} is of a network of somebody's own, {displayed(facts['model'])}: name it with --model "
                "FILE.py:FUNCTION, as that file will be run"
            )
        channels, height, width = facts["image_shape"]
        model = build(name or facts["model"], channels, len(facts["classes"]), (height, width)).astype(facts["dtype"])
        loaded = load_weights(model, file)
        return TrainedModel(model, facts, source, notes=loaded.notes)
    if not name:
        fit = nearest_model(file)
        if fit is None or not fit.whole:
            near = "" if fit is None else f" (nearest is {fit.name}, of whose {fit.entries:,} entries it has {fit.fitting:,})"
            raise UserError(f"{source} fits no model of the catalogue{near}: name its model with --model")
        name = fit.name
    elif is_own(name):
        raise UserError(
            f"{source} does not say for which images and classes it is, as files of chainrule's runs do: load it in a program, "
            "with chainrule.models.load_weights(model, path)"
        )
    classes, channels = classes_in(file, name)
    _, height, width = MODELS[name].image
    facts = {
        "model": name,
        "image_shape": [channels, height, width],
        "classes": [str(number) for number in range(classes)],
        **(_IMAGENET if channels == 3 else {"mean": [0.0] * channels, "std": [1.0] * channels}),
        "dtype": "float32",
    }
    model = build(name, channels, classes, (height, width))
    loaded = load_weights(model, file)
    scaled = "normalised as those of ImageNet" if channels == 3 else "not normalised"
    assumed = (
        f"{source} is taken for {name} of {classes:,} classes; it does not say more, so classes are numbers, and images are "
        f"resized to {height} x {width} and {scaled}"
    )
    return TrainedModel(model, facts, source, named=False, notes=(assumed, *loaded.notes))
