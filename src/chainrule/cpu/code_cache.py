"""Machine code of kernels, kept: in this process while it is in use or was lately, and on disk between processes.

A file of the cache holds one object file behind a checksum; anything damaged or foreign is ignored and made anew. Files are
written under a temporary name and renamed, so that processes may share the folder. ``CHAINRULE_CACHE`` names the folder; if it
is empty, nothing is kept on disk.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import threading
import time
import warnings
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import llvmlite
import llvmlite.binding as llvm

from chainrule.cpu.assembler import assemble_all
from chainrule.cpu.cores import available_cores
from chainrule.cpu.kernel import Kernel
from chainrule.cpu.machine_code import Library
from chainrule.cpu.target import Target

_MAGIC = b"chainrule machine code 1\n"
_CHECKSUM_BYTES = 32
_MOST_BYTES = 512 << 20
_MOST_RECENT = 128
"""Functions that stay loaded though nothing uses them."""
_SECONDS_TO_TOUCH = 3600.0
_SECONDS_TO_WRITE = 600.0


class CacheWarning(UserWarning):
    """The folder of compiled code cannot be used; all works without, only slower at the start."""


# ---- in this process


class Function:
    """A native function at ``address``, as long as this lives."""

    __slots__ = ("__weakref__", "_library", "address")

    def __init__(self, library: Library, address: int) -> None:
        self._library, self.address = library, address


_lock = threading.RLock()
_alive: WeakValueDictionary[tuple[str, Target], Function] = WeakValueDictionary()
_recent: OrderedDict[tuple[str, Target], Function] = OrderedDict()


def load(kernels: Iterable[Kernel], target: Target) -> dict[str, Function]:
    """The function of each kernel, by ``Kernel.name``; what is not loaded comes from disk or is compiled."""
    wanted = {kernel.name: kernel for kernel in kernels}
    with _lock:
        found = {name: function for name in wanted if (function := _alive.get((name, target)))}
        missing = [kernel for name, kernel in wanted.items() if name not in found]
        if missing:
            names = [kernel.name for kernel in missing]
            library = Library(object_codes(missing, target), names, target)
            found |= {name: Function(library, library.address(name)) for name in names}
        for name, function in found.items():
            _alive[name, target] = _recent[name, target] = function
            _recent.move_to_end((name, target))
        while len(_recent) > _MOST_RECENT:
            _recent.popitem(last=False)
    return found


def forget() -> None:
    """Let go of all loaded functions that nothing uses."""
    with _lock:
        _recent.clear()


# ---- on disk


def object_codes(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    """The object file of each kernel, from disk or compiled."""
    folder = _folder()
    paths = [None if folder is None else folder / f"{kernel.family}-{_key(kernel, target)}.o" for kernel in kernels]
    codes = [None if path is None else _read(path) for path in paths]
    missing = [number for number, code in enumerate(codes) if code is None]
    compiled = _compile([kernels[number] for number in missing], target)
    for number, code in zip(missing, compiled, strict=True):
        codes[number] = code
        path = paths[number]
        if path is not None:
            _write(path, code)
    if folder is not None and missing and str(folder) not in _unusable:
        with contextlib.suppress(OSError):
            _remove_oldest(folder)
    return [code for code in codes if code is not None]


def _compile(kernels: Sequence[Kernel], target: Target) -> list[bytes]:
    modules = ((kernel.name, kernel.generate(target, kernel.name).text()) for kernel in kernels)
    return assemble_all(modules, len(kernels), target, available_cores())


def _key(kernel: Kernel, target: Target) -> str:
    """Everything that the code depends on."""
    parts = (kernel.family, kernel.signature, *_target_parts(target), *_versions())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _target_parts(target: Target) -> tuple[str, ...]:
    return target.name, target.triple, target.cpu, target.features, str(target.vector_bytes), str(target.registers)


@functools.cache
def _versions() -> tuple[str, str, str]:
    """Of llvmlite, of LLVM, and of what generates the code: a checksum of its source files."""
    sources, package = hashlib.sha256(), Path(__file__).parents[1]
    for file in (*sorted((package / "cpu").rglob("*.py")), package / "compiler" / "nest.py"):
        sources.update(str(file.relative_to(package)).encode() + b"\0" + file.read_bytes())
    return llvmlite.__version__, ".".join(map(str, llvm.llvm_version_info)), sources.hexdigest()


def _folder() -> Path | None:
    """Where files are kept; None: nowhere."""
    chosen = os.environ.get("CHAINRULE_CACHE")
    if chosen is not None:
        return Path(chosen) if chosen and chosen not in _unusable else None
    try:
        usual = _usual_folder()
    except RuntimeError:  # no home
        return None
    return usual if str(usual) not in _unusable else None


def _usual_folder() -> Path:
    if os.name == "nt":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "chainrule" / "cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "chainrule"
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(chosen) if os.path.isabs(chosen) else Path.home() / ".cache") / "chainrule"


_unusable: set[str] = set()
_warned = False


def _give_up(folder: Path, error: OSError) -> None:
    """Use ``folder`` no more in this process, and say so, once."""
    global _warned
    _unusable.add(str(folder))
    if not _warned:
        _warned = True
        message = (
            f"compiled code cannot be kept in {folder} ({error.strerror or error}): every start compiles anew. "
            "Set CHAINRULE_CACHE to another folder, or to nothing to keep none"
        )
        warnings.warn(message, CacheWarning, stacklevel=2)


def _read(path: Path) -> bytes | None:
    """The object file in ``path``; None if it is not there or not whole."""
    try:
        with open(path, "rb") as file:
            content = file.read()
            written = os.fstat(file.fileno()).st_mtime
    except FileNotFoundError:
        return None
    except OSError as error:
        _give_up(path.parent, error)
        return None
    begin = len(_MAGIC) + _CHECKSUM_BYTES
    code = content[begin:]
    if not content.startswith(_MAGIC) or content[len(_MAGIC) : begin] != hashlib.sha256(code).digest():
        return None
    # The time of writing serves as that of the last use; systems often do not keep the time of reading.
    if time.time() - written > _SECONDS_TO_TOUCH:
        with contextlib.suppress(OSError):
            os.utime(path)
    return code


def _write(path: Path, code: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(_MAGIC + hashlib.sha256(code).digest() + code)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        if not path.is_file():  # on Windows another process may be reading the same code, which is as good
            _give_up(path.parent, error)


def _remove_oldest(folder: Path, most_bytes: int | None = None) -> None:
    """Remove the files that were used longest ago until the rest fits, and what killed processes left half written."""
    most_bytes = _MOST_BYTES if most_bytes is None else most_bytes
    files: list[tuple[float, int, str]] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another process may remove files too
                state = entry.stat()
                if entry.name.endswith(".o"):
                    files.append((state.st_mtime, state.st_size, entry.path))
                elif entry.name.endswith(".tmp") and time.time() - state.st_mtime > _SECONDS_TO_WRITE:
                    os.unlink(entry.path)
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most_bytes:
            break
        with contextlib.suppress(OSError):
            os.unlink(path)
        total -= size


if hasattr(os, "register_at_fork"):
    # Hold the lock while the process is copied, or the copy could find it held by a thread that it does not have.
    os.register_at_fork(before=_lock.acquire, after_in_child=_lock.release, after_in_parent=_lock.release)
