"""Native random bits against the reference, bit for bit."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule import ops
from chainrule.cpu.codegen.machine_code import Library, assemble, assembly
from chainrule.cpu.codegen.target import AVX512, NEON, Target, host_target
from chainrule.cpu.kernels.random_bits import random_bits
from chainrule.graph import Array
from kernels import arguments_of

HOSTS = [host_target()] if host_target().name == "neon" else [host_target(), host_target("sse2")]
STATES = [(0, 0), (7, 3), (2**40 + 12345, 2**32 - 2), (-1, 2**45 + 1), (-(2**63), 2**63 - 1), (2**63 - 1, -5)]
CANARY = -77


def drawn(
    target: Target, seed: int, counter: int, size: int, bits: int, order: Sequence[int] | None = None
) -> Array:  # fmt: skip
    """By the kernel: all units at once, or unit by unit in an order."""
    (step,) = random_bits(target, size, bits).steps
    assert step.operands == ("state", "out")
    kernel = step.kernel.named(target)
    library = Library([assemble(kernel.text(target), target, kernel.name)], [kernel.name], target)
    signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
    function = signature(library.address(kernel.name))
    state, out = np.array([seed, counter], np.int64), np.full(size + 64, CANARY, np.int32)
    table, arguments = arguments_of(kernel, target, [state.ctypes.data, out[32:].ctypes.data])
    for begin, end in [(0, kernel.units)] if order is None else [(unit, unit + 1) for unit in order]:
        function(arguments, begin, end, None)
    assert table.size
    assert (out[:32] == CANARY).all()
    assert (out[32 + size :] == CANARY).all()
    return out[32 : 32 + size]


def expected(seed: int, counter: int, size: int, bits: int) -> Array:
    return np.asarray(ops.random_bits.reference(np.array([seed, counter], np.int64), shape=(size,), bits=bits))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("target", HOSTS, ids=lambda target: target.name)
def test_bits_are_those_of_the_reference(target: Target, state: tuple[int, int]) -> None:
    with np.errstate(over="ignore"):
        for size, bits in ((1, 31), (3, 1), (5, 24), (31, 8), (4096 + 1, 24)):
            np.testing.assert_array_equal(drawn(target, *state, size, bits), expected(*state, size, bits))


@pytest.mark.parametrize("target", HOSTS, ids=lambda target: target.name)
def test_units_may_run_in_any_order(target: Target) -> None:
    size = 3 * 16384 + 6
    found = drawn(target, 5, 2**32 - 5000, size, 27, order=[2, 0, 3, 1])
    np.testing.assert_array_equal(found, expected(5, 2**32 - 5000, size, 27))


def test_nothing_is_drawn_for_no_elements() -> None:
    assert drawn(host_target(), 1, 1, 0, 9).size == 0


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(-(2**63), 2**63 - 1),
    counter=st.integers(0, 2**62),
    size=st.integers(1, 300),
    bits=st.integers(1, 31),
)
def test_any_state_size_and_width(seed: int, counter: int, size: int, bits: int) -> None:
    np.testing.assert_array_equal(drawn(host_target(), seed, counter, size, bits), expected(seed, counter, size, bits))


@pytest.mark.parametrize("target", [*HOSTS, NEON, AVX512], ids=lambda target: target.name)
def test_words_are_multiplied_in_vectors(target: Target) -> None:
    kernel = random_bits(target, 5000, 24).steps[0].kernel
    text = assembly(kernel.named(target).text(target), target, "kernel")
    assert ("umull" if target.name == "neon" else "pmuludq") in text
