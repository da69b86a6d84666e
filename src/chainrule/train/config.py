"""What one training is to do: every option, checked, and how it is written to the run's folder."""

from __future__ import annotations

import dataclasses
import json
import math
import zlib
from dataclasses import dataclass
from typing import Any

from chainrule.arguments import explained, explained_methods, real_number, whole_number, written_whole
from chainrule.data import RandomCrop, RandomFlip, RandomShift, Transform
from chainrule.errors import UserError, unknown_value
from chainrule.models import check_name
from chainrule.models.own import digest, is_own, located
from chainrule.ops import PRECISIONS

OPTIMIZERS = {"sgd": 0.1, "adam": 0.005, "adamw": 0.005, "rmsprop": 0.002}
"""Known optimizers and the learning rate that each begins with unless told otherwise (the peak of a one-cycle)."""

_MOST = 3.4e38  # of a float32
MOST_COUNTED = 1_000_000_000
"""The largest number of epochs, images or steps: a larger one is a slip, and would train for longer than anybody waits."""

SCHEDULES = ("one-cycle", "cosine", "step", "warm-up", "constant")
AUGMENTATIONS = ("auto", "none", "shift", "flip", "crop")


@explained_methods
@dataclass(frozen=True)
class Config:
    """Options of one training; the defaults train LeNet on MNIST to over 99%.

    ``model`` is a name, or ``FILE.py:FUNCTION``, whose path is made absolute and whose SHA-256 is noted as ``model_digest``.
    ``data`` is a name or a folder. ``lr`` None means the optimizer's own default. ``augment`` is "auto" (shift by a pixel for
    grey images; flip and crop for colour ones), "none", or a list such as "shift=2,flip,crop=4". ``image_size`` such as "32x32"
    (height x width) and ``image_mode`` "L" or "RGB" convert the images of a folder; while they are empty, nobody has decided
    yet (``open_datasets`` does). ``limit`` uses only so many training images. ``checkpoint_every`` counts steps; 0 saves twice
    a minute and after each epoch.
    """

    model: str = "lenet"
    model_digest: str = ""
    data: str = "mnist"
    epochs: int = 3
    batch_size: int = 64
    optimizer: str = "sgd"
    lr: float | None = None
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "one-cycle"
    label_smoothing: float = 0.1
    augment: str = "auto"
    image_size: str = ""
    image_mode: str = ""
    precision: str = "float32"
    seed: int = 0
    limit: int = 0
    workers: int | None = None
    checkpoint_every: int = 0

    def __post_init__(self) -> None:
        check_name(self.model)
        if is_own(self.model) and not self.model_digest:
            object.__setattr__(self, "model", located(self.model))
            object.__setattr__(self, "model_digest", digest(self.model))
        for what, value, known in (
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("schedule", self.schedule, SCHEDULES),
            ("precision", self.precision, PRECISIONS),
        ):
            if value not in known:
                raise unknown_value(what, value, known)
        for option, number, low in (
            ("epochs", self.epochs, 1),
            ("batch size", self.batch_size, 1),
            ("seed", self.seed, 0),
            ("limit", self.limit, 0),
            *([] if self.workers is None else [("workers", self.workers, 0)]),
            ("checkpoint-every", self.checkpoint_every, 0),
        ):
            found = whole_number(option, number, low, None if option == "seed" else MOST_COUNTED)
            if found is not number:  # of NumPy: files hold Python's
                object.__setattr__(self, option.replace(" ", "_").replace("-", "_"), found)
        real_number("momentum", self.momentum)
        real_number("label smoothing", self.label_smoothing)
        real_number("weight decay", self.weight_decay)
        if self.lr is not None:
            real_number("learning rate", self.lr)
        for what, text in (("augment", self.augment), ("image size", self.image_size), ("image mode", self.image_mode)):
            if not isinstance(text, str):
                raise UserError(f"{what} must be a text, got {text!r}")
        if self.lr is not None and not 0 < self.lr <= _MOST:
            most = f" and at most {_MOST}, as it is a float32" if _MOST < self.lr < math.inf else ""
            raise UserError(f"learning rate must be a finite number above 0{most}, got {self.lr}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be at least 0 and under 1, got {self.momentum}")
        if not 0 <= self.label_smoothing <= 1:
            raise UserError(f"label smoothing must be from 0 to 1, got {self.label_smoothing}")
        if not 0 <= self.weight_decay <= _MOST:
            most = f" and at most {_MOST}, as it is a float32" if _MOST < self.weight_decay < math.inf else ""
            raise UserError(f"weight decay must be a finite number of at least 0{most}, got {self.weight_decay}")
        if self.image_mode not in ("", "L", "RGB"):
            raise unknown_value("image mode", self.image_mode, ("L", "RGB"))
        self.size  # noqa: B018 - checks it
        if self.augment not in ("auto", "none"):
            parse_augmentations(self.augment)

    @property
    def model_name(self) -> str:
        """The model's name; for a network of one's own, that of its function."""
        return self.model.rpartition(":")[2]

    @property
    def peak_lr(self) -> float:
        """The learning rate, or, if none is given, the optimizer's own default."""
        return OPTIMIZERS[self.optimizer] if self.lr is None else self.lr

    @property
    def size(self) -> tuple[int, int] | None:
        """Height and width to resize images to; None where nobody has decided."""
        if not self.image_size:
            return None
        sides = [written_whole(part) for part in self.image_size.lower().split("x")]
        if len(sides) != 2 or not sides[0] or not sides[1]:
            raise UserError(f"image size must be height x width, for example 32x32, got {self.image_size!r}")
        return sides[0], sides[1]

    @property
    def dtype(self) -> str:
        """dtype of parameters and images: bfloat16 is a precision of products, the weights stay float32."""
        return "float64" if self.precision == "float64" else "float32"

    def augmentations(self, image_shape: tuple[int, int, int]) -> list[Transform]:
        """The transforms that ``augment`` stands for, for images (C, H, W)."""
        spec = self.augment
        if spec == "none":
            return []
        if spec == "auto":
            spec = "shift=1" if image_shape[0] == 1 else "flip,crop=4"
        return parse_augmentations(spec, image_shape[1:])

    @property
    def decisive(self) -> dict[str, Any]:
        """The options that the weights depend on."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in ("workers", "checkpoint_every")}

    def to_json(self) -> str:
        """The options as JSON, with a checksum by which ``from_json`` sees whether those were edited or damaged on which the
        weights depend."""
        return json.dumps({**dataclasses.asdict(self), "checksum": self._checksum}, indent=2) + "\n"

    @property
    def _checksum(self) -> str:
        return f"{zlib.crc32(json.dumps(self.decisive, sort_keys=True).encode()):08x}"

    @classmethod
    def from_json(cls, text: str, source: object) -> Config:
        """The config that ``to_json`` wrote; ``source`` is named where it did not."""
        try:
            found: Any = json.loads(text)
            missing = [name for name in (*(field.name for field in dataclasses.fields(cls)), "checksum") if name not in found]
            if missing:
                raise UserError(f"{missing[0]} is missing")
            expected = found.pop("checksum")
            config = cls(**found)
            if expected != config._checksum:
                raise UserError("its checksum is of other options")
            return config
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(
                f"{source} is no configuration of a run ({error}): it was edited or damaged; put it back, or begin a new run"
            ) from None


Config.__init__ = explained(Config.__init__)  # type: ignore[method-assign]


def parse_augmentations(spec: str, size: tuple[int, int] | None = None) -> list[Transform]:
    """``shift=2,flip,crop=4`` as transforms for images of ``size``; without one, only what is written is checked."""
    found: list[Transform] = []
    for part in spec.split(","):
        name, _, amount = part.strip().partition("=")
        if name in ("auto", "none"):
            raise UserError(f"augmentation {name!r} stands alone, got {spec!r}: leave it out, or pass it by itself")
        if name not in ("shift", "flip", "crop"):
            raise unknown_value("augmentation", part.strip(), AUGMENTATIONS)
        if name == "flip":
            if amount:
                raise UserError(f"augmentation flip takes no number, got {part.strip()!r}")
            found.append(RandomFlip())
            continue
        pixels = written_whole(amount) if amount else 1 if name == "shift" else 4
        if pixels is None:
            raise UserError(f"augmentation {part.strip()!r}: the number of pixels must be whole, for example {name}=2")
        if size is not None and pixels > max(4, *size):
            raise UserError(
                f"augmentation {part.strip()!r} moves images of {size[0]} x {size[1]} pixels beyond their own size: "
                f"give at most {max(4, *size)}, for example {name}=2"
            )
        found.append(RandomShift(pixels) if name == "shift" else RandomCrop(size or (1, 1), padding=pixels))
    return found
