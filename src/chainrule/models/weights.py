"""Weights from files: of chainrule, torchvision, timm or Hugging Face, into a model whose parameters have the same names."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError
from chainrule.formats import WeightFile
from chainrule.models.catalogue import MODELS
from chainrule.models.layouts import REMARKS, View, best_view, views
from chainrule.nn import Module
from chainrule.nn.fitting import Misfit, Shape, compared, grouped
from chainrule.tensor import tracing

_COUNTS = "num_batches_tracked"  # of batch normalisation: only used without a momentum, so files may lack it
_AVERAGED = ": they are the averages of the weights, which its training tested"
_SPECIAL = ("float32", "float64", "float16", "bfloat16")


@explained_methods
@dataclass(frozen=True)
class Loaded:
    """What ``load_weights`` took from a file: ``notes`` are sentences about what a person should know, ``missing`` the
    entries of the model that kept their values, ``unexpected`` the entries of the file that were left out."""

    notes: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()


@explained_methods
@dataclass(frozen=True)
class Fit:
    """How well a file fits a model of the catalogue: of its ``entries`` parameters and buffers, ``fitting`` have their names
    and shapes in the file, which is for so many ``classes`` and images of so many ``channels``."""

    name: str
    classes: int
    channels: int
    fitting: int
    entries: int

    @property
    def whole(self) -> bool:
        """Whether everything fits."""
        return self.fitting == self.entries


def _shapes(model: Module) -> dict[str, Shape]:
    return {name: cell.shape for name, cell in model.state_cells().items()}


for _class in (Loaded, Fit):
    _class.__init__ = explained(_class.__init__)  # type: ignore[method-assign]


class _Renamed(Mapping[str, Any]):
    """Entries of a file under the names that a model has for them, read when they are asked for."""

    def __init__(self, file: WeightFile, names: Mapping[str, str], shapes: Mapping[str, Shape]) -> None:
        self._file, self._names, self._shapes = file, names, shapes

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        return self._file[self._names[name]].reshape(self._shapes[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@explained
def load_weights(
    model: Module,
    path: str | os.PathLike[str] | WeightFile,
    strict: bool = True,
    new_classifier: bool = False,
) -> Loaded:
    """Assign every parameter and buffer of ``model`` from a file; nothing is assigned unless everything fits.

    ``path`` is a safetensors file, an index of shards (``*.safetensors.index.json``) or a folder that holds either. Numbers are
    converted to the dtype of the parameter. If all names of the model stand in the file behind a prefix (``model.``,
    ``module.``), what has it is taken; names of timm and Hugging Face are translated, as ``chainrule.models.layouts`` lists.
    Counts of batches (``num_batches_tracked``) may be missing.

    ``new_classifier`` leaves the last layer of the model as it is, for other classes than those of the file.
    ``strict=False`` tolerates missing and unexpected names, but never wrong shapes.

    Raises:
        UserError: the file cannot be read, or does not fit; the message lists what is missing, unexpected and of another shape,
            and names the model of the catalogue that fits.
    """
    if not isinstance(model, Module):
        raise UserError(f"load_weights: needs the model, an nn.Module, got a {type(model).__name__}")
    file = path if isinstance(path, WeightFile) else WeightFile(path)
    shapes = _shapes(model)
    view = best_view(views(file), shapes)
    names = dict(view.names)
    notes = []
    if view.layout:
        remark = f"; {REMARKS[view.layout]}" if view.layout in REMARKS else ""
        notes.append(f"names in the file are those of {view.layout}, and were translated{remark}")
    if view.prefix:
        others = [name for name in file if not name.startswith(view.prefix)]
        notes.append(
            f"names in the file begin with {displayed(view.prefix)!r}, which is left out{_AVERAGED if view.averaged else ''}"
            + (f"; what does not is not used: {grouped(list(map(displayed, others)))}" if others else "")
        )
    unused = [name for name in names if name not in shapes and _has_no_use(name, shapes)]
    for name in unused:
        del names[name]
    auxiliary = [name for name in unused if not name.endswith(_COUNTS)]
    if auxiliary:
        notes.append(f"not used, as the model has no auxiliary classifiers: {grouped(auxiliary)}")
    last = classifier(model)
    if new_classifier:
        notes.append(_left_alone(last, names, file, shapes))
        names = {name: there for name, there in names.items() if not _belongs(name, last)}
    given = {name: view.shape(file.shapes[there], shapes.get(name)) for name, there in names.items()}
    misfit = _misfit(model, given, last if new_classifier else None)
    kept = tuple(name for name in misfit.missing if name.endswith(_COUNTS))
    misfit = Misfit(tuple(name for name in misfit.missing if name not in kept), misfit.unexpected, misfit.shapes)
    lacking, surplus = misfit.missing, misfit.unexpected
    if not strict:
        misfit = Misfit(shapes=misfit.shapes)
    if misfit:
        raise _does_not_fit(file, model, misfit, last)
    taken = {name: there for name, there in names.items() if name in shapes}
    if new_classifier and not any(name in taken for name, _ in model.named_parameters()):
        raise UserError(
            f"{displayed(file.path)} has nothing for this {type(model).__name__} but its last layer, which begins anew, so "
            "that nothing of the file would be used: leave the file out"
        )
    _check_numbers(file, model, names)
    file.verify()
    _check_sound(file, model, taken)
    model.load_state_dict(_Renamed(file, taken, shapes), strict=False)
    missing = tuple(name for name in shapes if new_classifier and _belongs(name, last)) + lacking + kept
    return Loaded(tuple(notes), missing, (*surplus, *unused))


def _misfit(model: Module, given: Mapping[str, Shape], without: str | None) -> Misfit:
    """How the entries of a file differ from the model's, but for its last layer, if that is named.

    A parameter that the model holds at several places needs to be in the file under one of its names.
    """
    cells = {name: cell for name, cell in model.state_cells().items() if without is None or not _belongs(name, without)}
    has = {cell for name, cell in cells.items() if name in given}
    return compared({name: cell.shape for name, cell in cells.items() if name in given or cell not in has}, given, cells)


@explained
def classifier(model: Module) -> str:
    """The path of the last layer that has parameters, which gives the scores: "fc", "classifier.6".

    Raises:
        UserError: the model has no parameters.
    """
    names = [name for name, _ in model.named_parameters()]
    if not names:
        raise UserError(f"this {type(model).__name__} has no parameters, so there is no classifier")
    return names[-1].rpartition(".")[0]


def classes_of(model: Module, file: WeightFile) -> int | None:
    """The number of classes that the classifier in a file is for, which has the name of the ``model``'s; None if there is none
    of that name."""
    last, view = classifier(model), best_view(views(file), _shapes(model))
    there = view.names.get(f"{last}.weight" if last else "weight")
    shape = file.shapes[there] if there is not None else ()
    return shape[0] if shape else None


def _belongs(name: str, layer: str) -> bool:
    return name.rpartition(".")[0] == layer


def _left_alone(last: str, names: Mapping[str, str], file: WeightFile, shapes: Mapping[str, Shape]) -> str:
    there = [file.shapes[names[name]][:1] for name in names if _belongs(name, last)]
    here = next(shape[0] for name, shape in shapes.items() if _belongs(name, last))
    other = f"the file's is for {there[-1][0]:,} classes" if there and there[-1] else "the file has none"
    return f"the classifier {last} has new weights, for {here:,} classes: {other}"


def _has_no_use(name: str, shapes: Mapping[str, Shape]) -> bool:
    """Whether an entry of a file is one that no model needs: a count of batches, or of a classifier that only trains others."""
    if name.endswith(_COUNTS):
        return True
    beginnings = {start for entry in MODELS.values() for start in entry.auxiliary}
    return any(name.startswith(start) and not any(one.startswith(start) for one in shapes) for start in beginnings)


def _does_not_fit(file: WeightFile, model: Module, misfit: Misfit, last: str) -> UserError:
    kind, place = type(model).__name__, displayed(file.path)
    if not misfit.missing and not misfit.unexpected and all(_belongs(name, last) for name, _, _ in misfit.shapes):
        _, have, given = misfit.shapes[0]
        if have[1:] == given[1:]:
            return UserError(
                f"{place} is for {given[0]:,} classes, this {kind} has {have[0]:,}: build the model for {given[0]:,} classes, "
                "or load with new_classifier=True, which leaves its last layer as it is"
            )
    lines = [f"{place} does not fit this {kind}:", *("  " + displayed(line) for line in misfit.lines("file"))]
    fit = nearest_model(file)
    if fit is not None and fit.whole:
        of = f"{fit.classes:,} classes" + (f" and {fit.channels} channels" if fit.channels != MODELS[fit.name].image[0] else "")
        if misfit.missing or misfit.unexpected:
            lines.append(f"It fits {fit.name} of {of}: use that model")
        else:  # the same model for images of another size
            height, width = MODELS[fit.name].image[1:]
            lines.append(f"It fits {fit.name} of {of} for images of {height} x {width}: use images of that size")
    elif fit is not None:
        lines.append(f"Nearest is {fit.name}: {fit.fitting:,} of its {fit.entries:,} entries have their names and shapes in it")
    else:
        lines.append("No model of the catalogue is near: give the network that it was made for, as FILE.py:FUNCTION")
    return UserError("\n".join(lines))


def _check_numbers(file: WeightFile, model: Module, names: Mapping[str, str]) -> None:
    """UserError for whole numbers where the model has floats: those of a quantised network mean something else."""
    floats = {name for name, parameter in model.named_parameters() if parameter.dtype.kind != "i"}
    whole = [name for name in floats if name in names and file.dtypes[names[name]] not in _SPECIAL]
    if whole:
        raise UserError(
            f"{displayed(file.path)} holds {file.dtypes[names[whole[0]]]} numbers for {displayed(grouped(sorted(whole)))}: it "
            "is of a quantised network; use the file of the network before that, with float32, float16 or bfloat16"
        )


def _check_sound(file: WeightFile, model: Module, names: Mapping[str, str]) -> None:
    """UserError for weights and running statistics that are not finite in the dtype of the model, and for negative variances:
    nothing can be computed with them, and a training would seem to have diverged."""
    parameters = dict(model.named_parameters())
    for name, cell in model.state_cells().items():
        if name not in names or not (name in parameters or name.endswith(("running_mean", "running_var"))):
            continue
        array = file[names[name]]
        if cell.dtype.kind in "iub" or not array.size:
            continue
        with np.errstate(over="ignore", invalid="ignore"):
            least, most = (float(np.asarray(end).astype(cell.dtype)) for end in (array.min(), array.max()))  # nan if any is
        if not (math.isfinite(least) and math.isfinite(most)):
            raise UserError(
                f"{displayed(file.path)} holds numbers in {displayed(names[name])} that are nan or infinite in "
                f"{cell.dtype.name}: it was saved after a training had diverged, or it is damaged; use another copy"
            )
        if name.endswith("running_var") and least < 0:
            raise UserError(
                f"{displayed(file.path)} holds {least:g} in {displayed(names[name])}, and a variance is never negative: it is "
                "damaged, or was changed by hand; use another copy"
            )


@explained
def nearest_model(file: WeightFile) -> Fit | None:
    """The model of the catalogue whose names and shapes the file's are, or most nearly; None if less than a third are.

    The number of classes, and of channels of the images, may be another.
    """
    total = sum(int(np.prod(shape, dtype=np.int64)) for shape in file.shapes.values())
    known = views(file.shapes)
    best: Fit | None = None
    for name in sorted(MODELS, key=lambda name: abs(MODELS[name].parameters - total)):
        fit = _fit(name, file.shapes, known)
        if fit.whole:
            return fit
        if best is None or fit.fitting / fit.entries > best.fitting / best.entries:
            best = fit
    return best if best is not None and 3 * best.fitting >= best.entries else None


@explained
def classes_in(file: WeightFile, name: str) -> tuple[int, int]:
    """For how many classes, and for images of how many channels, a file of a model of the catalogue is.

    Where it does not say, being of another model, they are the model's usual ones.
    """
    fit = _fit(name, file.shapes, views(file.shapes))
    return fit.classes, fit.channels


def classes_of_own(file: WeightFile, make: Callable[[int, int], Module]) -> tuple[int, int]:
    """For how many classes, and for images of how many channels, a file of a network of one's own is.

    ``make`` builds the network for so many channels and classes. What changes with them in its shapes tells where they stand.
    Where the file has none of these shapes, it is of another network, and any number does to find that out.
    """

    def shapes(channels: int, classes: int) -> dict[str, Shape]:
        with tracing():  # which takes no memory for the weights
            return _shapes(make(channels, classes))

    usual, more = shapes(3, 2), shapes(3, 3)
    view = best_view(views(file), usual)
    given = {name: view.shape(file.shapes[there], usual.get(name)) for name, there in view.names.items()}
    classes = _number_in(given, usual, 2, more, 3) or 2
    try:
        grey = shapes(1, 2)
    except UserError:  # it takes colour alone
        return classes, 3
    return classes, _number_in(given, grey, 1, usual, 3) or 3


def _number_in(
    given: Mapping[str, Shape], some: Mapping[str, Shape], of_some: int, others: Mapping[str, Shape], of_others: int
) -> int | None:
    """The number that a size of a ``given`` shape is a multiple of, where it is so many times ``of_some`` in the shapes of a
    network for that number, and of ``of_others`` in those of a network for that; None if there is no such size."""
    for name, shape in given.items():
        first, second = some.get(name, ()), others.get(name, ())
        if len(first) == len(second) == len(shape):
            for size, one, other in zip(shape, first, second, strict=True):
                if one != other and one % of_some == 0 and one // of_some * of_others == other and size % (one // of_some) == 0:
                    return size // (one // of_some)
    return None


def _fit(name: str, file: Mapping[str, Shape], known: Sequence[View]) -> Fit:
    shapes, last = _of_catalogue(name)
    view = best_view(known, shapes)
    first = next(iter(shapes))
    entry = MODELS[name]
    fitting, classes, channels = 0, entry.classes, entry.image[0]
    for path, shape in shapes.items():
        found = file.get(view.names.get(path, ""))
        fits = found is not None and view.shape(found, shape) == shape
        if not fits and found is not None and len(found) >= len(shape):
            if _belongs(path, last) and math.prod(found[1:]) == math.prod(shape[1:]):
                fits, classes = True, found[0]
            elif path == first and len(shape) == len(found) == 4 and found[:1] + found[2:] == shape[:1] + shape[2:]:
                fits, channels = True, found[1]
        fitting += fits
    return Fit(name, classes, channels, fitting, len(shapes))


@functools.cache
def _of_catalogue(name: str) -> tuple[dict[str, Shape], str]:
    """The shapes of a model's state by name, counts of batches aside, and its classifier: all in about 2 s for all models."""
    entry = MODELS[name]
    with tracing():  # which takes no memory for the weights
        model = entry.model(entry.image[0], entry.classes, entry.image[1:])
    return {path: shape for path, shape in _shapes(model).items() if not path.endswith(_COUNTS)}, classifier(model)
