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
from chainrule.models.weights import classes_of_own
from chainrule.train.checkpoint import is_checkpoint, is_model, load_model, model_description, weights_description
from chainrule.train.command_line import command_line
from chainrule.train.normalisation import IMAGES, OF_IMAGENET, MeanStd, chosen_mean_std, how_normalised
from chainrule.train.predict import TrainedModel
from chainrule.train.run_folder import RunFolder


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
def model_of_weights(
    path: str | os.PathLike[str], name: str = "", size: tuple[int, int] | None = None, normalise: str = ""
) -> TrainedModel:
    """A model with the weights of a file (or an index of shards), of a run or of others.

    ``name`` is a model of the catalogue or ``FILE.py:FUNCTION``; without one, the model of the catalogue that fits the file is
    taken. What a run noted beside its weights is used. Of a file without such notes the classes are numbers, and its images are
    of the ``size`` (height, width) that the model is usually trained on, if no other is given, and normalised as ``normalise``
    says, "imagenet" or "MEAN/STD", and without that as those of ImageNet if they are in colour.

    Raises:
        UserError: the file cannot be read, or does not fit the model; or it is of a network of one's own, and there is no size.
    """
    if name:
        check_name(name)
    file = WeightFile(path)
    source = displayed(file.path)
    if is_model(file.metadata) or is_checkpoint(file.metadata):
        if size is not None or normalise:
            raise UserError(
                f"{source} is of a run, which notes how images are read: leave "
                f"{'--normalise' if size is None else '--image-size'} out"
            )
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
    return _assumed(file, name, size, normalise)


def _assumed(file: WeightFile, name: str, size: tuple[int, int] | None, normalise: str) -> TrainedModel:
    """A model with the weights of a file that does not say what they are for."""
    source = displayed(file.path)
    if normalise == IMAGES:
        raise UserError(f"{source} does not say on which images it was trained: normalise must be imagenet or MEAN/STD")
    if is_own(name):
        if size is None:
            raise UserError(f"{source} does not say for images of which size it is: give it, as --image-size HxW")
        chosen = size
        classes, channels = classes_of_own(file, lambda channels, classes: build(name, channels, classes, chosen))
    else:
        classes, channels = classes_in(file, name)
        size = size or MODELS[name].image[1:]
    usual = OF_IMAGENET if channels == 3 else MeanStd([0.0] * channels, [1.0] * channels)
    mean, std = chosen_mean_std(normalise, usual)
    facts = {
        "model": name,
        "image_shape": [channels, *size],
        "classes": [str(number) for number in range(classes)],
        "mean": mean,
        "std": std,
        "dtype": "float32",
    }
    model = build(name, channels, classes, size)
    loaded = load_weights(model, file)
    assumed = (
        f"{source} is taken for {displayed(name)} of {classes:,} classes; it does not say more, so classes are numbers, and "
        f"images are resized to {size[0]} x {size[1]} and {how_normalised(MeanStd(mean, std))}"
    )
    return TrainedModel(model, facts, source, named=False, notes=(assumed, *loaded.notes))
