"""Python's collector of garbage while programs are made: held back, and as the caller had it afterwards."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import chainrule as cr
from chainrule.collector import rare_collections

USUAL = (701, 11, 12)


@pytest.fixture(autouse=True)
def thresholds() -> Iterator[None]:
    before = gc.get_threshold()
    gc.set_threshold(*USUAL)
    yield
    gc.set_threshold(*before)


def test_the_collector_is_held_back_inside_of_the_outermost_context_and_as_before_outside() -> None:
    with rare_collections():
        assert gc.get_threshold()[0] > 100 * USUAL[0]
        with rare_collections():
            pass
        assert gc.get_threshold()[0] > 100 * USUAL[0]
    assert gc.get_threshold() == USUAL
    assert gc.isenabled()


def test_errors_set_the_thresholds_back() -> None:
    with pytest.raises(ValueError, match="inside"), rare_collections():
        raise ValueError("inside")
    assert gc.get_threshold() == USUAL


@pytest.mark.parametrize("own", [(0, 10, 10), (10_000_000, 10, 10)])
def test_a_collector_that_is_off_or_rarer_still_is_left_alone(own: tuple[int, int, int]) -> None:
    gc.set_threshold(*own)
    with rare_collections():
        assert gc.get_threshold() == own
    assert gc.get_threshold() == own


def test_a_collector_that_was_disabled_stays_disabled() -> None:
    gc.disable()
    try:
        with rare_collections():
            assert not gc.isenabled()
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_what_others_set_meanwhile_stays() -> None:
    with rare_collections():
        gc.set_threshold(500, 5, 5)
    assert gc.get_threshold() == (500, 5, 5)


def test_the_last_thread_that_leaves_sets_the_thresholds_back() -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with rare_collections():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with rare_collections():
        thread.start()
        assert inside.wait(60)
    assert gc.get_threshold() != USUAL
    leave.set()
    thread.join()
    assert gc.get_threshold() == USUAL


class _SeenError(Exception):
    pass


def test_functions_are_traced_and_compiled_inside_of_the_context() -> None:
    @cr.compile
    def refusing(x: cr.Tensor) -> cr.Tensor:
        raise _SeenError(*gc.get_threshold())

    with pytest.raises(_SeenError) as seen:
        refusing(np.ones(3, np.float32))
    assert seen.value.args[0] > 100 * USUAL[0]
    assert gc.get_threshold() == USUAL
