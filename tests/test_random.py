"""Random numbers: Philox by its published vectors, the shape of the distributions, and streams that do not overlap."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from chainrule import ops
from chainrule.errors import UserError
from chainrule.graph import Array, leaf
from chainrule.graph.dtypes import float32, float64
from chainrule.ops.random import blocks_for, philox
from chainrule.tensor.random import Generator

SHAPES: list[tuple[int, ...]] = [(), (1,), (5,), (3, 4), (2, 0), (2, 3, 1)]


def words(text: str) -> tuple[Array, ...]:
    return tuple(np.array([int(word, 16)], dtype=np.uint64) for word in text.split())


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("0 0 0 0", "0 0", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_known_answers_of_random123(counter: str, key: str, expected: str) -> None:
    c0, c1, c2, c3 = words(counter)
    k0, k1 = words(key)
    assert philox((c0, c1, c2, c3), (k0, k1)) == words(expected)


def bits_of(seed: int, counter: int, shape: tuple[int, ...], bits: int) -> Array:
    value = ops.random_bits(leaf(np.array([seed, counter])), shape=shape, bits=bits).value
    assert value is not None
    return value


def test_random_bits_are_the_high_bits_of_philox_words_in_order() -> None:
    expected = [int(word[0]) for word in words("6627e8d5 e169c58d bc57ac4c 9b00dbd8")]
    np.testing.assert_array_equal(bits_of(0, 0, (4,), 24), [word >> 8 for word in expected])
    np.testing.assert_array_equal(bits_of(0, 0, (2, 2), 31), np.reshape([word >> 1 for word in expected], (2, 2)))
    np.testing.assert_array_equal(bits_of(0, 0, (), 1), expected[0] >> 31)


def test_seed_and_counter_use_all_of_their_64_bits() -> None:
    (seed_low, seed_high), (low, high) = (0x299F31D0, 0x24126EA1), (0x85A308D3, 0x13198A2E)
    zero, (c0, c1, k0, k1) = np.zeros(1, np.uint64), words(f"{low:x} {high:x} {seed_low:x} {seed_high:x}")
    expected = [int(word[0]) >> 1 for word in philox((c0, c1, zero, zero), (k0, k1))]
    np.testing.assert_array_equal(bits_of((seed_high << 32) + seed_low, (high << 32) + low, (4,), 31), expected)


def test_a_draw_reads_on_over_the_32_bit_border_of_the_counter() -> None:
    border = 2**32
    np.testing.assert_array_equal(
        bits_of(7, border - 1, (8,), 31), [*bits_of(7, border - 1, (4,), 31), *bits_of(7, border, (4,), 31)]
    )


def test_elements_depend_on_their_place_alone() -> None:
    np.testing.assert_array_equal(bits_of(3, 10, (1000,), 24)[:100], bits_of(3, 10, (100,), 24))
    np.testing.assert_array_equal(bits_of(3, 10, (1000,), 24)[40:80], bits_of(3, 20, (40,), 24))


# ---- distributions, at fixed seeds; the bounds are five standard errors

COUNT = 100_000


def farthest_from(values: Array, distribution: Array) -> float:
    """Kolmogorov and Smirnov's statistic: how far the empirical distribution strays, given the true one at sorted values."""
    steps = np.arange(len(values) + 1) / len(values)
    return float(max(np.abs(distribution - steps[1:]).max(), np.abs(distribution - steps[:-1]).max()))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345])
def test_uniform_numbers_are_uniform(seed: int, dtype: str) -> None:
    values = Generator(seed).uniform((COUNT,), dtype=dtype).numpy()
    assert values.dtype == dtype
    assert 0 <= values.min() < 5 / COUNT * 4
    assert 1 - 5 / COUNT * 4 < values.max() < 1
    wide = values.astype(np.float64)
    assert abs(wide.mean() - 0.5) < 5 * math.sqrt(1 / 12 / COUNT)
    assert abs(wide.var() - 1 / 12) < 5 * math.sqrt(1 / 180 / COUNT)
    assert farthest_from(np.sort(wide), np.sort(wide)) < 1.95 / math.sqrt(COUNT)
    neighbours = np.corrcoef(wide[:-1], wide[1:])[0, 1]
    assert abs(neighbours) < 5 / math.sqrt(COUNT)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", [0, 1, 2**62 + 12345])
def test_normal_numbers_are_normal(seed: int, dtype: str) -> None:
    values = Generator(seed).normal((COUNT,), dtype=dtype).numpy()
    assert values.dtype == dtype
    assert np.isfinite(values).all()
    wide = values.astype(np.float64)
    assert abs(wide.mean()) < 5 / math.sqrt(COUNT)
    assert abs(wide.var() - 1) < 5 * math.sqrt(2 / COUNT)
    assert abs((wide**3).mean()) < 5 * math.sqrt(15 / COUNT)
    assert abs((wide**4).mean() - 3) < 5 * math.sqrt(96 / COUNT)
    below = np.sort(wide)
    distribution = np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in below])
    assert farthest_from(below, distribution) < 1.95 / math.sqrt(COUNT)


@pytest.mark.parametrize(("dtype", "resolution"), [("bfloat16", 2**-8), ("float32", 2**-24), ("float64", 2**-53)])
def test_uniform_numbers_are_multiples_of_their_resolution_below_1(dtype: str, resolution: float) -> None:
    values = Generator(5).uniform((COUNT,), dtype=dtype).numpy().astype(np.float64) / resolution
    np.testing.assert_array_equal(values, np.floor(values))
    assert values.max() <= 1 / resolution - 1
    if dtype != "bfloat16":
        assert (values % 2 == 1).mean() == pytest.approx(0.5, abs=0.01), "the last bit is used"


def test_the_largest_uniform_number_is_below_1_in_every_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.compose, "random_bits", lambda state, *, shape, bits: leaf(np.full(shape, 2**bits - 1, np.int32)))
    for dtype in ("bfloat16", "float32", "float64"):
        assert Generator().uniform((2,), dtype=dtype).astype("float64").numpy().max() < 1
        assert np.isfinite(Generator().normal((2,), dtype=dtype).astype("float64").numpy()).all()


def test_low_high_mean_and_std() -> None:
    generator = Generator(1)
    between = generator.uniform((COUNT,), low=-3.0, high=5.0).numpy()
    assert (between.min() >= -3, between.max() <= 5) == (True, True)
    assert between.mean() == pytest.approx(1, abs=0.05)
    normal = generator.normal((COUNT,), mean=10.0, std=2.0).numpy()
    assert (normal.mean(), normal.std()) == (pytest.approx(10, abs=0.05), pytest.approx(2, abs=0.05))


# ---- streams


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_draws_have_the_shape_and_dtype_asked(shape: tuple[int, ...], dtype: str) -> None:
    generator = Generator(0)
    for drawn in (generator.uniform(shape, dtype=dtype), generator.normal(shape, dtype=dtype)):
        assert (drawn.shape, drawn.dtype.name) == (shape, dtype)
        assert not drawn.requires_grad


def test_the_same_seed_gives_the_same_numbers() -> None:
    first, second = Generator(42), Generator(41)
    drawn = [first.uniform((3, 3)), first.normal((5,)), first.uniform((), dtype=float64)]
    second.seed(42)
    for one, again in zip(
        drawn, (second.uniform((3, 3)), second.normal((5,)), second.uniform((), dtype="float64")), strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), again.numpy())
    assert not np.array_equal(Generator(43).uniform((3, 3)).numpy(), drawn[0].numpy())


def test_the_default_stream_begins_again_at_manual_seed() -> None:
    cr.manual_seed(7)
    first = cr.random.normal((4,)).numpy(), cr.random.uniform((2,)).numpy()
    cr.manual_seed(7)
    np.testing.assert_array_equal(cr.random.normal((4,)).numpy(), first[0])
    np.testing.assert_array_equal(cr.random.uniform((2,)).numpy(), first[1])
    assert not np.array_equal(cr.random.uniform((2,)).numpy(), first[1])


def test_draws_one_after_the_other_do_not_overlap() -> None:
    """Every draw starts where the last one stopped: the blocks of counters they read are disjoint."""
    read: list[int] = []
    emitted = ops.random_bits.reference

    def noting(state: Array, *, shape: tuple[int, ...], bits: int) -> Array:
        read.extend(range(int(state[1]), int(state[1]) + blocks_for(shape)))
        return emitted(state, shape=shape, bits=bits)  # type: ignore[no-any-return]

    object.__setattr__(ops.random_bits, "reference", noting)
    try:
        generator = Generator(9)
        for shape in SHAPES:
            for dtype in ("float32", "float64"):
                generator.uniform(shape, dtype=dtype)
                generator.normal(shape, dtype=dtype)
    finally:
        object.__setattr__(ops.random_bits, "reference", emitted)
    assert read == list(range(len(read)))
    assert int(generator.state.numpy()[1]) == len(read)


def test_the_state_is_all_that_a_checkpoint_needs() -> None:
    generator = Generator(3)
    generator.normal((10,))
    saved = generator.state.numpy().copy()
    following = generator.uniform((6,)).numpy()
    fresh = Generator()
    fresh.state.assign(saved)
    np.testing.assert_array_equal(fresh.uniform((6,)).numpy(), following)
    assert generator.state.name == "random.state"


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_out_of_range_is_explained(seed: int) -> None:
    with pytest.raises(UserError, match=rf"^seed must be from 0 to 2\^63 - 1, got {seed}$"):
        cr.manual_seed(seed)


def test_only_floats_are_drawn() -> None:
    with pytest.raises(UserError, match=r"^random: draws floats, not int32: draw float32 numbers, scale them and use astype$"):
        cr.random.uniform((3,), dtype="int32")


def test_random_bits_explains_a_wrong_state_and_a_wrong_number_of_bits() -> None:
    state = leaf(np.array([0, 0]))
    with pytest.raises(UserError, match=r"^random_bits: the state is int64\[2\], seed and counter, got float32\[2\]$"):
        ops.random_bits(leaf(np.zeros(2, float32)), shape=(), bits=3)
    for bits in (0, 32):
        with pytest.raises(UserError, match=rf"^random_bits: bits must be 1 to 31, got {bits}$"):
            ops.random_bits(state, shape=(), bits=bits)


def test_threads_that_share_a_generator_never_draw_the_same() -> None:
    from concurrent.futures import ThreadPoolExecutor

    generator = cr.random.Generator(1)
    with ThreadPoolExecutor(4) as pool:
        drawn = list(pool.map(lambda _: generator.uniform((4,)).numpy().tobytes(), range(400)))
    assert len(set(drawn)) == 400
