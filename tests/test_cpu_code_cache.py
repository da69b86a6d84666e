"""Machine code that is kept, in the process and on disk; and what happens when LLVM refuses code."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from chainrule import ownership
from chainrule.cpu.codegen import assembler, code_cache, disk_cache
from chainrule.cpu.codegen.code_cache import Function, load, object_codes
from chainrule.cpu.codegen.disk_cache import CacheWarning
from chainrule.cpu.codegen.emit import Module, Value
from chainrule.cpu.codegen.machine_code import Library
from chainrule.cpu.codegen.target import Target, host_target
from chainrule.cpu.kernel import UNNAMED, Kernel
from chainrule.cpu.runtime.executable import Call, Executable, Stage
from chainrule.errors import InternalError
from chainrule.recent import Recent
from kernels import NARROW
from systems import needs

TARGET = host_target()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of its own for each test, and nothing loaded before."""
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(disk_cache, "_unusable", set())
    monkeypatch.setattr(disk_cache, "_warned", False)
    code_cache.forget()
    yield tmp_path / "cache"
    code_cache.forget()


def scaled_table(number: int, compiled: list[int] | None = None) -> Kernel:
    """y[u] = table[u] * (number + 0.5) by way of a function and a table that have the same names in every kernel.

    ``compiled`` collects the numbers of those that were generated to be compiled.
    """

    def generate(target: Target, name: str) -> Module:
        if compiled is not None and name != UNNAMED:
            compiled.append(number)
        module = Module(target.vector_bits)
        table = module.constant("table", "double", [number, number + 1, number + 2])
        inner = module.function("inner", [("ptr", "y"), ("i64", "u")], internal=True, inline=False)
        value = inner.load(inner.at(Value(inner, table, "ptr"), inner["u"], "double"), "double")
        inner.store(value * inner.number(number + 0.5, "double"), inner.at(inner["y"], inner["u"], "double"))
        f = module.function(name, [("ptr", "args"), ("i64", "begin"), ("i64", "end"), ("ptr", "scratch")])
        y = f.load(f["args"], "ptr")
        with f.loop(f["begin"], f["end"]) as u:
            f.call("inner", "void", y, u)
        return module

    return Kernel("test_table", str(number), generate, 3).named(TARGET)


def call(function: Function) -> list[float]:
    y = np.zeros(3)
    operands = np.array([y.ctypes.data])
    native = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)(function.address)
    native(operands.ctypes.data, 0, 3, None)
    return y.tolist()


def expected(number: int) -> list[float]:
    return [(number + u) * (number + 0.5) for u in range(3)]


def check(kernels: list[Kernel]) -> None:
    loaded = load(kernels, TARGET)
    for kernel in kernels:
        assert call(loaded[kernel.name]) == expected(int(kernel.signature))


def key(kernel: Kernel, target: Target = TARGET) -> str:
    """What its file is named after."""
    return code_cache._key(code_cache._facts(kernel, target))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.o"))


# ---- in the process


def test_kernels_loaded_together_keep_their_own_functions_and_tables() -> None:
    check([scaled_table(number) for number in range(20)])


def test_code_in_use_is_shared_and_stays() -> None:
    compiled: list[int] = []
    first = load([scaled_table(1, compiled), scaled_table(1, compiled)], TARGET)
    code_cache.forget()
    again = load([scaled_table(1, compiled), scaled_table(2, compiled)], TARGET)
    name = scaled_table(1).name
    assert again[name] is first[name]
    assert compiled == [1, 2]


def test_targets_have_code_of_their_own() -> None:
    other = NARROW
    kernel = scaled_table(1)
    functions = load([kernel], TARGET), load([kernel], other)
    assert call(functions[0][kernel.name]) == call(functions[1][kernel.name]) == expected(1)
    assert (functions[0][kernel.name] is functions[1][kernel.name]) == (other is TARGET)


def test_code_that_nothing_uses_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_cache, "_recent", Recent(3))
    freed: list[Library] = []
    monkeypatch.setattr(Library, "__del__", _noting(freed, Library.__del__))
    y = np.zeros(3)
    used = Executable([Stage((Call(scaled_table(0), (0,)),))], 1)
    used.bind(0, y.ctypes.data)
    for number in range(1, 11):
        load([scaled_table(number)], TARGET)
    assert len(freed) == 7  # the last three are still there
    used.run()
    assert y.tolist() == expected(0)
    del used
    assert len(freed) == 8


def _noting(freed: list[int], original):  # type: ignore[no-untyped-def]
    def noting(self: Library) -> None:
        freed.append(id(self))
        original(self)

    return noting


@needs("procfs")
def test_memory_stays_constant_over_many_kernels() -> None:
    code = object_codes([scaled_table(number) for number in range(3)], TARGET)
    names = [scaled_table(number).name for number in range(3)]

    def used() -> tuple[int, int]:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"), len(
            Path("/proc/self/maps").read_text().splitlines()
        )

    def churn() -> tuple[int, int]:
        for _ in range(100):
            assert Library(code, names, TARGET).address(names[0])
        return used()

    first = churn()
    second = churn()
    assert second[0] - first[0] < 300_000
    assert second[1] - first[1] < 20


# ---- on disk


def test_code_comes_from_disk_the_next_time(folder: Path) -> None:
    compiled: list[int] = []
    check([scaled_table(1, compiled), scaled_table(2, compiled)])
    assert len(files(folder)) == 2
    code_cache.forget()
    check([scaled_table(1, compiled), scaled_table(2, compiled), scaled_table(3, compiled)])
    assert compiled == [1, 2, 3]


def test_the_key_names_all_that_code_depends_on(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = scaled_table(1)
    keys = {
        key(one, target)
        for one in (kernel, scaled_table(2), replace(kernel, name="other"))
        for target in (TARGET, replace(TARGET, cpu="other"), replace(TARGET, features="-x"), replace(TARGET, vector_bytes=8))
    }
    versions = code_cache.versions()
    for place in range(3):
        changed = tuple("other" if place == one else version for one, version in enumerate(versions))
        monkeypatch.setattr(code_cache, "versions", lambda changed=changed: changed)
        keys.add(key(kernel, TARGET))
    assert len(keys) == 3 * 4 + 3


DAMAGES = {
    "empty": lambda content: b"",
    "cut short": lambda content: content[:-1],
    "cut within the head": lambda content: content[:10],
    "one bit": lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
    "foreign": lambda content: b"\x7fELF" + content,
    "longer": lambda content: content + b"x",
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_files_are_made_anew(folder: Path, damage: str) -> None:
    compiled: list[int] = []
    check([scaled_table(1, compiled)])
    (file,) = files(folder)
    content = file.read_bytes()
    file.write_bytes(DAMAGES[damage](content))
    code_cache.forget()
    check([scaled_table(1, compiled)])
    assert compiled == [1, 1]
    assert file.read_bytes() == content


def test_the_oldest_files_go_when_there_are_too_many(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check([scaled_table(number) for number in range(4)])
    size = files(folder)[0].stat().st_size
    now = time.time()
    by_number = {number: folder / f"test_table-{key(scaled_table(number))}.o" for number in range(5)}
    for number in range(4):
        os.utime(by_number[number], (now, now - 10_000 + number))
    left_over = folder / f".x-{'0' * 64}.o.1.2.tmp"
    left_over.write_bytes(b"half")
    os.utime(left_over, (now, now - 10_000))
    code_cache.forget()
    check([scaled_table(0)])  # used again, so the youngest now
    monkeypatch.setattr(disk_cache, "_MOST_BYTES", 3 * size + size // 2)
    monkeypatch.setattr(disk_cache, "_until_tidy", 0)
    foreign = folder / "results.json"
    foreign.write_bytes(b"x" * 10 * size)
    os.utime(foreign, (now, now - 100_000))
    check([scaled_table(4)])
    assert foreign.exists(), "what others keep here is left alone"
    assert [number for number in range(5) if by_number[number].exists()] == [0, 3, 4]
    assert not left_over.exists()


def test_no_folder_no_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CHAINRULE_CACHE", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    check([scaled_table(1)])
    assert list(tmp_path.iterdir()) == []


def test_the_usual_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CHAINRULE_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    for system, folder in (
        ("linux", tmp_path / ".cache/chainrule"),
        ("darwin", tmp_path / "Library/Caches/chainrule"),
        ("win32", tmp_path / "AppData/Local/chainrule/cache"),
    ):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(disk_cache.sys, "platform", system)
        assert disk_cache._folder() == folder
    monkeypatch.setattr(disk_cache.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert disk_cache._folder() == tmp_path / "local/chainrule/cache"
    monkeypatch.setattr(disk_cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert disk_cache._folder() == tmp_path / "xdg/chainrule"


RELATIVE = (
    "compiled code is not kept, as the environment variable {variable} is {value!r}, no absolute path: every start compiles "
    "anew. Set {variable} to one, or CHAINRULE_CACHE to a folder, or to nothing to keep none"
)


@pytest.mark.parametrize(
    ("system", "variable", "value"),
    [
        ("linux", "HOME", "relative"),
        ("linux", "HOME", ""),
        ("linux", "HOME", "a\nb"),
        ("darwin", "HOME", "relative"),
        ("linux", "XDG_CACHE_HOME", "relative"),
        ("win32", "LOCALAPPDATA", "relative"),
    ],
)
def test_the_usual_folder_is_nowhere_if_a_variable_names_it_by_a_relative_path(
    system: str, variable: str, value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It would be another folder wherever the process begins, with what somebody may have prepared there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CHAINRULE_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(disk_cache.sys, "platform", system)
    with pytest.warns(CacheWarning) as caught:
        assert disk_cache._folder() is None
    assert disk_cache.read("loops-1", []) is None, "which warns no more"
    disk_cache.write("loops-1", [], b"code")
    assert [str(one.message) for one in caught] == [RELATIVE.format(variable=variable, value=value)]
    assert list(tmp_path.iterdir()) == []


def test_a_relative_folder_that_was_chosen_stays_where_it_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("first", "second", "home"):
        (tmp_path / name).mkdir(mode=0o700)
    monkeypatch.setattr(disk_cache, "_absolute", functools.cache(disk_cache._absolute.__wrapped__))
    monkeypatch.setenv("CHAINRULE_CACHE", "kept/here")
    monkeypatch.chdir(tmp_path / "first")
    check([scaled_table(1)])
    monkeypatch.chdir(tmp_path / "second")
    check([scaled_table(2)])
    assert len(files(tmp_path / "first/kept/here")) == 2
    assert list((tmp_path / "second").iterdir()) == []
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("CHAINRULE_CACHE", "~/kept")
    check([scaled_table(3)])
    assert len(files(tmp_path / "home/kept")) == 1
    assert list((tmp_path / "second").iterdir()) == []


@pytest.mark.parametrize(
    ("home", "value", "message"),
    [
        ("relative", "~/kept", RELATIVE.format(variable="HOME", value="relative")),
        (
            "/",
            "~nobody-of-this-name/kept",
            "compiled code cannot be kept in ~nobody-of-this-name/kept (the system knows of no such home): every start "
            "compiles anew. Set CHAINRULE_CACHE to another folder, or to nothing to keep none",
        ),
    ],
)
def test_a_home_that_there_is_not(home: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("CHAINRULE_CACHE", value)
    with pytest.warns(CacheWarning) as caught:
        check([scaled_table(1), scaled_table(2)])
    assert [str(one.message) for one in caught] == [message]
    assert list(tmp_path.iterdir()) == []


def test_an_unusable_folder_is_warned_of_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file"))
    with pytest.warns(CacheWarning, match="compiled code cannot be kept in .*file .*: every start compiles anew") as caught:
        check([scaled_table(1), scaled_table(2)])
    assert len(caught) == 1
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file" / "below"))
    check([scaled_table(3)])  # a warning would be an error here


@needs("full device")
def test_a_full_disk_is_warned_of_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    def full(path: Path) -> int:
        path.write_bytes(b"begun")
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(disk_cache, "create", full)
    with pytest.warns(CacheWarning, match="No space left on device") as caught:
        check([scaled_table(1), scaled_table(2)])
    assert len(caught) == 1
    assert list(folder.iterdir()) == []


def test_processes_may_share_a_folder(folder: Path) -> None:
    code = f"""
import sys
sys.path[:0] = {[str(Path(__file__).parent)]!r}
from test_cpu_code_cache import *
for _ in range(3):
    check([scaled_table(number) for number in range(15)])
    code_cache.forget()
    for file in files(Path(os.environ["CHAINRULE_CACHE"]))[::2]:
        file.unlink(missing_ok=True)
"""
    command = [sys.executable, "-W", "error", "-c", code]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for one in running:
        assert one.communicate(timeout=30)[1] == ""
        assert one.returncode == 0
    assert [file for file in folder.iterdir() if file.suffix != ".o"] == []


def test_a_second_load_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = [scaled_table(number) for number in range(60)]
    load(kernels, TARGET)
    code_cache.forget()
    monkeypatch.setattr(assembler, "assemble_all", lambda *_: pytest.fail("compiled again"))
    load(kernels, TARGET)


def test_every_file_that_generates_code_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    whole = Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: read.add(path.name) or whole(path))
    disk_cache.sources.cache_clear()
    code_cache.versions()
    assert {"emit.py", "loops.py", "tile.py", "kernel.py"} <= read, "also those in folders"


@pytest.mark.parametrize("part", ["name", "target", "versions"])
def test_a_file_under_the_name_of_another_is_made_anew(part: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of another kernel, for another target or of another version of the package: whole, and not what is wanted."""
    compiled: list[int] = []
    kernel = scaled_table(1, compiled)
    wanted = folder / f"{kernel.family}-{key(kernel)}.o"
    with monkeypatch.context() as patch:
        if part == "name":
            object_codes([scaled_table(2)], TARGET)
        elif part == "target":
            object_codes([scaled_table(1)], replace(TARGET, features=f"{TARGET.features},"))
        else:
            patch.setattr(code_cache, "versions", lambda: ("0", "0", "0"))
            object_codes([scaled_table(1)], TARGET)
    (other,) = files(folder)
    foreign = other.read_bytes()
    other.rename(wanted)
    check([kernel])
    assert compiled == [1]
    replaced = wanted.read_bytes()
    assert replaced != foreign
    code_cache.forget()
    check([kernel])
    assert (compiled, wanted.read_bytes()) == ([1], replaced)


def test_files_that_are_exchanged_are_made_anew(folder: Path) -> None:
    compiled: list[int] = []
    check([scaled_table(number, compiled) for number in (1, 2)])
    one, other = files(folder)
    before = one.read_bytes(), other.read_bytes()
    one.write_bytes(before[1])
    other.write_bytes(before[0])
    code_cache.forget()
    check([scaled_table(number, compiled) for number in (1, 2)])
    assert compiled == [1, 2, 1, 2]
    assert (one.read_bytes(), other.read_bytes()) == before


def test_a_thousand_flipped_bits_are_noticed(folder: Path) -> None:
    code = object_codes([scaled_table(1)], TARGET)
    (file,) = files(folder)
    whole = file.read_bytes()
    facts = code_cache._facts(scaled_table(1), TARGET)
    for place in np.random.default_rng(0).integers(0, 8 * len(whole), 1000).tolist():
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        assert disk_cache.read(file.name, facts) is None
    file.write_bytes(whole)
    assert disk_cache.read(file.name, facts) == code[0]


@pytest.mark.parametrize("kind", ["link", "pipe"])
@needs("links and pipes")
def test_what_is_no_file_is_made_anew(kind: str, folder: Path, tmp_path: Path) -> None:
    compiled: list[int] = []
    check([scaled_table(1, compiled)])
    (file,) = files(folder)
    if kind == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        os.mkfifo(file)
    code_cache.forget()
    check([scaled_table(1, compiled)])
    assert compiled == [1, 1]
    assert file.is_file()
    assert not file.is_symlink()


# ---- who may have written what is kept


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077, 0o277, 0o777])
@needs("file modes")
def test_what_is_kept_is_for_its_owner_alone(mask: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the umask says."""
    inner = folder / "deeper" / "still"
    monkeypatch.setenv("CHAINRULE_CACHE", str(inner))
    compiled: list[int] = []
    before = os.umask(mask)
    try:
        check([scaled_table(1, compiled)])
        code_cache.forget()
        check([scaled_table(1, compiled)])
    finally:
        os.umask(before)
    assert compiled == [1]
    (file,) = files(inner)
    assert [oct(path.stat().st_mode & 0o7777) for path in (folder, folder / "deeper", inner)] == ["0o700"] * 3
    assert oct(file.stat().st_mode & 0o7777) == "0o600"


STRANGER = 65534 if ownership.user() != 65534 else 65533


class Strangers:
    """Lets folders, files and links seem to be somebody else's, whoever runs the tests."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.owners: dict[tuple[int, int], int] = {}
        self._lstat, self._fstat = os.lstat, os.fstat
        monkeypatch.setattr(ownership, "os", self)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def lstat(self, path: str) -> os.stat_result:
        return self._of(self._lstat(path))

    def fstat(self, handle: int) -> os.stat_result:
        return self._of(self._fstat(handle))

    def _of(self, state: os.stat_result) -> os.stat_result:
        owner = self.owners.get((state.st_dev, state.st_ino), state.st_uid)
        return os.stat_result([*state[:4], owner, *state[5:]])


def give(path: Path, strangers: Strangers | None) -> None:
    """Make a file or folder somebody else's: in earnest, or so that it seems so."""
    if strangers is None:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    else:
        state = os.lstat(path)
        strangers.owners[state.st_dev, state.st_ino] = STRANGER


@pytest.fixture(params=["pretended", pytest.param("in earnest", marks=needs("superuser"))])
def strangers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Strangers | None:
    """How ``give`` goes about it; only the superuser can give files away."""
    return Strangers(monkeypatch) if request.param == "pretended" else None


REFUSED = (
    "compiled code is not kept in {folder}, where others could put code that would run here: {why}. Every start compiles "
    "anew. {remedy} CHAINRULE_CACHE to a folder that only you can change, or to nothing to keep none"
)
OF_STRANGER = f"{{place}} belongs to another user (number {STRANGER})"
OPEN = "{place} may be changed by others (mode {mode})"


def refuse(folder: Path, why: str, remedy: str = "Remove it, or set") -> None:
    """Nothing is read from the folder and nothing written to it, with one warning, and the results are right."""
    compiled: list[int] = []
    kept = {path: path.read_bytes() for path in files(folder)}
    code_cache.forget()
    with pytest.warns(CacheWarning) as caught:
        check([scaled_table(number, compiled) for number in (1, 2)])
    code_cache.forget()
    check([scaled_table(number, compiled) for number in (1, 2)])  # a further warning would be an error here
    assert compiled == [1, 2, 1, 2]
    assert [str(one.message) for one in caught] == [REFUSED.format(folder=folder, why=why, remedy=remedy)]
    assert {path: path.read_bytes() for path in files(folder)} == kept


@needs("file modes", "superuser")
def test_a_folder_of_another_user_is_refused(folder: Path, strangers: Strangers | None) -> None:
    check([scaled_table(number) for number in (1, 2)])
    give(folder, strangers)
    refuse(folder, OF_STRANGER.format(place=folder))


@needs("file modes", "superuser")
def test_a_file_of_another_user_is_refused(folder: Path, strangers: Strangers | None) -> None:
    """As the kernels that were patched by another user, with their checksums put right."""
    check([scaled_table(number) for number in (1, 2)])
    for file in files(folder):
        give(file, strangers)
    refuse(folder, OF_STRANGER.format(place=folder / f"test_table-{key(scaled_table(1))}.o"))


@needs("file modes", "superuser")
def test_what_lies_in_the_folder_of_another_user_is_refused(
    folder: Path, strangers: Strangers | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner could rename it, and put another one there."""
    inner = folder / "inner"
    monkeypatch.setenv("CHAINRULE_CACHE", str(inner))
    check([scaled_table(1)])
    give(folder, strangers)
    refuse(inner, OF_STRANGER.format(place=folder), "Set")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
@needs("file modes")
def test_a_folder_that_others_may_write_is_refused(mode: int, folder: Path) -> None:
    check([scaled_table(number) for number in (1, 2)])
    folder.chmod(mode)
    refuse(folder, OPEN.format(place=folder, mode=f"{mode:04o}"))


@needs("file modes")
def test_a_file_that_others_may_write_is_refused(folder: Path) -> None:
    check([scaled_table(number) for number in (1, 2)])
    for file in files(folder):
        file.chmod(0o666)
    refuse(folder, OPEN.format(place=folder / f"test_table-{key(scaled_table(1))}.o", mode="0666"))


@needs("file modes")
def test_a_folder_in_a_place_that_others_may_change_is_refused(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless only owners can rename what is there, as in /tmp."""
    shared = tmp_path / "shared"
    shared.mkdir()
    monkeypatch.setenv("CHAINRULE_CACHE", str(shared / "mine" / "cache"))
    check([scaled_table(number) for number in (1, 2)])
    shared.chmod(0o777)
    refuse(shared / "mine" / "cache", OPEN.format(place=shared, mode="0777"), "Set")
    shared.chmod(0o1777)
    monkeypatch.setattr(disk_cache, "_unusable", set())
    code_cache.forget()
    compiled: list[int] = []
    check([scaled_table(number, compiled) for number in (1, 2)])
    assert compiled == []


@needs("file modes")
def test_a_place_that_a_group_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the group is the user's own, as many systems have one for each user; the folder itself is not given away to it."""
    shared, inner = tmp_path / "shared", tmp_path / "shared" / "cache"
    shared.mkdir()
    shared.chmod(0o775)
    monkeypatch.setenv("CHAINRULE_CACHE", str(inner))
    monkeypatch.setattr(ownership, "_is_private_group", lambda owner, group: True)
    compiled: list[int] = []
    for _ in range(2):
        check([scaled_table(number, compiled) for number in (1, 2)])
        code_cache.forget()
    assert compiled == [1, 2]
    monkeypatch.setattr(ownership, "_is_private_group", lambda owner, group: False)
    refuse(inner, OPEN.format(place=shared, mode="0775"), "Set")
    monkeypatch.setattr(ownership, "_is_private_group", lambda owner, group: True)
    for name in ("_unusable", "_warned"):
        monkeypatch.setattr(disk_cache, name, set() if name == "_unusable" else False)
    inner.chmod(0o770)
    refuse(inner, OPEN.format(place=inner, mode="0770"))


def test_which_groups_are_private(monkeypatch: pytest.MonkeyPatch) -> None:
    people = {1000: SimpleNamespace(pw_name="ada", pw_gid=1000), 1001: SimpleNamespace(pw_name="bob", pw_gid=100)}
    groups = {
        1000: SimpleNamespace(gr_name="ada", gr_mem=[]),
        100: SimpleNamespace(gr_name="users", gr_mem=[]),
        7: SimpleNamespace(gr_name="lab", gr_mem=["ada"]),
    }
    monkeypatch.setattr("pwd.getpwuid", people.__getitem__)
    monkeypatch.setattr("grp.getgrgid", groups.__getitem__)

    def private(owner: int, group: int) -> bool:
        return ownership._is_private_group.__wrapped__(owner, group)

    assert private(1000, 1000)
    assert not private(1001, 100), "everybody's first group on some systems, though it lists no members"
    assert not private(1000, 7)
    assert not private(1000, 8)
    assert not private(1002, 1000)
    groups[1000].gr_mem = ["ada", "bob"]
    assert not private(1000, 1000)


@needs("file modes")
def test_nothing_is_made_in_a_place_that_others_may_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o777)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "a" / "b"))
    refuse(tmp_path / "a" / "b", OPEN.format(place=tmp_path, mode="0777"), "Set")
    assert list(tmp_path.iterdir()) == []


@needs("links and pipes", "file modes", "superuser")
def test_a_folder_may_be_behind_links_of_ones_own(
    folder: Path, tmp_path: Path, strangers: Strangers | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("./disk/../disk")
    (tmp_path / "further").symlink_to(tmp_path / "link")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "further" / "cache"))
    compiled: list[int] = []
    for _ in range(2):
        check([scaled_table(number, compiled) for number in (1, 2)])
        code_cache.forget()
    assert compiled == [1, 2]
    assert len(files(tmp_path / "disk" / "cache")) == 2
    give(tmp_path / "link", strangers)
    refuse(tmp_path / "further" / "cache", OF_STRANGER.format(place=tmp_path / "link"), "Set")


@needs("links and pipes")
def test_links_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "loop"))
    with pytest.warns(CacheWarning, match="loop .*[Tt]oo many levels of symbolic links"):
        check([scaled_table(1)])
    (tmp_path / "later").symlink_to("not/yet/there")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "later"))
    code_cache.forget()
    check([scaled_table(1)])
    assert len(files(tmp_path / "not/yet/there")) == 1


def test_a_working_folder_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    monkeypatch.setenv("CHAINRULE_CACHE", "cache")
    with pytest.warns(CacheWarning, match=r"cannot be kept in cache \(No such file or directory\)"):
        check([scaled_table(1)])


@needs("file modes")
def test_where_users_have_no_numbers_all_is_kept_as_it_was(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows."""
    monkeypatch.setattr(ownership, "user", lambda: None)
    check([scaled_table(1)])
    folder.chmod(0o777)
    compiled: list[int] = []
    code_cache.forget()
    check([scaled_table(1, compiled)])
    assert compiled == []


# ---- code that LLVM refuses


def broken(text: str) -> Kernel:
    class Broken(Module):
        def text(self) -> str:
            return text.replace("NAME", self.name)

    def generate(target: Target, name: str) -> Module:
        module = Broken(target.vector_bits)
        module.name = name
        return module

    return Kernel("test_broken", text, generate, 1).named(TARGET)


HEAD = "define void @NAME(ptr %args, i64 %begin, i64 %end, ptr %scratch) {\nentry:\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("define nonsense", "expected type"),
        (HEAD + "  %x = add i64 %begin, %nowhere\n  ret void\n}\n", "use of undefined value '%nowhere'"),
        (
            HEAD + "  br i1 true, label %a, label %b\na:\n  %x = add i64 1, 2\n  br label %b\nb:\n"
            "  %y = add i64 %x, 1\n  store i64 %y, ptr %args\n  ret void\n}\n",
            "Instruction does not dominate all uses",
        ),
    ],
    ids=["syntax", "undefined", "dominance"],
)
def test_refused_code_is_left_for_the_report(text: str, message: str, folder: Path) -> None:
    kernel = broken(text)
    with pytest.raises(InternalError, match=f"(?s)kernel {kernel.name}: LLVM refuses the code.*{message}.*attach") as caught:
        load([kernel], TARGET)
    path = Path(re.search(r"attach (\S+\.ll)$", str(caught.value))[1])
    assert path.read_text(encoding="utf-8") == text.replace("NAME", kernel.name)
    path.unlink()
    assert not folder.exists()


def test_a_function_that_is_nowhere_is_an_error() -> None:
    kernel = broken(HEAD + "  call void @no_such_function()\n  ret void\n}\ndeclare void @no_such_function()\n")
    with pytest.raises(InternalError, match=f"(?s){kernel.name}.*cannot be loaded"):
        load([kernel], TARGET)
    other = broken("define void @another() {\n  ret void\n}\n")
    with pytest.raises(InternalError, match=f"(?s){other.name}.*cannot be loaded"):
        load([other], TARGET)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check([scaled_table(1)])
