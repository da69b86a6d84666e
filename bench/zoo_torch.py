"""PyTorch's side of the table of all models: one model, one process, one JSON line.

    python bench/zoo_torch.py MODEL MODE IMAGE CLASSES [--batch 16] [--seconds 5] [--threads N]

MODE is eager, channels_last or compile, IMAGE such as 3x224x224. Models that torchvision has are its own. The others have no
counterpart in PyTorch: for them the very files of ``src/chainrule/models`` are run, with PyTorch's layers under the names that
they import, so that both sides compute the same network.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

_SOURCES = Path(__file__).resolve().parent.parent / "src" / "chainrule" / "models"
_OWN = {
    "mlp": ("mlp", {"size": (28, 28)}),
    "lenet": ("lenet", {"size": (28, 28)}),
    "fastnet": ("fastnet", {}),
    "resnet9": ("cifar_resnet", {}),
    "resnet20": ("cifar_resnet", {}),
    "resnet32": ("cifar_resnet", {}),
    "resnet56": ("cifar_resnet", {}),
    "resnet18_small": ("resnet", {}),
    "vgg_small": ("vgg", {}),
    "mobilenet_small": ("mobilenet_v2", {}),
}
"""The file of each model that torchvision lacks, and the arguments that its function takes beside classes and channels."""

_WARM, _LEAST = 2, 3


class _Nothing(types.ModuleType):
    """A module any function of which does nothing: initial values do not matter for speed."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def own_model(name: str, classes: int, channels: int) -> nn.Module:
    """A network of ``src/chainrule/models``, made of PyTorch's layers."""

    def module(path: str, **names: Any) -> types.ModuleType:
        made = sys.modules[path] = types.ModuleType(path)
        made.__dict__.update(names)
        return made

    def same(thing: Any) -> Any:
        return thing

    layers = module("chainrule.nn", **{key: value for key, value in vars(nn).items() if not key.startswith("__")})
    sys.modules["chainrule.nn.init"] = layers.init = _Nothing("init")  # type: ignore[attr-defined]
    whole = module("chainrule", nn=layers)
    whole.__path__ = []  # type: ignore[attr-defined]
    models = module("chainrule.models")
    models.__path__ = [str(_SOURCES)]  # type: ignore[attr-defined]
    arguments = {"explained": same, "explained_methods": same, "pixels": same, "whole_number": lambda _, value, *__: value}
    module("chainrule.arguments", **arguments)
    module("chainrule.errors", UserError=ValueError, unknown_value=lambda *_: ValueError("unknown"))
    functions = types.SimpleNamespace(concatenate=torch.cat)
    parameter = lambda values: nn.Parameter(torch.as_tensor(values))  # noqa: E731
    module("chainrule.tensor", Tensor=torch.Tensor, Parameter=parameter, tensor=torch.as_tensor, functions=functions)
    torch.Tensor.pad = lambda x, widths: F.pad(x, [n for pair in widths[::-1] for n in pair])  # type: ignore[attr-defined]
    torch.Tensor.assign = lambda x, values: x.data.copy_(values)  # type: ignore[attr-defined]
    file, options = _OWN[name]
    make = getattr(importlib.import_module(f"chainrule.models.{file}"), name)
    found: nn.Module = make(num_classes=classes, channels=channels, **options)
    return found


def model(name: str, classes: int, channels: int) -> nn.Module:
    """The model, as PyTorch has it."""
    if name in _OWN:
        return own_model(name, classes, channels)
    torch.library.register_fake = lambda *_, **__: lambda function: function  # builds for a GPU import without one, too
    import torchvision

    options = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    found: nn.Module = getattr(torchvision.models, name)(num_classes=classes, **options)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("mode", choices=("eager", "channels_last", "compile"))
    parser.add_argument("image")
    parser.add_argument("classes", type=int)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", type=int)
    a = parser.parse_args()
    if a.threads:
        torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    shape = [int(side) for side in a.image.split("x")]
    made = model(a.model, a.classes, shape[0]).train()
    images, labels = torch.randn(a.batch, *shape), torch.randint(0, a.classes, (a.batch,))
    if a.mode != "eager":
        made, images = made.to(memory_format=torch.channels_last), images.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD([one for one in made.parameters() if one.requires_grad], lr=0.001, momentum=0.9)
    network = torch.compile(made) if a.mode == "compile" else made
    times: list[float] = []
    first = time.perf_counter()
    while len(times) < _WARM + _LEAST or time.perf_counter() - first < a.seconds:
        begin = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        loss.item()
        times.append(time.perf_counter() - begin)
        if len(times) == _WARM:
            first = time.perf_counter()
    measured = sorted(times[_WARM:])
    found = {
        "model": a.model,
        "mode": a.mode,
        "threads": torch.get_num_threads(),
        "parameters": sum(one.numel() for one in made.parameters()),
        "median_ms": 1e3 * measured[len(measured) // 2],
        "first_step_s": times[0],
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
