"""Assembling on several cores gives what assembling on one gives, whatever becomes of the helpers."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from chainrule.cpu import assembler
from chainrule.cpu.assembler import assemble_all
from chainrule.cpu.emit import Module
from chainrule.cpu.machine_code import assemble
from chainrule.cpu.target import host_target
from chainrule.errors import InternalError

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


def test_a_helper_gives_the_same_code() -> None:
    assert assemble_all(TEXTS, TARGET, 3) == one_by_one()


def test_few_modules_need_no_helper(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    assert assemble_all(TEXTS[:3], TARGET, 8) == one_by_one()[:3]
    assert assemble_all(TEXTS, TARGET, 1) == one_by_one()


def test_a_helper_that_cannot_start_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler.sys, "executable", "/nowhere/python")
    assert assemble_all(TEXTS, TARGET, 3) == one_by_one()


def test_a_helper_that_dies_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assembler.sys, "executable", "/bin/false")
    assert assemble_all(TEXTS, TARGET, 2) == one_by_one()


def test_what_llvm_refuses_is_named_though_a_helper_met_it() -> None:
    broken = [*TEXTS, ("broken", "define void @broken() { ret i32 0 }")]
    with pytest.raises(InternalError, match="kernel broken: LLVM refuses the code"):
        assemble_all(broken, TARGET, 3)


def test_nothing_to_assemble() -> None:
    assert assemble_all([], TARGET, 4) == []
