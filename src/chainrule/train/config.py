"""What one training is to do: every option, checked, and how it is written to the run's folder."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chainrule.arguments import explained, explained_methods, flag, real_number, whole_number, written_whole
from chainrule.data.named import KNOWN
from chainrule.display import displayed
from chainrule.errors import UserError, unknown_value
from chainrule.formats.places import from_folder, settled
from chainrule.models import check_name
from chainrule.models.own import digest, is_own, located
from chainrule.ops import PRECISIONS
from chainrule.train import transfer
from chainrule.train.augmentations import check_augment
from chainrule.train.diagnosis.findings import silenced_names
from chainrule.train.normalisation import normalise_of_weights, read_normalise
from chainrule.train.optimization import OPTIMIZERS, SCHEDULES
from chainrule.train.parts import LEAST_RATE, MOST_RATE, check_pattern, rates_by_pattern

MOST_COUNTED = 1_000_000_000
"""The largest number of epochs, images or steps: a larger one is a slip, and would train for longer than anybody waits."""

ON_NAN = ("explain", "stop", "skip")
"""What is done about a step with numbers that are not finite: its first cause is named, the training stops at once, or goes on
without it."""

_USUAL_MOMENTUM = 0.9

_WHOLE = {
    "epochs": 1,
    "batch_size": 1,
    "accumulate": 1,
    "patience": 0,
    "seed": 0,
    "limit": 0,
    "workers": 0,
    "checkpoint_every": 0,
}
"""Options that are whole numbers, with the least of each."""

_TAKEN_FOR_0 = "as native code takes smaller float32 numbers for 0"
_DASHED = ("checkpoint_every", "clip_norm", "clip_value", "warm_up", "lr_of", "flip_test")
"""Options that messages call by the words that are typed; others are in plain words, such as "batch size"."""

_INDIFFERENT = ("workers", "silence", "health", "checkpoint_every", "on_nan")
"""Options that the weights do not depend on, as long as all numbers are finite."""

_PLACES = ("data", "weights")
"""Where files lie: what tells them from others is noted beside that, so that they may be moved."""

_WAY = "data_from_here"
"""What a run's folder calls the way from there to its data."""

_AT_LEAST_0 = ("weight_decay", "clip_norm", "clip_value", "mixup", "cutmix")
_SHARES = {"momentum": False, "label_smoothing": True, "ema": False}
"""Options from 0 to 1, and whether they may be 1."""


@explained_methods
@dataclass(frozen=True)
class Config:
    """Options of one training; the defaults train LeNet on MNIST to over 99%.

    ``model`` is a name, or ``FILE.py:FUNCTION``, whose path is made absolute and whose SHA-256 is noted as ``model_digest``.
    ``weights`` is a file, a folder or empty, and noted in the same way with its digest. ``data`` is a name or a folder, whose
    path is made absolute, too.
    ``image_size`` such as "32x32" (height x width) and ``image_mode`` "L" or "RGB" convert the images of a folder; while they
    are empty, nobody has decided yet (``open_datasets`` does). ``normalise`` is "images", "imagenet" or "MEAN/STD"; while it is
    empty, it is what the weights were trained with, or "images" without weights. ``limit`` uses only so many training images.
    All other options are described in ``docs/training-options.md``; 0 or an empty text means without. ``lr`` None is the
    optimizer's default.
    """

    model: str = "lenet"
    model_digest: str = ""
    data: str = "mnist"
    weights: str = ""
    weights_digest: str = ""
    freeze: str = ""
    epochs: int = 3
    batch_size: int = 64
    accumulate: int = 1
    optimizer: str = "sgd"
    lr: float | None = None
    lr_of: str = ""
    momentum: float = _USUAL_MOMENTUM
    nesterov: bool = True
    weight_decay: float = 0.0
    clip_norm: float = 0.0
    clip_value: float = 0.0
    schedule: str = "one-cycle"
    warm_up: float = 0.0
    ema: float = 0.0
    patience: int = 0
    label_smoothing: float = 0.1
    augment: str = "auto"
    mixup: float = 0.0
    cutmix: float = 0.0
    flip_test: bool = False
    image_size: str = ""
    image_mode: str = ""
    normalise: str = ""
    precision: str = "float32"
    seed: int = 0
    limit: int = 0
    workers: int | None = None
    silence: str = ""
    health: bool = True
    checkpoint_every: int = 0
    on_nan: str = "explain"

    def __post_init__(self) -> None:
        check_name(self.model)
        if is_own(self.model) and not self.model_digest:
            object.__setattr__(self, "model", located(self.model))
            object.__setattr__(self, "model_digest", digest(self.model))
        for option in ("data", "weights"):
            if not isinstance(getattr(self, option), str):
                raise UserError(f"{option} must be a text, got {getattr(self, option)!r}")
        if self.data and self.data not in KNOWN and (place := settled(self.data)).exists():
            object.__setattr__(self, "data", str(place))
        if self.weights and not self.weights_digest:
            object.__setattr__(self, "weights", transfer.located(self.weights))
            object.__setattr__(self, "weights_digest", transfer.digest(self.weights))
            if not self.normalise:
                object.__setattr__(self, "normalise", normalise_of_weights(self.weights))
        for what, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
            ("on-nan", self.on_nan, ON_NAN),
        ):
            if value not in known:
                raise unknown_value(what, value, known)
        for option, low in _WHOLE.items():
            if (value := getattr(self, option)) is None:  # that of workers
                continue
            found = whole_number(_called(option), value, low, None if option == "seed" else MOST_COUNTED)
            if found is not value:  # of NumPy: files hold Python's
                object.__setattr__(self, option, found)
        self._check_numbers()
        for option in ("nesterov", "flip_test", "health"):
            flag(_called(option), getattr(self, option))
        for option in ("augment", "image_size", "image_mode", "normalise", "freeze", "lr_of", "silence"):
            if not isinstance(getattr(self, option), str):
                raise UserError(f"{_called(option)} must be a text, got {getattr(self, option)!r}")
        if self.image_mode not in ("", "L", "RGB"):
            raise unknown_value("image mode", self.image_mode, ("L", "RGB"))
        self.size  # noqa: B018 - checks it
        read_normalise(self.normalise)
        check_augment(self.augment)
        check_pattern("freeze", self.freeze)
        rates_by_pattern(self.lr_of)
        silenced_names("silence", self.silence)
        self._check_together()

    def _check_numbers(self) -> None:
        for option in (*_AT_LEAST_0, *_SHARES, "warm_up"):
            real_number(_called(option), getattr(self, option))
        if self.lr is not None:
            real_number("learning rate", self.lr)
        if self.lr is not None and not 0 < self.lr <= MOST_RATE:
            most = f" and at most {MOST_RATE}, as it is a float32" if MOST_RATE < self.lr < math.inf else ""
            raise UserError(f"learning rate must be a finite number above 0{most}, got {self.lr}")
        if self.lr is not None and self.lr < LEAST_RATE:
            raise UserError(f"learning rate must be at least {LEAST_RATE}, {_TAKEN_FOR_0}, got {self.lr}")
        for option, may_be_1 in _SHARES.items():
            value = getattr(self, option)
            if not 0 <= value <= 1 or (value == 1 and not may_be_1):
                limits = "from 0 to 1" if may_be_1 else "at least 0 and under 1"
                raise UserError(f"{_called(option)} must be {limits}, got {value}")
        for option in _AT_LEAST_0:
            value = getattr(self, option)
            if not 0 <= value <= MOST_RATE:
                most = f" and at most {MOST_RATE}, as it is a float32" if MOST_RATE < value < math.inf else ""
                raise UserError(f"{_called(option)} must be a finite number of at least 0{most}, got {value}")
            if 0 < value < LEAST_RATE:
                raise UserError(f"{_called(option)} must be 0 or at least {LEAST_RATE}, {_TAKEN_FOR_0}, got {value}")
        if not 0 <= self.warm_up <= MOST_COUNTED or (self.warm_up >= 1 and self.warm_up % 1):
            raise UserError(
                f"warm-up must be a whole number of steps, or, below 1, their share of all steps, got {self.warm_up}"
            )

    def _check_together(self) -> None:
        """Options that mean nothing beside another one."""
        if self.clip_norm and self.clip_value:
            raise UserError("clip-norm and clip-value are two ways to clip gradients: give one of them")
        if not self.nesterov and self.optimizer != "sgd":
            raise UserError(f"no-nesterov is an option of sgd, not of {self.optimizer}: leave it out")
        if not OPTIMIZERS[self.optimizer].momentum and self.momentum not in (0, _USUAL_MOMENTUM):
            raise UserError(f"{self.optimizer} has no momentum: leave it out, got {self.momentum}")

    @property
    def model_name(self) -> str:
        """The model's name; for a network of one's own, that of its function."""
        return self.model.rpartition(":")[2]

    @property
    def peak_lr(self) -> float:
        """The learning rate, or, if none is given, the optimizer's own default."""
        return OPTIMIZERS[self.optimizer].rate if self.lr is None else self.lr

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width to resize images to; None where nobody has decided."""
        return read_size(self.image_size)

    @property
    def dtype(self) -> str:
        """dtype of parameters and images: bfloat16 is a precision of products, the weights stay float32."""
        return "float64" if self.precision == "float64" else "float32"

    def _found_from(self, folder: Path, way: str) -> Config:
        """The options with the data where they lie as seen from ``folder``, if they are gone from where they were."""
        place = Path(os.path.normpath(settled(folder) / way))
        return self if Path(self.data).exists() or not place.exists() else dataclasses.replace(self, data=str(place))

    def warm_up_steps(self, steps: int) -> int:
        """How many of ``steps`` steps the learning rate rises in."""
        return int(self.warm_up) if self.warm_up >= 1 else round(self.warm_up * steps)

    @property
    def decisive(self) -> dict[str, Any]:
        """The options that the weights depend on, as long as all numbers are finite, wherever the files lie that they name."""
        options = {name: value for name, value in self._lasting.items() if name not in _PLACES}
        return {**options, "model": self.model_name} if is_own(self.model) else options

    @property
    def _lasting(self) -> dict[str, Any]:
        """All options but those to which the weights are indifferent."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in _INDIFFERENT}

    def to_json(self, folder: Path | None = None) -> str:
        """The options as JSON, with a checksum by which ``from_json`` sees whether those were edited or damaged on which the
        weights depend. In a run's ``folder``, the way from there to the data is noted, too."""
        options = dataclasses.asdict(self)
        if folder is not None:
            options[_WAY] = "" if self.data in KNOWN else from_folder(self.data, folder)
        return json.dumps({**options, "checksum": self._checksum}, indent=2) + "\n"

    @property
    def _checksum(self) -> str:
        return f"{zlib.crc32(json.dumps(self._lasting, sort_keys=True).encode()):08x}"

    @classmethod
    def from_json(cls, text: str, source: object, folder: Path | None = None) -> Config:
        """The config that ``to_json`` wrote; ``source`` is named where it did not.

        Data that are not where they were are looked for where they lay as seen from the run's ``folder``.
        """
        try:
            found: Any = json.loads(text)
            missing = [name for name in (*(field.name for field in dataclasses.fields(cls)), "checksum") if name not in found]
            if missing:
                raise UserError(f"{missing[0]} is missing")
            expected, way = found.pop("checksum"), found.pop(_WAY, "")
            config = cls(**found)
            if expected != config._checksum:
                raise UserError("its checksum is of other options")
            return config if folder is None or not way else config._found_from(folder, way)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{source} is no configuration of a run ({error}): it was edited or damaged; put it back, or begin a new run"
            ) from None


Config.__init__ = explained(Config.__init__)  # type: ignore[method-assign]


def read_size(image_size: str) -> tuple[int, int] | None:
    """Height and width of an option such as "32x32"; None if it is empty."""
    if not image_size:
        return None
    sides = [written_whole(part) for part in image_size.lower().split("x")]
    if len(sides) != 2 or not sides[0] or not sides[1]:
        raise UserError(f"image size must be height x width, for example 32x32, got {image_size!r}")
    return sides[0], sides[1]


@explained
def elsewhere(config: Config, model: str) -> Config:
    """The options with the file of a network of one's own at another place: ``model`` is FILE.py:FUNCTION there.

    Raises:
        UserError: the network is none of one's own, or the file is another one.
    """
    if not is_own(config.model) or not is_own(model):
        kind = "FILE.py:FUNCTION" if is_own(config.model) else f"no file of one's own, but {config.model}: leave --model out"
        raise UserError(f"model {displayed(model)}: the network of this run is {kind}")
    if (place := located(model)).rpartition(":")[2] != config.model_name:
        raise UserError(f"model {displayed(model)}: the network of this run is made by the function {config.model_name}")
    if digest(place) != config.model_digest:
        raise UserError(
            f"{displayed(model.rpartition(':')[0])} is not the file that the run was trained with (SHA-256 "
            f"{config.model_digest[:12]}..., here {digest(place)[:12]}...): put it back as it was, or train anew"
        )
    return dataclasses.replace(config, model=place)


def check_code(source: str, config: Config, movable: bool = True) -> None:
    """UserError if the file of a network of one's own is not where it was; ``source`` is what it is of.

    If it is ``movable``, an option --model says where the file is now.
    """
    if is_own(config.model) and not Path(config.model.rpartition(":")[0]).is_file():
        raise UserError(
            f"the network of {source} was made by {displayed(config.model)}, and there is no such file here: put it there"
            f"{', or give --model FILE.py:FUNCTION, where it is now' if movable else ''}"
        )


def _called(option: str) -> str:
    """An option as messages call it."""
    return option.replace("_", "-" if option in _DASHED else " ")
