"""Machine code that is kept, in the process and on disk; and what happens when LLVM refuses code."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chainrule.cpu import assembler, code_cache, disk_cache
from chainrule.cpu.code_cache import Function, load, object_codes
from chainrule.cpu.disk_cache import CacheWarning
from chainrule.cpu.emit import Module, Value
from chainrule.cpu.executable import Call, Executable, Stage
from chainrule.cpu.kernel import Kernel
from chainrule.cpu.machine_code import Library
from chainrule.cpu.target import Target, host_target
from chainrule.errors import InternalError
from chainrule.recent import Recent

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

    ``compiled`` collects the numbers of those that were generated.
    """

    def generate(target: Target, name: str) -> Module:
        if compiled is not None:
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

    return Kernel("test_table", str(number), generate, 3)


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
    other = host_target("sse2") if TARGET.name.startswith("avx") else TARGET
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
        code_cache._key(one, target)
        for one in (kernel, replace(kernel, signature="1 "), replace(kernel, family="other"))
        for target in (TARGET, replace(TARGET, cpu="other"), replace(TARGET, features="-x"), replace(TARGET, vector_bytes=8))
    }
    versions = code_cache.versions()
    for place in range(3):
        changed = tuple("other" if place == one else version for one, version in enumerate(versions))
        monkeypatch.setattr(code_cache, "versions", lambda changed=changed: changed)
        keys.add(code_cache._key(kernel, TARGET))
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
    by_number = {number: folder / f"test_table-{code_cache._key(scaled_table(number), TARGET)}.o" for number in range(5)}
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
    for system, name, folder in (
        ("linux", "posix", tmp_path / ".cache/chainrule"),
        ("darwin", "posix", tmp_path / "Library/Caches/chainrule"),
    ):
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(disk_cache.sys, "platform", system)
        assert (os.name, disk_cache._folder()) == (name, folder)
    monkeypatch.setattr(disk_cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert disk_cache._folder() == tmp_path / "xdg/chainrule"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # such are to be ignored
    assert disk_cache._folder() == tmp_path / ".cache/chainrule"


def test_an_unusable_folder_is_warned_of_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file"))
    with pytest.warns(CacheWarning, match="compiled code cannot be kept in .*file .*: every start compiles anew") as caught:
        check([scaled_table(1), scaled_table(2)])
    assert len(caught) == 1
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "file" / "below"))
    check([scaled_table(3)])  # a warning would be an error here


def test_a_full_disk_is_warned_of_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bytes = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        write_bytes(path, content[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
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


# ---- code that LLVM refuses


def broken(text: str) -> Kernel:
    class Broken(Module):
        def text(self) -> str:
            return text.replace("NAME", self.name)

    def generate(target: Target, name: str) -> Module:
        module = Broken(target.vector_bits)
        module.name = name
        return module

    return Kernel("test_broken", text, generate, 1)


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
