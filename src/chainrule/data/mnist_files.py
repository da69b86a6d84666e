"""MNIST, shipped inside the package: the four original IDX files, packed with xz (see mnist/LICENSE-MNIST)."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

from chainrule.arguments import explained
from chainrule.data.arguments import check_split
from chainrule.data.dataset import ArrayDataset
from chainrule.data.idx_files import parse_idx
from chainrule.errors import UserError

FOLDER = Path(__file__).with_name("mnist")

MNIST_SAMPLES = tuple(FOLDER / f"{name}.png" for name in ("seven", "two", "one"))
"""The first three test images as files, to try a trained model on; written by scripts/sample_digits.py."""

# SHA-256 of the *unpacked* files: these hold whichever compressor packed them, and check the unpacking too.
CHECKSUMS = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}

_PREFIXES = {"train": "train", "test": "t10k"}


@explained
def mnist(split: str = "train") -> ArrayDataset:
    """Handwritten digits by Y. LeCun and C. Cortes (CC BY-SA 3.0): 60,000 to train on, 10,000 to test, 1×28×28 uint8.

    Takes about half a second for "train"; nothing is downloaded.

    Raises:
        UserError: unknown split, or the package's files are damaged.
    """
    prefix = _PREFIXES[check_split(split)]
    images, labels = (parse_idx(_unpack(name), name) for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"))
    return ArrayDataset(images, labels, classes=[str(digit) for digit in range(10)], name=f"mnist {split}")


def _unpack(name: str) -> bytes:
    """The original bytes of an IDX file of MNIST, unpacked and verified."""
    path = FOLDER / f"{name}.xz"
    try:
        data = lzma.decompress(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {_REMEDY}") from error
    except lzma.LZMAError as error:
        raise UserError(f"{path} is damaged ({error}): {_REMEDY}") from error
    if hashlib.sha256(data).hexdigest() != CHECKSUMS[name]:
        raise UserError(f"{path} is damaged (its SHA-256 is not the expected one): {_REMEDY}")
    return data


_REMEDY = "reinstall the package with `pip install --force-reinstall chainrule`"
