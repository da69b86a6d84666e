"""What a folder holds that has a folder of image files for each class: images, what is left out, and the words for both.

``folder_scan`` looks through such a folder.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chainrule.data.image_files import Header
from chainrule.data.sampling import evenly_drawn
from chainrule.display import displayed
from chainrule.errors import UserError

_MOST_NAMED = 5

Watch = Callable[[str, int, int], None]
"""Called while files are read with what is being done, such as "reading photos train", the files done, and all files."""


@dataclass(frozen=True, slots=True)
class ImageFile:
    """One image of a class, and what its header says."""

    path: Path
    label: int
    header: Header


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something in a class folder that is not used, and why: "is damaged (...)"."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something that a person should know about images that were read: a sentence, and a list of what it is about.

    Where there is little room, only the first ``shown`` entries follow the sentence.
    """

    title: str
    entries: tuple[str, ...] = ()
    shown: int = _MOST_NAMED

    def text(self, rest: str = "") -> str:
        """The sentence and below it the entries: all, or only the first if ``rest`` says where the others can be read."""
        count = self.shown if rest else len(self.entries)
        more = len(self.entries) - count if count else 0
        words = [f"and {more:,} more, {rest}"] if more > 0 else []
        return "\n  ".join([self.title, *self.entries[:count], *words])


@dataclass
class FolderContents:
    """What the names and headers in a folder of images say: the images of each split, and what is left out.

    ``classes`` are those that have images to train on, ``empty`` the class folders that have none, and ``untested`` the classes
    without an image to test on. ``unreadable`` files are named like images; ``others`` are not, or are folders in a class
    folder. ``looked_at`` counts the files whose headers were to be read. ``held_out`` says that no folder tells which images to
    test on, so that some of each class were chosen.
    """

    root: Path
    classes: list[str]
    splits: dict[str, list[ImageFile]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    candidates: Counter[Path] = field(default_factory=Counter)
    unreadable: list[LeftOut] = field(default_factory=list)
    others: list[LeftOut] = field(default_factory=list)
    empty: list[LeftOut] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)
    looked_at: int = 0
    held_out: bool = False

    @property
    def files(self) -> list[ImageFile]:
        """The images of all splits."""
        return [file for files in self.splits.values() for file in files]

    def limited(self, count: int) -> None:
        """Keep ``count`` training images, drawn evenly from all of them; all of them for 0."""
        files = self.splits["train"]
        if 0 < count < len(files):
            self.splits["train"] = [files[place] for place in evenly_drawn(count, len(files))]
            self.names["train"] = f"{count:,} of {self.names['train']}"

    def check(self, unreadable: Sequence[LeftOut]) -> None:
        """UserError if half of a class's files or more cannot be read: more is wrong then than a few damaged files."""
        for folder, wrong in Counter(one.path.parent for one in unreadable).items():
            count = self.candidates[folder]
            if 2 * wrong >= count:
                first = next(one for one in unreadable if one.path.parent == folder)
                raise UserError(
                    f"{displayed(folder)}: {wrong} of {counted(count, 'image')} cannot be read, such as "
                    f"{displayed(first.path.name)}, which {first.reason}: repair or remove them, or remove the folder"
                )

    def not_tested(self, damaged: Sequence[LeftOut] = ()) -> list[str]:
        """The classes without an image to test on that can be read: headers tell of some, ``damaged`` of the others."""
        lost, found = {one.path for one in damaged}, set(self.untested)
        for split, files in self.splits.items():
            if split != "train":
                tested = {file.label for file in files if file.path not in lost}
                found |= {name for label, name in enumerate(self.classes) if label not in tested}
        return sorted(found)

    def notes(self, damaged: Sequence[LeftOut] = (), others: bool = True) -> list[Note]:
        """What is left out, and why, in words. ``damaged`` are files whose headers were whole; with ``others``, files that are
        not named like images are mentioned too."""
        unreadable, untested = [*self.unreadable, *damaged], self.not_tested(damaged)
        found = []
        if self.empty:
            total = len(self.classes) + len(self.empty)
            found.append(Note(f"left out: {len(self.empty):,} of {counted(total, 'class', 'classes')}", self.told(self.empty)))
        if untested:
            one = len(untested) == 1
            words = (
                f"warning: {'1 class has' if one else f'{len(untested):,} classes have'} no image to test on: how well "
                f"{'it is' if one else 'they are'} recognised stays unknown"
            )
            found.append(Note(words, tuple(map(displayed, untested))))
        if unreadable:
            found.append(Note(f"left out: {len(unreadable):,} of {counted(self.looked_at, 'image')}", self.told(unreadable)))
        if others and self.others:
            found.append(Note(f"not read: {counted(len(self.others), 'other entry', 'other entries')}", self.told(self.others)))
        return found

    def told(self, left_out: Iterable[LeftOut]) -> tuple[str, ...]:
        """The path of each below the folder, with the reason why it is left out."""
        return tuple(f"{self.shown(one.path)} {one.reason}" for one in left_out)

    def shown(self, path: Path) -> str:
        """A path below the folder, as it is displayed."""
        return displayed(_below(path, self.root))


def common_mode(files: Iterable[ImageFile]) -> str:
    """The mode that suits all images: "RGB" if any has colours, else "L"."""
    return "RGB" if any(file.header.mode == "RGB" for file in files) else "L"


def common_size(files: Sequence[ImageFile]) -> tuple[int, int]:
    """(height, width) of all images; a UserError names the first image of another size."""
    first = files[0]
    size = first.header.size
    for file in files:
        if file.header.size != size:
            raise UserError(
                f"{displayed(file.path)} is {pixels_text(file.header.size)} (height × width), but {displayed(first.path)} is "
                f"{pixels_text(size)}: pass size={size} (--image-size {size[0]}x{size[1]}) to resize all images"
            )
    return size


def reasons_of(left_out: Sequence[LeftOut], root: str | Path) -> str:
    """The first few of what was left out, with the reasons, and how many more there are: for when nothing else remains."""
    more = len(left_out) - _MOST_NAMED
    shown = [f"{displayed(_below(one.path, root))} {one.reason}" for one in left_out[:_MOST_NAMED]]
    return "; ".join([*shown, *([f"and {more:,} more"] if more > 0 else [])])


def _below(path: Path, root: str | Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def counted(number: int, one: str, many: str = "") -> str:
    """A number with the word for what it counts."""
    return f"{number:,} {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def pixels_text(size: tuple[int, ...]) -> str:
    """A size as messages write it: 28×28."""
    return "×".join(str(n) for n in size)
