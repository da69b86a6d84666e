"""What timm and Hugging Face call the parameters of networks that torchvision has, too: `python scripts/other_names.py`.

To be run in an environment with PyTorch, timm and transformers. It writes tests/expected/other_names.json: for each network the
names and shapes of its state. No weights are made or downloaded.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import timm
import torch
from transformers import ConvNextConfig, ConvNextForImageClassification, ResNetConfig, ResNetForImageClassification

BASIC = {"embedding_size": 64, "hidden_sizes": [64, 128, 256, 512], "depths": [2, 2, 2, 2], "layer_type": "basic"}
NETWORKS = {
    "timm convnext_tiny": lambda: timm.create_model("convnext_tiny"),
    "timm efficientnet_b0": lambda: timm.create_model("efficientnet_b0"),
    "timm resnet18": lambda: timm.create_model("resnet18"),
    "timm vgg11_bn": lambda: timm.create_model("vgg11_bn"),
    "transformers convnext_tiny": lambda: ConvNextForImageClassification(ConvNextConfig(num_labels=1000)),
    "transformers resnet18": lambda: ResNetForImageClassification(ResNetConfig(**BASIC, num_labels=1000)),
    "transformers resnet50": lambda: ResNetForImageClassification(ResNetConfig(num_labels=1000)),
}


def main() -> int:
    found = {}
    for name, make in NETWORKS.items():
        with torch.device("meta"):
            found[name] = {path: list(value.shape) for path, value in make().state_dict().items()}
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(state, separators=(',', ':'))}" for name, state in found.items())
    path = Path(__file__).parents[1] / "tests" / "expected" / "other_names.json"
    path.write_text(f"{{{lines}}}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
