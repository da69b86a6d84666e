"""Looking through a folder that has a folder of image files for each class, by names and headers, before a pixel is decoded.

names of folders ──> classes and splits ──> names of files ──> headers ──> ``FolderContents``
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from chainrule.data.folder_contents import FolderContents, ImageFile, LeftOut, Watch, counted, reasons_of
from chainrule.data.image_files import UnreadableImage, image_endings, read_header, why_not_read
from chainrule.data.sampling import evenly_drawn
from chainrule.display import displayed
from chainrule.errors import UserError

VALIDATION_FOLDERS = ("val", "valid", "validation")
"""Folders of images to measure on while training; where there is no test/, they are what is tested on."""

_ONE_IN = 10
_LOOSE = "lies in no class folder"
_NO_MATTER = "is no folder"
_NO_IMAGES = "is a class folder without images (.png, .jpg, ...)"


def look_at(path: str | os.PathLike[str], only: str | None = None, watch: Watch | None = None) -> FolderContents:
    """Look through a folder of images in either of two forms, without decoding any.

    ``path``/train/class/image.png with ``path``/test beside it (or val, valid, validation), of the same classes; their names
    may be in capitals. Where there is a folder for validation beside test/, it is the split "validation", which is there only
    if all splits are looked at.
    ``path``/class/image.png, or ``path``/train/class/image.png with nothing beside it: the test split is a tenth of each class
    (at least one image), drawn evenly from its sorted file names, always with the seed 0; the training split is the rest.

    Files that give no image are left out. They are counted when images are held out for testing, so mending a file moves no
    other image to another split. A class folder without images to train on is left out; a class with a single image is not
    tested. With ``only``, headers of that split alone are read.

    Raises:
        UserError: the folder is missing or empty, hardly any image of a class can be read, class folders are without images and
            fewer than two classes remain, the splits have different classes, or there is nothing to test on; the message names
            the file or folder.
    """
    root = Path(path)
    found = split_folders(root)
    if found is None:
        return _held_out(root, only, watch)
    train, *beside = found.values()
    unused = _beside_splits(root, found)
    if not beside:
        contents = _held_out(train, only, watch)
        contents.others += unused
        return contents
    folders = {"train": train, "test": beside[0]}
    if len(beside) > 1 and "test" in found and only is None:
        folders["validation"] = beside[1]
    classes, others = _classes_of_all(folders)
    names = {split: str(folder) for split, folder in folders.items()}
    contents = FolderContents(root, classes, names=names, others=others + unused)
    used = set(folders.values())
    if only is None:  # otherwise the folder for validation is left alone
        purpose = "validation" if "validation" in folders else "testing"
        instead = f"is not used: {folders.get('validation', beside[0]).name}/ is for {purpose}"
        contents.others += [LeftOut(one, instead) for one in beside if one not in used]
    training = _classes_with_images(train, contents, tell=only != "test")
    paths = {"train": training}
    for split, folder in list(folders.items())[1:]:
        testing = {name: _candidates(folder / name, contents, tell=only != "train") for name in classes}
        for name in sorted(set(classes) - set(training)):
            if testing[name]:
                reason = f"holds {counted(len(testing[name]), 'image')} to test on, of a class that has none to train on"
                contents.others.append(LeftOut(folder / name, reason))
        _note_untested(contents, testing, split, "")
        paths[split] = {name: testing[name] for name in training}
    return _read_headers(contents, paths, only, watch)


def _classes_of_all(folders: Mapping[str, Path]) -> tuple[list[str], list[LeftOut]]:
    """Names of the classes, which all ``folders`` must have, and what lies beside them."""
    found = {folder: _class_folders(folder) for folder in folders.values()}
    train, (classes, others) = next(iter(found.items()))
    for other, (its_classes, beside) in list(found.items())[1:]:
        difference = sorted(set(classes) ^ set(its_classes))
        if difference:
            holder, lacks = (train, other) if difference[0] in classes else (other, train)
            raise UserError(
                f"{displayed(holder)} holds the class {difference[0]!r} but {displayed(lacks)} does not: both need the same "
                "classes"
            )
        others = others + beside
    return classes, others


def _held_out(root: Path, only: str | None, watch: Watch | None) -> FolderContents:
    classes, beside = _class_folders(root)
    contents = FolderContents(root, classes, names={split: f"{root} {split}" for split in ("train", "test")}, others=beside)
    contents.held_out = True
    training: dict[str, list[Path]] = {}
    testing: dict[str, list[Path]] = {}
    for name, images in _classes_with_images(root, contents).items():
        test = set(evenly_drawn(max(1, len(images) // _ONE_IN), len(images)).tolist()) if len(images) > 1 else set()
        training[name] = [file for number, file in enumerate(images) if number not in test]
        testing[name] = [file for number, file in enumerate(images) if number in test]
    _note_untested(contents, testing, "test", ", as none has more than one")
    return _read_headers(contents, {"train": training, "test": testing}, only, watch)


def look_at_all(root: Path) -> FolderContents:
    """All images of a folder of classes, under the split "train"."""
    classes, beside = _class_folders(root)
    contents = FolderContents(root, classes, names={"train": str(root)}, others=beside)
    return _read_headers(contents, {"train": _classes_with_images(root, contents)}, None, None)


def _classes_with_images(folder: Path, contents: FolderContents, tell: bool = True) -> dict[str, list[Path]]:
    """The files of each class that may be images. Classes without any go from ``contents``, as long as two are left."""
    found = {name: _candidates(folder / name, contents, tell) for name in contents.classes}
    contents.classes = [name for name, images in found.items() if images]
    contents.empty = [LeftOut(folder / name, _why_empty(folder / name)) for name, images in found.items() if not images]
    if contents.empty and len(contents.classes) < 2:
        first = contents.empty[0]
        left = f"a single class, {contents.classes[0]!r}" if contents.classes else "no class"
        remedy = _where_classes_may_be([one.path for one in contents.empty])
        raise UserError(
            f"{displayed(first.path)} {first.reason}, which leaves {left}: {remedy}; a classifier needs at least 2 classes"
        )
    return {name: images for name, images in found.items() if images}


def _note_untested(contents: FolderContents, testing: Mapping[str, Sequence[Path]], split: str, why: str) -> None:
    """Note the classes without an image to test on. If no class has such an image, a UserError says ``why``."""
    untested = [name for name in contents.classes if not testing[name]]
    if len(untested) == len(contents.classes):
        raise UserError(f"{displayed(contents.names[split])}: no class has an image to test on{why}: add images")
    contents.untested = sorted({*contents.untested, *untested})


def _where_classes_may_be(empty: Sequence[Path]) -> str:
    """What to do if ``empty`` folders, which hold no images, were taken for all classes: the classes may lie a level deeper."""
    holding = next((folder for folder in empty if any(map(_is_folder, _entries(folder)))), None)
    if holding is None:
        return "add images"
    if any(folder.name.lower().startswith("train") for folder in empty):
        return "call the folders of training and test images train and test (or val)"
    return f"add images, or, if the folders in {displayed(holding)} are the classes, take {displayed(holding)}"


def _why_empty(folder: Path) -> str:
    """Why a class folder has no images, naming the first file in it that is not an image."""
    entries = sorted(_entries(folder), key=lambda entry: entry.name)
    first = f"; its {displayed(entries[0].name)} {_no_image(entries[0])}" if entries else ""
    return _NO_IMAGES + first


def _read_headers(
    contents: FolderContents, paths: dict[str, dict[str, list[Path]]], only: str | None, watch: Watch | None
) -> FolderContents:
    """Fill in the images of each split, by the paths of each class."""
    labels = {name: label for label, name in enumerate(contents.classes)}
    files = {
        split: [(path, labels[name]) for name, images in of_split.items() for path in images]
        for split, of_split in paths.items()
        if only in (None, split)
    }
    done, contents.looked_at = 0, sum(map(len, files.values()))
    for split, files_of_split in files.items():
        found = contents.splits[split] = []
        for path, label in files_of_split:
            try:
                found.append(ImageFile(path, label, read_header(path)))
            except UnreadableImage as error:
                contents.unreadable.append(LeftOut(path, error.reason))
            done += 1
            if watch is not None:
                watch(f"looking at {displayed(contents.root)}", done, contents.looked_at)
    if only is None:  # the test split has a tenth of a class, of which a single damaged file may be half
        contents.check(contents.unreadable)
    for split, images in contents.splits.items():
        if not images:
            reasons = reasons_of(contents.unreadable, contents.root)
            raise UserError(f"{displayed(contents.names[split])}: no image can be read: {reasons}")
    return contents


def split_folders(root: Path) -> dict[str, Path] | None:
    """The folders train, test, val, valid and validation in a folder, as far as it has them, with capitals or without; None
    unless the first holds folders of classes, rather than being a class that happens to be called "train"."""
    if not root.is_dir():
        return None
    named: dict[str, Path] = {}
    for entry in sorted(_entries(root), key=lambda entry: (entry.name != entry.name.lower(), entry.name)):
        if _is_folder(entry):
            named.setdefault(entry.name.lower(), root / entry.name)
    if "train" not in named or not any(map(_is_folder, _entries(named["train"]))):
        return None
    return {name: named[name] for name in ("train", "test", *VALIDATION_FOLDERS) if name in named}


def _beside_splits(root: Path, splits: Mapping[str, Path]) -> list[LeftOut]:
    """What lies beside the folders of the splits, and looks as if it should be used: images, and folders."""
    entries, endings, known = sorted(_entries(root), key=lambda entry: entry.name), image_endings(), set(splits.values())
    reasons = {
        root / entry.name: "is not used" if _is_folder(entry) else _LOOSE
        for entry in entries
        if _is_folder(entry) or _suffix(entry.name) in endings
    }
    return [LeftOut(path, reason) for path, reason in reasons.items() if path not in known]


def _class_folders(root: Path) -> tuple[list[str], list[LeftOut]]:
    """The sorted names of the class folders, and what lies beside them, looks as if it should be used, and is not."""
    if not root.exists():
        raise UserError(f"{displayed(root)} does not exist: expected a folder that holds one folder of images per class")
    if not root.is_dir():
        raise UserError(f"{displayed(root)} is a file: expected a folder that holds one folder of images per class")
    entries, endings = sorted(_entries(root), key=lambda entry: entry.name), image_endings()
    reasons = {entry.name: _no_class(entry, root, endings) for entry in entries}
    classes = [name for name, reason in reasons.items() if not reason]
    if not classes:
        loose = [name for name in reasons if _suffix(name) in endings]
        if loose:
            raise UserError(
                f"{displayed(root)} holds images ({displayed(loose[0])}) but no class folders: put each image into a folder "
                "named after its class"
            )
        found = "holds no class folders" if entries else "is empty"
        raise UserError(f"{displayed(root)} {found}: expected one folder of images per class")
    left_out = [LeftOut(root / name, reason) for name, reason in reasons.items() if reason not in ("", _NO_MATTER)]
    return classes, left_out


def _no_class(entry: os.DirEntry[str], root: Path, endings: frozenset[str]) -> str:
    """Why an entry of a folder is no class folder; "" if it is a class folder."""
    if entry.is_symlink():
        if not os.path.exists(entry.path):  # a link that leads back to itself does not either
            return "is a link that leads nowhere"
        here = Path(os.path.realpath(root))
        if Path(os.path.realpath(entry.path)) in (here, *here.parents):
            return "is a link to a folder that it is in itself"
    if _is_folder(entry):
        return ""
    return _LOOSE if _suffix(entry.name) in endings else _NO_MATTER


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """The entries of a folder, without hidden ones."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(f"{displayed(folder)} cannot be read ({error.strerror}): mend that, or remove the folder") from error


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads back to itself
        return False


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _candidates(folder: Path, contents: FolderContents, tell: bool = True) -> list[Path]:
    """The entries of a class folder that are named like images, sorted. With ``tell``, the others are noted in ``contents``."""
    entries, endings = sorted(_entries(folder), key=lambda entry: entry.name), image_endings()
    paths = [folder / entry.name for entry in entries if _suffix(entry.name) in endings]
    if tell:
        contents.others += [
            LeftOut(folder / entry.name, _no_image(entry)) for entry in entries if _suffix(entry.name) not in endings
        ]
    contents.candidates[folder] = len(paths)
    return paths


def _no_image(entry: os.DirEntry[str]) -> str:
    return "is a folder within a class" if _is_folder(entry) else why_not_read(_suffix(entry.name))
