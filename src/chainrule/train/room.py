"""What a training takes, and whether that fits into the memory of this machine, found before anything large is made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from chainrule.cpu.runtime.memory import built_in_memory
from chainrule.errors import UserError
from chainrule.graph import Graph
from chainrule.models import build
from chainrule.models.own import scores_of
from chainrule.nn.summary import multiply_adds
from chainrule.tensor import placeholder, tracing
from chainrule.train.config import Config
from chainrule.train.optimization import OPTIMIZERS

_BESIDE_STATE, _OF_STATE = 5, 4
"""How many times the weights, and each number kept beside a weight, are in memory at the worst moment, while a checkpoint is
written: measured as the peak of trainings with 150 to 550 MB of weights, which were 9.0 times that with sgd, 13.0 with adam."""

_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Cost:
    """What a training takes: numbers in its weights, bytes in memory of what goes with the weights and of a batch, and
    multiply-adds of one image on its way through the model."""

    weights: int
    of_weights: int
    of_batch: int
    multiply_adds: int


def cost_of(config: Config, image_shape: tuple[int, int, int], classes: int, images: int) -> Cost:
    """The cost of training on ``images`` images, from a trace that allocates nothing."""
    batch = min(config.batch_size, images)
    weights, activations, multiply_adds = _count(config, image_shape, classes, batch)
    waiting = min((config.accumulate - 1) * batch, images - batch)  # images of the step that are not in the model
    activations += waiting * math.prod(image_shape)
    each = 8 if config.dtype == "float64" else 4
    of_weights = weights * each * (_BESIDE_STATE + _OF_STATE * (OPTIMIZERS[config.optimizer].state + (config.ema > 0)))
    return Cost(weights, of_weights, activations * each, multiply_adds)


def check_room(config: Config, image_shape: tuple[int, int, int], classes: int, images: int, kept: int) -> Cost:
    """What the training costs; a UserError if it cannot fit. ``images`` is how many there are to train on, ``kept`` the bytes
    of images that are to stay in memory. Where the system does not say how much memory it has, nothing is refused.
    """
    cost, free = cost_of(config, image_shape, classes, images), available_memory()
    needed = cost.of_weights + cost.of_batch + kept
    if free is None or needed <= free:
        return cost
    batch = min(config.batch_size, images)
    parts = f"{size_text(cost.of_weights)} for {cost.weights:,} weights and what goes with them, "
    parts += f"{size_text(cost.of_batch)} for a batch of {batch}"
    remedies = ["a smaller --image-size"] if config.image_size else []
    remedies += ["a smaller --batch-size"] if cost.of_weights + kept <= free else []
    raise UserError(
        f"{config.model} on images of {image_shape[1]} x {image_shape[2]} needs about {size_text(needed)} of memory ({parts}), "
        f"and {size_text(free)} are free: {' or '.join(remedies) or 'smaller images'} would help"
    )


def _count(config: Config, image_shape: tuple[int, int, int], classes: int, batch: int) -> tuple[int, int, int]:
    """Numbers in the weights, and in what a batch leaves on its way through the model; multiply-adds of one image."""
    channels, height, width = image_shape
    with tracing():
        model = build(config.model, channels, classes, (height, width), config.model_digest)
        image = placeholder((batch, *image_shape))
        graph = Graph(scores_of(model, config.model, image).node)
        weights = sum(parameter.size for parameter in model.parameters())
    reached = {image.node}
    for node in graph.nodes:
        if any(one in reached for one in node.inputs):
            reached.add(node)
    return weights, sum(node.size for node in reached), sum(map(multiply_adds, graph.nodes)) // batch


def available_memory() -> int | None:
    """Bytes that this process may still take without pushing others out; None where the system does not say.

    On Linux what the kernel calls available, and no more than the limit of the container; elsewhere what is built in, if
    anything.
    """
    known = [one for one in (_linux_available(), _left_in_group(_GROUP)) if one is not None]
    return min(known) if known else built_in_memory()


def _linux_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _left_in_group(folder: Path) -> int | None:
    """What a container has left of its memory; None without a limit. Pages of files that it could drop are not taken."""
    try:
        most, used = (int((folder / name).read_text()) for name in ("memory.max", "memory.current"))
        facts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, most - used + int(facts.get("inactive_file", 0)))
    except (OSError, ValueError):  # "max" is no number
        return None


def size_text(nbytes: int) -> str:
    """Bytes as messages have them: 36 MB, 1.5 GB."""
    return f"{nbytes / 1e9:,.1f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:,.0f} MB"
