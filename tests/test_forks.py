"""Copies of the process: whatever other threads hold at the moment of a fork, the copy goes on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import chainrule
from systems import needs

FILES = sorted(Path(chainrule.__file__).parent.rglob("*.py"))


def outcome(program: str) -> str:
    """What a program prints that forks while it has threads, which Python warns of from 3.12 on."""
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    return done.stdout or done.stderr


@needs("fork", "signals")
def test_a_child_can_call_a_function_that_another_thread_was_inside_of() -> None:
    program = """
import os, threading
import numpy as np
import chainrule as cr

inside, leave = threading.Event(), threading.Event()

@cr.compile
def doubled(x):
    if threading.current_thread() is not threading.main_thread():
        inside.set()
        leave.wait()
    return x * 2

doubled(np.ones(3, np.float32))
thread = threading.Thread(target=doubled, args=(np.ones(4, np.float32),))
thread.start()
inside.wait()
child = os.fork()
if child == 0:
    import signal
    signal.alarm(20)  # ends it where it waits for a thread that it does not have
    right = doubled(np.ones(3, np.float32)).tolist() == [2, 2, 2] and doubled(np.ones(5, np.float32)).tolist() == [2] * 5
    os._exit(0 if right else 1)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
print("status", status)
"""
    assert outcome(program) == "status 0\n"


@needs("fork")
def test_the_collector_of_a_child_is_as_usual_although_another_thread_compiled() -> None:
    program = """
import gc, os, threading
from chainrule.collector import rare_collections

usual = gc.get_threshold()
inside, leave = threading.Event(), threading.Event()

def other():
    with rare_collections():
        inside.set()
        leave.wait()

thread = threading.Thread(target=other)
thread.start()
inside.wait()
held_back = gc.get_threshold() != usual
child = os.fork()
if child == 0:
    at_once = gc.get_threshold() == usual
    with rare_collections():
        again = gc.get_threshold() != usual
    os._exit(0 if at_once and again and gc.get_threshold() == usual else 1)
status = os.waitpid(child, 0)[1]
leave.set()
thread.join()
print(held_back, status, gc.get_threshold() == usual)
"""
    assert outcome(program) == "True 0 True\n"


@needs("fork")
def test_every_lock_that_was_told_is_free_in_a_child() -> None:
    program = """
import os, threading
import chainrule as cr
from chainrule import forks

locks = [forks.renewed(threading.RLock()), forks.renewed(threading.Lock()), cr.random.default_generator._drawing]
taken, leave = threading.Event(), threading.Event()

def hold():
    for lock in locks:
        lock.acquire()
    taken.set()
    leave.wait()

thread = threading.Thread(target=hold)
thread.start()
taken.wait()
child = os.fork()
if child == 0:
    os._exit(0 if all(lock.acquire(timeout=5) for lock in locks) else 1)
print("status", os.waitpid(child, 0)[1])
leave.set()
"""
    assert outcome(program) == "status 0\n"


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_each_lock_that_outlives_a_call_is_renewed_in_children(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    if file.name == "forks.py":
        return
    assert "register_at_fork" not in text, "forks.py alone registers what is done at a fork"
    bare = re.findall(r"^(\s*)(\S+) = threading\.R?Lock\(\)", text, re.MULTILINE)
    held_across_forks = {"forks.around(_lock.acquire, _lock.release, _lock.release)", "_lock.acquire()\n    if not _busy"}
    assert not bare or any(one in text for one in held_across_forks), f"{file.name}: forks.renewed({bare[0][1]} = ...)"
