"""PyTorch's side of `real_weights.py`, which calls it: a package's network with its weights, and what it makes of images."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch


def network(name: str) -> Any:
    """The network as its package makes it, without weights. What its package imports beside PyTorch is not needed for that."""
    for other in ("torchvision", "torchvision.ops", "torchvision.ops.boxes", "torchvision.transforms", "requests", "tqdm"):
        sys.modules.setdefault(other, MagicMock())
    for other in ("requests.adapters", "tqdm.auto", "PIL", "cv2", "torchvision.transforms.functional"):
        sys.modules.setdefault(other, MagicMock())
    if name == "efficientnet-lite0":
        from efficientnet_lite_pytorch import EfficientNet

        return EfficientNet.from_name("efficientnet-lite0")
    from facenet_pytorch.models import mtcnn

    return {"pnet": mtcnn.PNet, "rnet": mtcnn.RNet, "onet": mtcnn.ONet}[name](pretrained=False)


def main(name: str, folder: str, weights: str) -> None:
    sys.path.insert(0, folder)
    batch = torch.from_numpy(np.load(Path(folder) / "images.npy"))
    outputs = {}
    for dtype in (torch.float32, torch.float64):
        model = network(name)
        model.load_state_dict(torch.load(weights, weights_only=True))
        model = model.to(dtype).eval()
        with torch.no_grad():
            found = model(batch.to(dtype))
        found = found[-1:] + found[:-1] if isinstance(found, tuple) else (found,)  # MTCNN's classes come last
        for place, one in enumerate(found):
            outputs[f"{str(dtype)[6:]}.{place}"] = one.numpy()
    np.savez(Path(folder) / "outputs.npz", **outputs)


if __name__ == "__main__":
    main(*sys.argv[1:])
