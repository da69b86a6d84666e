"""The loader: same batches for any number of workers, resumable at any batch, and clean when things go wrong."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data.augment import AlternatingFlip, Normalize, RandomCrop, RandomFlip, RandomShift
from chainrule.data.dataset import ArrayDataset
from chainrule.data.loader import Loader
from chainrule.errors import UserError

COUNT = 23
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 1, 4, 4), np.uint8)
DATA = ArrayDataset(PIXELS, np.arange(COUNT), name="numbered")  # a label tells its image
AUGMENTED = (RandomCrop(4, 1), RandomFlip(), AlternatingFlip(), RandomShift(1), Normalize(0.5, 0.25))


def same(a, b) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) and np.array_equal(k, m) for (x, k), (y, m) in zip(a, b, strict=True))


def loader_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("chainrule-loader")]


def test_one_epoch_has_every_image_once() -> None:
    loader = Loader(DATA, 5)
    batches = list(loader)
    assert len(loader) == len(batches) == 5
    assert [len(labels) for _, labels in batches] == [5, 5, 5, 5, 3]
    labels = np.concatenate([labels for _, labels in batches])
    assert sorted(labels) == list(range(COUNT))
    assert list(labels) != sorted(labels)
    assert labels.dtype == np.int64
    images = np.concatenate([images for images, _ in batches])
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, PIXELS[labels] / 255.0, rtol=1e-6)


def test_drop_last_and_order_without_shuffling() -> None:
    loader = Loader(DATA, 5, shuffle=False, drop_last=True)
    assert len(loader) == 4
    assert np.concatenate([labels for _, labels in loader]).tolist() == list(range(20))


def test_floating_point_images_stay_as_they_are() -> None:
    pixels = np.linspace(-3, 300, 32, dtype=np.float32).reshape(2, 1, 4, 4)
    ((images, _),) = Loader(ArrayDataset(pixels, [0, 1]), 2, shuffle=False)
    assert np.array_equal(images, pixels)


def test_each_epoch_and_seed_has_its_own_order() -> None:
    loader = Loader(DATA, COUNT, seed=1)
    orders = [tuple(next(iter(loader))[1]) for _ in range(3)]
    orders.append(tuple(next(iter(Loader(DATA, COUNT, seed=2)))[1]))
    orders.append(tuple(next(iter(Loader(DATA, COUNT, seed=2**64 - 1)))[1]))
    assert len(set(orders)) == 5


def test_batches_are_augmented_differently_in_each_batch_and_epoch() -> None:
    drawn = []

    def note(images, rng):
        drawn.append(rng.random())
        return images

    loader = Loader(DATA, 5, transforms=[note], workers=1)
    list(loader)
    list(loader)
    assert len(set(drawn)) == 10


@settings(max_examples=25, deadline=None)
@given(
    batch_size=st.integers(1, COUNT + 2),
    seed=st.integers(0, 2**64 - 1),
    workers=st.integers(0, 5),
    prefetch=st.integers(1, 7),
    shuffle=st.booleans(),
    data=st.data(),
)
def test_same_batches_whatever_the_workers_and_wherever_resumed(
    batch_size: int, seed: int, workers: int, prefetch: int, shuffle: bool, data
) -> None:
    reference = Loader(DATA, batch_size, shuffle, seed, AUGMENTED, workers=1, prefetch=1)
    expected = [batch for _ in range(3) for batch in reference]
    assert reference.cursor == {"seed": seed, "epoch": 3, "batch": 0}
    stop = data.draw(st.integers(0, len(expected) - 1))

    # Stop after `stop` batches, in the middle of the loop's body, and go on with another loader from its cursor.
    first = Loader(DATA, batch_size, shuffle, seed, AUGMENTED, workers=workers, prefetch=prefetch)
    seen = []
    while len(seen) < stop:
        for batch in first:
            seen.append(batch)
            if len(seen) == stop:
                break
    cursor = first.cursor
    assert cursor == {"seed": seed, "epoch": stop // len(first), "batch": stop % len(first)}
    second = Loader(DATA, batch_size, shuffle, 0, AUGMENTED, workers=workers)
    second.seek(cursor)
    rest = [batch for _ in range(3 - cursor["epoch"]) for batch in second]
    assert same(seen + rest, expected)


def test_breaking_out_goes_on_at_the_cursor() -> None:
    expected = [batch for _ in range(2) for batch in [*Loader(DATA, 5)]][:5]
    loader = Loader(DATA, 5)
    seen = []
    for number in (2, 1, 2):
        for batch, _ in zip(loader, range(number), strict=False):
            seen.append(batch)
            if len(seen) in (2, 3, 5):
                break
    assert same(seen, expected)
    assert loader.cursor == {"seed": 0, "epoch": 1, "batch": 0}


def test_cursor_is_plain_and_counts_deliveries_only() -> None:
    loader = Loader(DATA, 5, seed=np.int64(7), prefetch=5)
    cursors = [loader.cursor for _ in loader]
    assert [(c["epoch"], c["batch"]) for c in cursors] == [(0, 1), (0, 2), (0, 3), (0, 4), (1, 0)]
    assert all(type(value) is int for value in loader.cursor.values())


def test_threads_end_after_a_whole_epoch_a_break_and_an_error_in_the_body() -> None:
    loader = Loader(DATA, 2, workers=3)
    for _ in loader:
        assert loader_threads()
    assert not loader_threads()
    for _ in loader:
        break
    assert not loader_threads()

    def body() -> None:
        for _ in loader:
            raise KeyError("body")

    with pytest.raises(KeyError):
        body()
    assert not loader_threads()
    assert loader.cursor == {"seed": 0, "epoch": 1, "batch": 2}


@pytest.mark.parametrize("workers", [0, 3])
def test_errors_surface_as_they_are_and_in_order(workers: int) -> None:
    class Failing(ArrayDataset):
        def images(self, indices):
            if 12 in indices:
                raise UserError("cats/12.png is a damaged image")
            time.sleep(0.01)  # the failing batch is ready first
            return super().images(indices)

    loader = Loader(Failing(PIXELS, np.arange(COUNT)), 5, shuffle=False, workers=workers)
    delivered = []

    def consume() -> None:
        for _, labels in loader:
            delivered.append(int(labels[0]))

    for _ in range(2):  # the second attempt begins with the batch that failed
        with pytest.raises(UserError) as error:
            consume()
        assert str(error.value) == "cats/12.png is a damaged image"
        assert delivered == [0, 5]
        assert not loader_threads()
        assert loader.cursor == {"seed": 0, "epoch": 0, "batch": 2}


def test_as_many_batches_are_prepared_ahead_as_asked_for_and_no_more() -> None:
    prepared = []

    def note(images, rng):
        prepared.append(len(images))
        return images

    for _ in Loader(DATA, 1, transforms=[note], workers=4, prefetch=3):
        deadline = time.monotonic() + 10
        while len(prepared) < 1 + 3 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        assert len(prepared) == 1 + 3
        break


def test_without_workers_batches_are_prepared_a_few_at_a_time() -> None:
    prepared = []

    def note(images, rng):
        assert threading.current_thread() is threading.main_thread()
        prepared.append(len(images))
        return images

    small, large = ArrayDataset(PIXELS, np.arange(COUNT)), ArrayDataset(np.zeros((COUNT, 600, 600), np.uint8), np.arange(COUNT))
    for dataset, expected in ((small, 8), (large, 2)):  # the large ones have 1.4 MB each
        loader = Loader(dataset, 1, transforms=[note], workers=0)
        prepared.clear()
        next(iter(loader))
        assert len(prepared) == expected
        assert len(list(loader)) == COUNT - 1
        assert loader.cursor == {"seed": 0, "epoch": 1, "batch": 0}


def test_few_batches_are_prepared_together_where_transforms_make_them_large() -> None:
    made = []

    def enlarge(images, rng):
        made.append(len(images))
        return np.repeat(np.repeat(images, 200, axis=2), 200, axis=3)

    next(iter(Loader(DATA, 5, transforms=[enlarge], workers=0)))
    assert len(made) == 1


def test_images_in_memory_need_no_threads_unless_asked_for() -> None:
    class Files(ArrayDataset):
        in_memory = False

    assert Loader(DATA, 5).workers == 0
    assert Loader(DATA, 5, workers=1).workers == 1
    assert Loader(Files(PIXELS, np.arange(COUNT)), 5).workers == 2


def test_as_many_threads_prepare_batches_as_there_are_workers() -> None:
    meeting = threading.Barrier(3)

    def meet(images, rng):
        meeting.wait(timeout=10)  # goes on only when three threads are here at once
        return images

    assert len([*Loader(DATA, 8, transforms=[meet], workers=3, prefetch=3)]) == 3


def test_moving_the_loader_under_a_running_loop_is_refused() -> None:
    loader = Loader(DATA, 5)

    def seek_inside() -> None:
        for _ in loader:
            loader.seek({"seed": 0, "epoch": 5, "batch": 0})

    def loop_inside() -> None:
        for _ in loader:
            next(iter(loader))

    for body in (seek_inside, loop_inside):
        with pytest.raises(UserError) as error:
            body()
        assert str(error.value) == ("this loop's Loader was moved by seek or another loop: leave the loop before that")


@pytest.mark.parametrize(
    ("cursor", "words"),
    [
        ({"epoch": 0, "batch": 0}, "cursor lacks 'seed': expected seed, epoch and batch, got {'epoch': 0, 'batch': 0}"),
        ({"seed": -1, "epoch": 0, "batch": 0}, "seed of the cursor must be a whole number of at least 0, got -1"),
        ({"seed": 2**64, "epoch": 0, "batch": 0}, "seed of the cursor is 18446744073709551616: it must be below 2**64"),
        ({"seed": 0, "epoch": -2, "batch": 0}, "epoch of the cursor must be a whole number of at least 0, got -2"),
        ({"seed": 0, "epoch": 1.5, "batch": 0}, "epoch of the cursor must be a whole number of at least 0, got 1.5"),
        ({"seed": 0, "epoch": 0, "batch": -1}, "batch of the cursor must be a whole number of at least 0, got -1"),
        (
            {"seed": 0, "epoch": 0, "batch": 5},
            "batch of the cursor is 5, but an epoch has batches 0 to 4: was it saved with another batch size or data set?",
        ),
    ],
)
def test_wrong_cursors_are_refused_and_change_nothing(cursor, words: str) -> None:
    loader = Loader(DATA, 5, seed=3)
    with pytest.raises(UserError) as error:
        loader.seek(cursor)
    assert str(error.value) == words
    assert loader.cursor == {"seed": 3, "epoch": 0, "batch": 0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"batch_size": 0}, "batch_size of Loader must be a whole number of at least 1, got 0"),
        ({"workers": -1}, "workers of Loader must be a whole number of at least 0, got -1"),
        ({"prefetch": 0}, "prefetch of Loader must be a whole number of at least 1, got 0"),
        ({"seed": -1}, "seed of Loader must be a whole number of at least 0, got -1"),
        (
            {"batch_size": 24, "drop_last": True},
            "Loader: drop_last leaves no batch, as numbered has 23 images and batch_size is 24",
        ),
        ({"dataset": PIXELS}, "Loader got a ndarray: expected a Dataset, such as ArrayDataset(images, labels)"),
        (
            {"transforms": RandomFlip()},
            "transforms of Loader is RandomFlip(probability=0.5): expected a list of callables",
        ),
    ],
)
def test_refused_arguments(options, words: str) -> None:
    with pytest.raises(UserError) as error:
        Loader(**{"dataset": DATA, "batch_size": 5, **options})
    assert str(error.value) == words


def test_a_transform_that_loses_images_is_named() -> None:
    class Loses:
        def __call__(self, images, rng):
            return images[1:]

        def __repr__(self) -> str:
            return "Loses()"

    with pytest.raises(UserError) as error:
        list(Loader(DATA, 5, transforms=[Loses()]))
    assert str(error.value) == "transform Loses() gave (4, 1, 4, 4): expected an array of 5 images (B, C, H, W)"


def test_alternating_flips_show_each_image_once_as_it_is_and_once_mirrored() -> None:
    pixels = np.tile(np.array([0, 255], np.uint8), (600, 1, 1, 1))
    data = ArrayDataset(pixels, np.arange(600))
    mirrored = {}
    for seed in (0, 1, 2**64 - 1):
        loader, epochs = Loader(data, 128, seed=seed, transforms=[AlternatingFlip()], workers=2), []
        for _ in range(3):
            images, labels = (np.concatenate(parts) for parts in zip(*loader, strict=True))
            epochs.append(images[labels.argsort(), 0, 0, 0] == 1)
        assert np.array_equal(epochs[0], ~epochs[1])
        assert np.array_equal(epochs[0], epochs[2])
        assert 240 < epochs[0].sum() < 360
        mirrored[seed] = epochs[0]
    assert 240 < (mirrored[0] ^ mirrored[1]).sum() < 360, "another seed begins with other images"
    neighbours = mirrored[0][1:] ^ mirrored[0][:-1]
    assert 240 < neighbours.sum() < 360, "numbers that follow each other have nothing to do with each other"


def test_an_alternating_flip_outside_of_a_loader_mirrors_half_of_the_images() -> None:
    images = np.tile(np.array([0, 1], np.uint8), (4000, 1, 1, 1))
    before = images.copy()
    assert 1800 < AlternatingFlip()(images, np.random.default_rng(1))[:, 0, 0, 0].sum() < 2200
    assert np.array_equal(images, before)
    with pytest.raises(UserError, match=r"^AlternatingFlip: got uint8 of shape \(3, 8, 8\)"):
        AlternatingFlip()(np.zeros((3, 8, 8), np.uint8), np.random.default_rng(1))
