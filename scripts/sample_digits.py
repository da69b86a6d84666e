"""Write the three sample digits beside MNIST: the first three test images, as PNG: `python scripts/sample_digits.py`."""

from __future__ import annotations

from PIL import Image

from chainrule.data import mnist
from chainrule.data.mnist_files import MNIST_SAMPLES


def main() -> None:
    """Replace the files by what the test images say; Pillow's version decides their bytes, not their pixels."""
    test = mnist("test")
    for place, path in enumerate(MNIST_SAMPLES):
        Image.fromarray(test.images([place])[0, 0]).save(path, optimize=True)
        print(f"{path.name}  {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
