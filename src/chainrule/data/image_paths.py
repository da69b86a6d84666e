"""The image files that are meant by what a person names: files, folders, and patterns such as ``scans/**/*.jpg``."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from chainrule.arguments import explained
from chainrule.data.folder_contents import LeftOut
from chainrule.data.image_files import image_endings

Found: TypeAlias = Path | LeftOut
"""A file to read, or what names none, with the reason."""


@explained
def find_images(names: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> list[Found]:
    """The files that ``names`` mean, in their order.

    - A folder: all files below it that are named like images (.png, .jpg, ...), sorted, without what is hidden. Links to
      folders in it are not followed.
    - A pattern, of a name that does not exist: ``*``, ``?`` and ``[...]`` as shells have them, and ``**`` for any folders.
      Matches that are folders are searched as above; files are taken if they are named like images.
    - Anything else: the file itself, whatever its name, and also if it is missing: reading it says what is wrong.

    What contains or matches no image is a ``LeftOut`` with the reason. Each file is given once for each of the names.
    """
    if isinstance(names, str | os.PathLike):
        names = [names]
    return [found for name in names for found in _meant_by(os.fspath(name))]


def _meant_by(name: str) -> list[Found]:
    place = os.path.expanduser(name) if not os.path.lexists(name) else name
    if not name:
        return [LeftOut(Path(name), "is an empty name: give a file, a folder or a pattern")]
    if os.path.isdir(place):
        return list(_below(place)) or [LeftOut(Path(name), "contains no file that is named like an image (.png, .jpg, ...)")]
    if os.path.lexists(place) or not glob.has_magic(place):
        return [Path(place)]
    return _matching(place)


def _below(folder: str) -> Iterator[Found]:
    """All images in a folder and in those below it; and folders that cannot be read."""
    refused: list[OSError] = []
    endings = image_endings()
    for place, folders, files in os.walk(folder, onerror=refused.append):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in endings:
                yield Path(place, name)
    for error in refused:
        yield LeftOut(Path(error.filename), f"cannot be read ({error.strerror})")


def _matching(pattern: str) -> list[Found]:
    matches = sorted(glob.glob(pattern, recursive=True))
    found: dict[str, Found] = {}
    for match in matches:
        if os.path.isdir(match):
            inside: Sequence[Found] = list(_below(match))
        else:
            inside = [Path(match)] if os.path.splitext(match)[1].lower() in image_endings() else []
        for one in inside:
            path = one.path if isinstance(one, LeftOut) else one
            found.setdefault(os.path.abspath(path), one)
    if found:
        return list(found.values())
    reason = "matches no file"
    if matches:
        what = "1 file or folder, but none with" if len(matches) == 1 else f"{len(matches):,} files and folders, but none with"
        reason = f"matches {what} the name of an image: name such files themselves"
    return [LeftOut(Path(pattern), reason)]
