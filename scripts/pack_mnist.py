"""Pack the four original gzip IDX files of MNIST into the package: `python scripts/pack_mnist.py SOURCE_FOLDER`.

Only the compression changes. Plain xz of the IDX bytes, with settings that suit bytes without alignment, was the
smallest of the simple arrangements: pixel-major, column-major and delta filters all give larger files. (Keeping where
the ink is apart from its values saves another 5 %, at the price of a format that `xz -d` alone does not undo.) The
same source and liblzma give the same bytes. Takes about a minute.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import sys
from pathlib import Path

from chainrule.data.mnist_files import CHECKSUMS, FOLDER

FILTERS = [
    {
        "id": lzma.FILTER_LZMA2,
        "preset": 9 | lzma.PRESET_EXTREME,
        "dict_size": 1 << 26,  # all of the training images
        "lc": 4,  # the pixel to the left says most about the next one
        "pb": 0,  # a row of 28 pixels has no alignment worth knowing
        "nice_len": 273,
    }
]


def main(arguments: list[str]) -> int:
    """Pack the files of the folder named in ``arguments``; returns the exit status."""
    if len(arguments) != 1:
        print("usage: python scripts/pack_mnist.py SOURCE_FOLDER", file=sys.stderr)
        return 2
    for name, checksum in CHECKSUMS.items():
        source = Path(arguments[0], f"{name}.gz")
        data = gzip.decompress(source.read_bytes())
        if hashlib.sha256(data).hexdigest() != checksum:
            print(f"{source} is not the original file: its SHA-256 differs", file=sys.stderr)
            return 1
        packed = lzma.compress(data, format=lzma.FORMAT_XZ, filters=FILTERS)
        FOLDER.mkdir(exist_ok=True)
        (FOLDER / f"{name}.xz").write_bytes(packed)
        print(f"{name}.xz  {len(data):>10,} -> {len(packed):>9,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
