"""What other programs call the parameters of a model: behind a prefix, or by names of their own.

PyTorch's wrappers and training programs put a prefix before all names (``module.``, ``model.``). timm and Hugging Face have
names of their own for some networks that are the same as torchvision's, number by number; a table translates them. timm's
ResNets and DenseNets have torchvision's names.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from chainrule.nn.fitting import Shape

Rules = Sequence[tuple[str, str]]
"""Pairs of a regular expression and what is put for it; ``{n+1}`` stands for the group n, a number, plus 1."""

_END = r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"

_RESNET: Rules = (
    (r"resnet\.embedder\.embedder\.convolution" + _END, r"conv1.\1"),
    (r"resnet\.embedder\.embedder\.normalization" + _END, r"bn1.\1"),
    (r"resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.convolution" + _END, r"layer{1+1}.\2.downsample.0.\3"),
    (r"resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.shortcut\.normalization" + _END, r"layer{1+1}.\2.downsample.1.\3"),
    (r"resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.convolution" + _END, r"layer{1+1}.\2.conv{3+1}.\4"),
    (r"resnet\.encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.normalization" + _END, r"layer{1+1}.\2.bn{3+1}.\4"),
    (r"classifier\.1" + _END, r"fc.\1"),
)


def _convnext(stem: str, norm: str, down: str, block: str, parts: Sequence[str], end: str, scores: str) -> Rules:
    """The rules for one way to name a ConvNeXt; stages 0 to 3 are features 1, 3, 5, 7, with what halves the image between."""
    scale, filters, normal, wide, narrow = parts
    return (
        (rf"{stem}{_END}", r"features.0.0.\1"),
        (rf"{norm}{_END}", r"features.0.1.\1"),
        (rf"{down}\.([01]){_END}", r"features.{1*2}.\2.\3"),
        (rf"{block}\.{scale}", r"features.{1*2+1}.\2.layer_scale"),
        (rf"{block}\.{filters}{_END}", r"features.{1*2+1}.\2.block.0.\3"),
        (rf"{block}\.{normal}{_END}", r"features.{1*2+1}.\2.block.2.\3"),
        (rf"{block}\.{wide}{_END}", r"features.{1*2+1}.\2.block.3.\3"),
        (rf"{block}\.{narrow}{_END}", r"features.{1*2+1}.\2.block.5.\3"),
        (rf"{end}{_END}", r"classifier.0.\1"),
        (rf"{scores}{_END}", r"classifier.2.\1"),
    )


def _efficientnet() -> Rules:
    """The rules for timm's EfficientNet: blocks of stage 0 do not expand, so their parts count from another number."""
    rules: list[tuple[str, str]] = []
    for block, parts in (
        (
            r"blocks\.(0)\.(\d+)",
            ("conv_dw|0.0", "bn1|0.1", "se.conv_reduce|1.fc1", "se.conv_expand|1.fc2", "conv_pw|2.0", "bn2|2.1"),
        ),
        (
            r"blocks\.([1-6])\.(\d+)",
            (
                *("conv_pw|0.0", "bn1|0.1", "conv_dw|1.0", "bn2|1.1", "se.conv_reduce|2.fc1", "se.conv_expand|2.fc2"),
                *("conv_pwl|3.0", "bn3|3.1"),
            ),
        ),
    ):
        for part in parts:
            theirs, ours = part.split("|")
            rules.append((rf"{block}\.{re.escape(theirs)}{_END}", rf"features.{{1+1}}.\2.block.{ours}.\3"))
    return (
        *rules,
        (r"conv_stem" + _END, r"features.0.0.\1"),
        (r"bn1" + _END, r"features.0.1.\1"),
        (r"conv_head" + _END, r"features.8.0.\1"),
        (r"bn2" + _END, r"features.8.1.\1"),
        (r"classifier" + _END, r"classifier.1.\1"),
    )


LAYOUTS: dict[str, Rules] = {
    "Hugging Face's ResNet": _RESNET,
    "Hugging Face's ConvNeXt": _convnext(
        r"convnext\.embeddings\.patch_embeddings",
        r"convnext\.embeddings\.layernorm",
        r"convnext\.encoder\.stages\.(\d+)\.downsampling_layer",
        r"convnext\.encoder\.stages\.(\d+)\.layers\.(\d+)",
        ("layer_scale_parameter", "dwconv", "layernorm", "pwconv1", "pwconv2"),
        r"convnext\.layernorm",
        "classifier",
    ),
    "timm's ConvNeXt": _convnext(
        r"stem\.0",
        r"stem\.1",
        r"stages\.(\d+)\.downsample",
        r"stages\.(\d+)\.blocks\.(\d+)",
        ("gamma", "conv_dw", "norm", r"mlp\.fc1", r"mlp\.fc2"),
        r"head\.norm",
        r"head\.fc",
    ),
    "timm's VGG": (
        (r"features\.(\d+)" + _END, r"features.\1.\2"),
        (r"pre_logits\.fc1" + _END, r"classifier.0.\1"),
        (r"pre_logits\.fc2" + _END, r"classifier.3.\1"),
        (r"head\.fc" + _END, r"classifier.6.\1"),
    ),
    "timm's EfficientNet": _efficientnet(),
}
"""The names of others for models of the catalogue, by whose they are."""


REMARKS = {
    "Hugging Face's ConvNeXt": "its last normalisation adds 1e-12 to the variance there and 1e-6 here, so scores differ by "
    "some millionths",
}
"""What is not the same in a network of others."""


@dataclass(frozen=True)
class View:
    """The entries of a file under other names: ``names`` has for each the name in the file. ``prefix`` is what is left out in
    front of all of them; ``layout`` whose names were translated."""

    names: Mapping[str, str]
    prefix: str = ""
    layout: str = ""

    @property
    def averaged(self) -> bool:
        """Whether the entries are averages of the weights over a training, as a prefix such as ``model_ema.`` says."""
        return "ema" in re.split(r"[._]", self.prefix)

    def shape(self, given: Shape, wanted: Shape | None) -> Shape:
        """The shape of an entry in the file, as the model has it. Others keep a factor for each channel, or the weights of a
        linear layer, with other axes of the same elements in the same order."""
        same = wanted is not None and given[:1] == wanted[:1] and math.prod(given) == math.prod(wanted)
        return wanted if self.layout and same and wanted is not None else given


def views(file: Iterable[str]) -> list[View]:
    """All that the names of a file may mean: as they are, without a prefix that many have, and translated."""
    names = list(file)
    found = [View({name: name for name in names})]
    for depth in (1, 2, 3):
        starts = Counter(".".join(parts[:depth]) + "." for parts in (name.split(".") for name in names) if len(parts) > depth)
        for start, _ in starts.most_common(4):
            found.append(View({name.removeprefix(start): name for name in names if name.startswith(start)}, start))
    for layout, rules in LAYOUTS.items():
        translated = {_translated(name, rules): name for name in names}
        if len(translated) == len(names) and any(name != there for name, there in translated.items()):
            found.append(View(translated, layout=layout))
    return found


def best_view(found: Sequence[View], model: Collection[str]) -> View:
    """The view of a file with the most names of a model; of equal ones averages of the weights, and then the simplest.

    Where a training averages its weights, the averages are what it tests and what it is for: a checkpoint holds both.
    """
    wanted = set(model)
    return max(found, key=lambda view: (len(wanted & view.names.keys()), view.averaged, not view.layout, -len(view.prefix)))


def _translated(name: str, rules: Rules) -> str:
    """What a name is called here; itself, if no rule fits it."""
    for pattern, form in rules:
        match = re.fullmatch(pattern, name)
        if match is not None:
            return re.sub(r"\{(\d)(.*?)\}", lambda part: _number(int(match[int(part[1])]), part[2]), match.expand(form))  # noqa: B023
    return name


def _number(number: int, change: str) -> str:
    """``number`` changed as ``*2+1`` says."""
    times, plus = re.fullmatch(r"(?:\*(\d))?(?:\+(\d))?", change).groups()  # type: ignore[union-attr]
    return str(number * int(times or 1) + int(plus or 0))
