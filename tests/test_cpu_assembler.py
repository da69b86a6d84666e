"""Assembling in helpers gives what assembling here gives, whatever becomes of them; LLVM's ends are theirs, not ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from chainrule.cpu.codegen import assembler
from chainrule.cpu.codegen.assembler import assemble_all
from chainrule.cpu.codegen.emit import Module
from chainrule.cpu.codegen.machine_code import assemble
from chainrule.cpu.codegen.target import host_target
from chainrule.errors import InternalError
from systems import needs

TARGET = host_target()


def text(number: int) -> tuple[str, str]:
    """A module whose function adds a number."""
    module = Module(TARGET.vector_bits)
    f = module.function(f"add{number}", [("ptr", "place")])
    f.store(f.load(f["place"], "i64") + number, f["place"])
    return f"add{number}", module.text()


TEXTS = [text(number) for number in range(20)]


def one_by_one() -> list[bytes]:
    return [assemble(body, TARGET, name) for name, body in TEXTS]


def all_of(texts: Sequence[tuple[str, str]], cores: int) -> list[bytes]:
    return assemble_all(iter(texts), len(texts), TARGET, cores)


@pytest.fixture(autouse=True)
def _no_helper_from_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def end() -> None:
        resting, assembler._resting = assembler._resting, None
        if resting is not None:
            resting.end()

    end()
    monkeypatch.setattr(assembler, "_can_start", True)
    yield
    end()


def refuse_to_start(*_: Any, **__: Any) -> None:
    raise OSError("no processes today")


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_helpers_give_the_same_code_in_order(cores: int) -> None:
    assert all_of(TEXTS, cores) == one_by_one()


def test_this_process_never_runs_llvm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler, "assemble", lambda *_: pytest.fail("assembled here"))
    all_of(TEXTS, 2)
    all_of(TEXTS[:1], 2)


def test_one_helper_stays_for_the_next_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    all_of(TEXTS, 3)
    monkeypatch.setattr(subprocess, "Popen", refuse_to_start)
    monkeypatch.setattr(assembler, "assemble", lambda *_: pytest.fail("assembled here"))
    assert all_of(TEXTS[:3], 3) == one_by_one()[:3]


def test_where_no_process_can_be_started_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", refuse_to_start)
    assert all_of(TEXTS, 3) == one_by_one()


@pytest.mark.parametrize("executable", ["/nowhere/python", "/bin/false", "/bin/cat", "", None])
def test_where_the_executable_is_no_python_all_is_done_here(monkeypatch: pytest.MonkeyPatch, executable: str | None) -> None:
    monkeypatch.setattr(assembler.sys, "executable", executable)
    assert all_of(TEXTS[:9], 2) == one_by_one()[:9]


def test_a_helper_with_another_llvm_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler.object_code, "greeting", lambda: b"chainrule runs llvmlite 0.0 from nowhere\n")
    assert all_of(TEXTS[:3], 2) == one_by_one()[:3]
    assert assembler._resting is None


def test_a_helper_finds_llvm_where_this_process_does() -> None:
    program = (
        f"import sys; sys.path[:0] = {sys.path!r} + ['tests']\nfrom test_cpu_assembler import *\n"
        "assembler.assemble = lambda *_: 1 / 0\nprint(len(all_of(TEXTS[:3], 1)))\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys._base_executable, "-I", "-c", program],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,  # type: ignore[attr-defined]
    )
    assert done.stdout == "3\n", done.stderr


def test_where_no_thread_can_be_started_all_is_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert all_of(TEXTS[:3], 2) == one_by_one()[:3]


def test_a_frozen_application_is_not_started_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a process was started"))
    assert all_of(TEXTS[:3], 3) == one_by_one()[:3]


def test_a_helper_that_was_killed_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[assembler._Helper] = []
    usual = assembler._Helper.assemble

    def killed_once(self: assembler._Helper, text: str) -> bytes | str:
        made.append(self)
        if len(made) == 3:
            self._process.kill()
            self._process.wait()
        return usual(self, text)

    monkeypatch.setattr(assembler._Helper, "assemble", killed_once)
    assert all_of(TEXTS, 1) == one_by_one()
    assert len(set(made)) == 2


def refused(texts: Sequence[tuple[str, str]], message: str, cores: int = 2) -> None:
    """``message`` reaches the user, and the text is left in the file that it names."""
    with pytest.raises(InternalError, match=message) as caught:
        all_of(texts, cores)
    path = Path(re.search(r"report it and attach (\S+\.ll)$", str(caught.value))[1])
    assert path.read_text(encoding="utf-8") == texts[-1][1]
    path.unlink()


def test_what_llvm_refuses_is_named() -> None:
    refused([*TEXTS, ("broken", "define void @broken() { ret i32 0 }")], "kernel broken: LLVM refuses the code")


FATAL = """
declare <16 x float> @llvm.x86.avx512.rcp14.ps.512(<16 x float>, <16 x float>, i16)
define void @fatal(ptr %p) {
  %x = load <16 x float>, ptr %p
  %y = call <16 x float> @llvm.x86.avx512.rcp14.ps.512(<16 x float> %x, <16 x float> %x, i16 -1)
  store <16 x float> %y, ptr %p
  ret void
}
"""
"""LLVM has no instruction for this on narrower processors, and ends the process that asks."""


def test_where_llvm_ends_its_process_the_kernel_is_named_and_the_rest_goes_on() -> None:
    target = host_target("sse2") if TARGET.name != "neon" else TARGET
    with pytest.raises(InternalError, match=r"kernel fatal: LLVM refuses the code: LLVM ERROR: .*attach \S+\.ll") as caught:
        assemble_all(iter([*TEXTS[:2], ("fatal", FATAL)]), 3, target, 2)
    Path(str(caught.value).split()[-1]).unlink()
    assert len(assemble_all(iter(TEXTS[:2]), 2, target, 2)) == 2


@pytest.mark.parametrize("seconds", [0, 0.05, 0.5])
def test_an_error_while_modules_are_generated_ends_the_helpers(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    def modules() -> Iterator[tuple[str, str]]:
        yield from TEXTS[:4]
        time.sleep(seconds)
        raise KeyboardInterrupt

    made: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def noted(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        made.append(popen(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(subprocess, "Popen", noted)
    with pytest.raises(KeyboardInterrupt):
        assemble_all(modules(), 20, TARGET, 2)
    for thread in threading.enumerate():
        if thread.name == "chainrule-assembler":
            thread.join(10)
            assert not thread.is_alive()
    assert made
    assert all(one.poll() is not None for one in made), "no process is left behind"


@needs("procfs", "signals")
def test_a_helper_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = (
        "import sys; sys.path.insert(0, 'tests')\nfrom test_cpu_assembler import *\nall_of(TEXTS[:2], 1)\n"
        "print(assembler._resting._process.pid, flush=True)\nimport os; os.kill(os.getpid(), 9)\n"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=False)
    pid = int(done.stdout)
    for _ in range(200):
        if not running(pid):
            return
        time.sleep(0.05)
    pytest.fail("it still runs")


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not (state.exists() and state.read_text().rpartition(")")[2].split()[0] == "Z")


def test_nothing_to_assemble() -> None:
    assert all_of([], 4) == []
