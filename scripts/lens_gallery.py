"""Make pages of the lens that open from the disk, each a network with the pass of one digit, and an index.html of them.

    python scripts/lens_gallery.py [FOLDER] [--only NAME ...]

The two networks that do not ship are trained on a part of MNIST, which takes a few seconds.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from html import escape
from pathlib import Path

import chainrule as cr
from chainrule import nn
from chainrule.lens import ExportedPage

_STYLE = "body { font: 17px/1.5 system-ui, sans-serif; max-width: 42em; margin: 3em auto; color-scheme: light dark; }"


class Residual(nn.Module):
    """x + f(x), with two convolutions in f."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(channels)

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        """(N, channels, H, W) -> the same shape."""
        inner = nn.functional.relu(self.first_norm(self.first(x)))
        return nn.functional.relu(x + self.second_norm(self.second(inner)))


def small_resnet(channels: int, classes: int, size: tuple[int, int]) -> nn.Module:
    """Two residual blocks of 8 channels, for images of about 28 x 28: so few numbers that one can look at all of them."""
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        Residual(8),
        nn.MaxPool2d(2),
        Residual(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, classes),
    )


def _lenet() -> ExportedPage:
    return cr.lens.page(image=0)


def _dead() -> ExportedPage:
    return _trained(
        "dead", "--limit", "2000", "--optimizer", "adam", "--lr", "0.1", "--schedule", "constant", "--silence", "diverged"
    )


def _resnet() -> ExportedPage:
    file = Path("small_resnet.py")
    shutil.copy(__file__, file)
    return _trained("resnet", "--model", f"{file}:small_resnet", "--limit", "6000", "--epochs", "2")


def _trained(name: str, *options: str) -> ExportedPage:
    """The page of a training, whose run is in the working directory."""
    command = [sys.executable, "-m", "chainrule", "train", "--epochs", "1", "--seed", "0", "--out", name, *options]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return cr.lens.page(name, image=0)


PAGES: dict[str, tuple[str, Callable[[], ExportedPage]]] = {
    "lenet": ("The LeNet that ships with chainrule, on a digit: each value, each gradient, each filter.", _lenet),
    "dead": ("A LeNet that learns no more: the learning rate was so large that its units died.", _dead),
    "resnet": ("A small residual network: where paths meet again, their gradients are added.", _resnet),
}
"""Each page by its name: its line in the index, and what makes it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="gallery", type=Path, help="where they are written (gallery)")
    parser.add_argument("--only", nargs="+", choices=list(PAGES), default=list(PAGES), help="make these, not all")
    a = parser.parse_args()
    folder = a.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    with tempfile.TemporaryDirectory() as runs:
        os.chdir(runs)  # so that the title is no path of this machine
        for name in a.only:
            says, make = PAGES[name]
            file = folder / f"{name}.html"
            make().save(file)
            size = f"{file.stat().st_size / 1e6:.1f} MB"
            print(f"{a.folder / file.name}  {size}")
            lines.append(f'<li><a href="{file.name}">{name}</a> ({size}): {escape(says)}</li>')
        os.chdir(folder)  # as a folder in use cannot be removed everywhere
    title = "chainrule lens: a gallery"
    (folder / "index.html").write_text(
        f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8" />\n<title>{title}</title>\n<style>{_STYLE}</style>\n'
        f"<h1>{title}</h1>\n<ul>\n" + "\n".join(lines) + "\n</ul>\n</html>\n",
        encoding="utf-8",
    )
    print(a.folder / "index.html")


if __name__ == "__main__":
    main()
