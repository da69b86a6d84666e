"""Write what torchvision's models compute, and their parameters: `python scripts/models_from_torch.py`.

Run it from the repository root, where torch, torchvision and safetensors are installed; the tests need none of them, only the
files that it leaves in `tests/expected/`:

    models.safetensors  for each model, in evaluation and in training: norm and a few elements of the scores and of each
                        parameter's gradient, computed in float64; how far PyTorch's float32 is from that
    models.json         for each model, the name and shape of each parameter and buffer, and the number of parameters

Weights and images are those of `tests/expected/zoo.py`. Dropout and stochastic depth are switched off, as their random numbers
are not comparable. Takes a few minutes; names of models as arguments renew the rows of these alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

torch.library.register_fake = lambda *_, **__: lambda function: function  # builds of torchvision for a GPU import without one
import torchvision  # noqa: E402 - after the line above

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))

from expected import zoo  # noqa: E402 - found through the line above

MODELS = (
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "efficientnet_b1", "efficientnet_b2", "efficientnet_b3"),
    *("googlenet", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "resnet18", "resnet34", "resnet50", "resnet101"),
    *("resnet152", "resnext50_32x4d", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "vgg11", "vgg11_bn", "vgg13"),
    *("vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn", "wide_resnet50_2"),
)


def hard_sigmoid(x: torch.Tensor) -> torch.Tensor:
    """PyTorch's own multiplies gradients by 1/6 in float32, also those of float64, which is wrong by 3e-8."""
    return torch.nn.functional.relu6(x + 3) / 6


def model(name: str, classes: int) -> torch.nn.Module:
    options: dict[str, Any] = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    made: torch.nn.Module = getattr(torchvision.models, name)(num_classes=classes, **options)
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout | torchvision.ops.StochasticDepth):
            module.p = 0.0
        if isinstance(module, torch.nn.Hardsigmoid):
            module.forward = hard_sigmoid
    return made


def fill(made: torch.nn.Module) -> None:
    with torch.no_grad():
        for path, cell in made.state_dict().items():
            if cell.is_floating_point():
                cell.copy_(torch.tensor(zoo.value(path, tuple(cell.shape))))


def computed(made: torch.nn.Module, name: str, dtype: torch.dtype, training: bool) -> dict[str, np.ndarray[Any, Any]]:
    """Scores and gradients of all parameters, and of the images."""
    fill(made.to(dtype))
    made.train(training).zero_grad()
    images = torch.tensor(zoo.images(name, 3), dtype=dtype, requires_grad=True)
    scores = made(images)
    scores.backward(torch.tensor(zoo.upstream(name), dtype=dtype))
    assert images.grad is not None
    found = {"scores": scores, "images": images.grad}
    found |= {path: parameter.grad for path, parameter in made.named_parameters() if parameter.grad is not None}
    return {path: value.detach().double().numpy().copy() for path, value in found.items()}


def main() -> None:
    expected = TESTS / "expected"
    chosen = sys.argv[1:] or MODELS
    arrays: dict[str, np.ndarray[Any, Any]] = load_file(expected / "models.safetensors") if sys.argv[1:] else {}
    tables = json.loads((expected / "models.json").read_text()) if sys.argv[1:] else {}
    for name in chosen:
        with torch.device("meta"):
            whole = model(name, 1000)
        tables[name] = {
            "parameters": sum(parameter.numel() for parameter in whole.parameters()),
            "state": {path: list(cell.shape) for path, cell in whole.state_dict().items()},
        }
        made = model(name, zoo.CLASSES)
        for form in ("evaluation", "training"):
            exact = computed(made, name, torch.float64, form == "training")
            rough = computed(made, name, torch.float32, form == "training")
            arrays[f"{name}/{form}/names"] = np.frombuffer("\n".join(exact).encode(), np.uint8)
            digests = [zoo.digest(path, value) for path, value in exact.items()]
            arrays[f"{name}/{form}/digests"] = np.concatenate(digests)
            distances = [np.linalg.norm(rough[path] - value) / (np.linalg.norm(value) or 1) for path, value in exact.items()]
            arrays[f"{name}/{form}/distances"] = np.array(distances, np.float32)
        print(name)
    save_file(
        arrays, TESTS / "expected" / "models.safetensors", {"torch": torch.__version__, "torchvision": torchvision.__version__}
    )
    rows = [f'"{name}": {json.dumps(table, separators=(",", ":"))}' for name, table in tables.items()]
    (TESTS / "expected" / "models.json").write_text("{\n" + ",\n".join(rows) + "\n}\n")


if __name__ == "__main__":
    main()
