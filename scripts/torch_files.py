"""Small files of torch.save for the tests: `python scripts/torch_files.py`, in an environment with PyTorch.

The tests compute what is in them from the formulas here, so they need no PyTorch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

FOLDER = Path(__file__).parents[1] / "tests" / "expected" / "torch_files"
OLD = {"_use_new_zipfile_serialization": False}

DTYPES = (
    *("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"),
    *("uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2"),
)


def every(names: tuple[str, ...]) -> dict[str, Any]:
    """A tensor of each dtype: 0 to 5, as 2 x 3."""
    return {name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in names}


def views() -> dict[str, Any]:
    """Tensors that share the storage of 0 to 23, as 4 x 6, and others of unusual shapes."""
    whole = torch.arange(24.0).reshape(4, 6)
    parameter = torch.nn.Parameter(whole[2])
    parameter.no_decay = True  # type: ignore[attr-defined]  # attributes change how it is pickled
    return {
        **{"whole": whole, "turned": whole.t(), "part": whole[1:, ::2], "row": parameter},
        **{"empty": torch.empty(0, 3), "scalar": torch.tensor(3.0), "single": torch.tensor([[[7.0]]])},
    }


def checkpoint() -> dict[str, Any]:
    """What people save while they train."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    model(torch.ones(2, 1, 5, 5)).sum().backward()
    optimizer.step()
    for parameter in model.parameters():
        parameter.data = torch.arange(float(parameter.numel())).reshape(parameter.shape)
    return {"epoch": 3, "arch": "small", "state_dict": model.state_dict(), "optimizer": optimizer.state_dict(), "seen": {1, 2}}


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    torch.save(every(DTYPES), FOLDER / "every.pth")
    torch.save(every(DTYPES[:11]), FOLDER / "every_old.pth", **OLD)
    for name, make in (("views", views), ("checkpoint", checkpoint)):
        torch.save(make(), FOLDER / f"{name}.pth")
        torch.save(make(), FOLDER / f"{name}_old.pth", **OLD)
    torch.save(torch.nn.Linear(2, 2), FOLDER / "module.pth")
    torch.save({"expanded": torch.ones(1).expand(5)}, FOLDER / "expanded.pth")
    torch.jit.script(torch.nn.ReLU()).save(FOLDER / "program.pth")
    for path in sorted(FOLDER.iterdir()):
        print(f"{path.name}  {path.stat().st_size:>6,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
