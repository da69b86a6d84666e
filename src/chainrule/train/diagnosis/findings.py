"""What looks wrong with a training, as findings: each has a name, by which it can be silenced, a place, and a remedy."""

from __future__ import annotations

import functools
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass

from chainrule.arguments import explained_methods
from chainrule.display import displayed
from chainrule.errors import UserError, unknown_value
from chainrule.graph import Origin
from chainrule.graph.wrapping import wrapped

BEFORE = {
    "does-not-run": "the loss of the batch cannot be computed",
    "softmax-before-cross-entropy": "scores that are probabilities, or their logarithms, before cross_entropy",
    "sigmoid-before-logits-loss": "scores that are probabilities before binary_cross_entropy_with_logits",
    "nll-loss-without-logarithm": "scores or probabilities where nll_loss takes logarithms of probabilities",
    "broadcast-in-loss": "a prediction and a target of different shapes, which broadcast",
    "batch-of-one": "a batch of a single example, whose statistics batch normalisation would use",
    "evaluation-mode": "layers such as Dropout and BatchNorm in evaluation mode while training",
    "bias-before-batch-norm": "a bias that the normalisation behind it subtracts again",
    "learning-rate-zero": "an optimizer, or a group of it, whose learning rate is 0",
    "parameter-twice": "a parameter that two optimizers update",
    "labels-out-of-range": "labels that are no class of the scores",
    "labels-count": "scores of more classes than the data have",
    "one-class-only": "batches whose examples are all of one class",
    "unnormalised-inputs": "inputs in a range such as 0 to 255 in front of the first layer",
    "identical-images": "images that are all alike",
    "channels-last": "images (N, H, W, C) where (N, C, H, W) is meant",
    "vanishing-activations": "initial weights that let the activations vanish layer by layer",
    "exploding-activations": "initial weights that let the activations explode layer by layer",
}
"""The findings of ``lint``, before the first step, and what each looks for."""

AFTER = {
    "frozen": "parameters that ask for no gradient",
    "no-path-to-loss": "parameters that the loss is not computed from",
    "behind-blocker": "parameters behind an operation that passes no gradient",
    "zero-gradient": "parameters whose gradient is 0 in every element, such as those behind dead units",
    "not-in-optimizer": "parameters that get a gradient, but no optimizer holds",
    "never-used": "what is computed and never used",
}
"""The findings of ``untrained``, after the first step, and what each looks for."""

AT_THE_END = {
    "diverged": "a training loss far above that of guessing",
    "nothing-learned": "test images that are recognised no better than by always giving the same answer",
}
"""The findings of ``outcome``, when a training is over, and what each looks for."""

NAMES = (*BEFORE, *AFTER, *AT_THE_END)
_WIDTH = 80


@dataclass(frozen=True)
class Finding:
    """Something that looks wrong: its ``name``, its ``place`` (layer, source line, argument), ``what`` is the matter, as a
    sentence without a full stop, and the ``remedy``."""

    name: str
    place: str
    what: str
    remedy: str

    def sentence(self) -> str:
        """Place, matter and remedy on one line."""
        return displayed(f"{self.place}: {self.what}; {self.remedy}")

    def __str__(self) -> str:
        return "\n".join([self.name, *wrapped(self.sentence(), _WIDTH, "  ", "")])


@explained_methods
class Findings(tuple[Finding, ...]):
    """Findings, in the order in which they were made. Prints as a list that is 80 columns wide; true if there are any."""

    __slots__ = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each finding; one may occur several times."""
        return tuple(finding.name for finding in self)

    def without(self, silence: str | Iterable[str]) -> Findings:
        """Those that are not silenced by their names, as ``lint`` takes them."""
        silenced = silenced_names("silence", silence)
        return Findings(finding for finding in self if finding.name not in silenced)

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "nothing looks wrong"

    def __repr__(self) -> str:
        return str(self)


def silenced_names(what: str, silence: str | Iterable[str]) -> frozenset[str]:
    """The names in ``silence``: a text with commas between them, or several texts. "all" stands for every name.

    Raises:
        UserError: there is no finding of such a name; the message begins with ``what``.
    """
    if not isinstance(silence, str) and not hasattr(silence, "__iter__"):
        raise UserError(f"{what} must be names of findings, such as 'labels-count', got {silence!r}")
    given = [silence] if isinstance(silence, str) else list(silence)
    for one in given:
        if not isinstance(one, str):
            raise UserError(f"{what} must be names of findings, such as 'labels-count', got {one!r} among them")
    names = [name.strip() for one in given for name in one.split(",") if name.strip()]
    for name in names:
        if name not in NAMES and name != "all":
            raise unknown_value(f"finding in {what}", name, (*NAMES, "all"))
    return frozenset(NAMES if "all" in names else names)


def user_line(origin: Origin) -> str:
    """The source line of a node, such as ``net.py:10``; empty if it is not known. A line of an installed program, such as the
    one that the command is started by, says nothing and is left out."""
    return "" if not origin.line or _installed(origin.file) else f"{_last(origin.file)}:{origin.line}"


def place_of(origin: Origin) -> str:
    """Layer and source line of a node in words: ``layer 2, Softmax (net.py:10)``."""
    line = user_line(origin)
    if not origin.module:
        return line or "the loss"
    kind = f", {origin.kind}" if origin.kind and origin.kind != origin.module else ""
    return f"layer {origin.module}{kind}" + (f" ({line})" if line else "")


def _last(file: str) -> str:
    return file.replace("\\", "/").rpartition("/")[2]


@functools.cache
def _installed(file: str) -> bool:
    folders = {sysconfig.get_path(name) for name in ("purelib", "platlib", "stdlib", "scripts")}
    return any(file.startswith(folder) for folder in folders if folder)
