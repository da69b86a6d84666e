"""What looks wrong with the images of a folder. It is said before a training begins, as it would spoil the result.

Images are compared by the digests of their pixels as they are read, resized and converted. So the same picture is known again
in a file of another name, format or comment, and no file is read for it a second time.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from chainrule.data.folder_contents import FolderContents, ImageFile, LeftOut, Note
from chainrule.data.image_folders import Reading
from chainrule.display import displayed

_IMBALANCE = 20
"""The largest class is remarked on if it has at least this many times the images of the smallest."""


@dataclass(frozen=True)
class _Copy:
    """An image in one of the splits."""

    path: Path
    label: int
    split: str


def doubts_of_classes(training: Sequence[ImageFile], classes: Sequence[str], damaged: Sequence[LeftOut] = ()) -> list[Note]:
    """Classes with a single training image, and of very different sizes; ``damaged`` files are not trained on."""
    lost = {one.path for one in damaged}
    sizes = Counter(file.label for file in training if file.path not in lost)
    found = []
    single = [displayed(classes[label]) for label in sorted(sizes) if sizes[label] == 1]
    if single:
        have = "1 class has" if len(single) == 1 else f"{len(single):,} classes have"
        found.append(Note(f"warning: {have} a single image to train on, from which little can be learned", tuple(single)))
    (largest, most), (smallest, least) = sizes.most_common()[0], sizes.most_common()[-1]
    if most >= _IMBALANCE * least:
        names = [displayed(classes[label]) for label in (largest, smallest)]
        words = (
            f"warning: {names[0]} has {most:,} images to train on, {names[1]} {least:,}: {most / least:,.0f} times as many, so "
            "accuracy says little of small classes; `chainrule evaluate` gives it class by class"
        )
        found.append(Note(words))
    return found


def doubts_of_images(contents: FolderContents, readings: Mapping[str, Reading]) -> list[Note]:
    """The same image in several classes, in several splits, and several times in a class; ``readings`` are of splits.

    Blank images are no copies of each other: that they are blank is said of each.
    """
    groups = list(_copies(readings))
    notes = [_in_several_classes(contents, groups)]
    notes += [_trained_on(contents, groups, split, len(reading.files)) for split, reading in readings.items()]
    notes += [_repeated(contents, groups, len(readings["train"].files)), _all_alike(contents, readings["train"])]
    return [note for note in notes if note is not None]


def _copies(readings: Mapping[str, Reading]) -> Iterator[list[_Copy]]:
    """The images that occur several times, with all their places, the first split first."""
    digests = np.concatenate([np.ascontiguousarray(reading.digests) for reading in readings.values()])
    places = [(split, number) for split, reading in readings.items() for number in range(len(reading.files))]
    blank = {path for reading in readings.values() for path in reading.blank}
    keys = digests.view(np.uint64)  # two numbers for each image
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # a stable sort: equal digests stay in their order
    new = np.r_[True, (np.diff(keys[order], axis=0) != 0).any(axis=1), True]
    starts = np.flatnonzero(new)
    groups = [order[a:b] for a, b in itertools.pairwise(starts) if b - a > 1]
    for group in sorted(groups, key=lambda group: int(group[0])):
        copies = []
        for split, number in (places[place] for place in group):
            file = readings[split].files[number]
            copies.append(_Copy(file.path, file.label, split))
        if copies[0].path not in blank:
            yield copies


def _in_several_classes(contents: FolderContents, groups: Sequence[Sequence[_Copy]]) -> Note | None:
    entries = []
    for copies in groups:
        first_of = {copy.label: copy for copy in reversed(copies)}
        if len(first_of) > 1:
            names = [contents.shown(copy.path) for copy in reversed(first_of.values())]
            entries.append(" is also ".join(names[:2]) + "".join(f" and {name}" for name in names[2:]))
    if not entries:
        return None
    are = "1 image lies" if len(entries) == 1 else f"{len(entries):,} images lie"
    return Note(f"warning: {are} in more than one class: remove what is in the wrong one", tuple(entries))


def _trained_on(contents: FolderContents, groups: Sequence[Sequence[_Copy]], split: str, total: int) -> Note | None:
    """Which images of ``split`` are trained on."""
    entries = []
    for copies in groups if split != "train" else ():
        trained = next((copy for copy in copies if copy.split == "train"), None)
        if trained is not None:
            also = contents.shown(trained.path)
            entries += [f"{contents.shown(copy.path)} is also {also}" for copy in copies if copy.split == split]
    if not entries:
        return None
    are = "is among the training images" if len(entries) == 1 else "are among the training images"
    share = f"{len(entries):,} of {total:,} {split} images {are}"
    return Note(f"warning: {share}: accuracy looks better than it is; remove the copies", tuple(entries))


def _repeated(contents: FolderContents, groups: Sequence[Sequence[_Copy]], total: int) -> Note | None:
    """Training images that occur before in their class."""
    entries = []
    for copies in groups:
        first: dict[int, _Copy] = {}
        for copy in copies:
            if copy.split == "train" and first.setdefault(copy.label, copy) is not copy:
                entries.append(f"{contents.shown(copy.path)} is also {contents.shown(first[copy.label].path)}")
    if not entries:
        return None
    repeat = "repeats another" if len(entries) == 1 else "repeat others"
    return Note(f"{len(entries):,} of {total:,} training images {repeat} of the same class", tuple(entries))


def _all_alike(contents: FolderContents, training: Reading) -> Note | None:
    """Classes of several images which are all the same image."""
    labels = np.array([file.label for file in training.files])
    found = []
    for label, name in enumerate(contents.classes):
        of_class = training.digests[labels == label]
        if len(of_class) > 1 and (of_class == of_class[0]).all():
            found.append(f"{displayed(name)}: {len(of_class):,} images")
    if not found:
        return None
    have = "1 class has" if len(found) == 1 else f"{len(found):,} classes have"
    return Note(f"warning: {have} nothing but copies of one image", tuple(found))
