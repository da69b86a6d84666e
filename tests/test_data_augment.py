"""Transforms against slow per-image references, and their refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.data.augment import Normalize, RandomCrop, RandomFlip, RandomShift, mean_std
from chainrule.data.dataset import ArrayDataset
from chainrule.errors import UserError

BATCHES = st.tuples(
    st.sampled_from([np.uint8, np.float32]),
    st.tuples(st.integers(0, 5), st.integers(1, 3), st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 2**32),
).map(lambda t: np.random.default_rng(t[2]).integers(0, 256, t[1]).astype(t[0]))
SEEDS = st.integers(0, 2**32)
QUICK = settings(max_examples=60, deadline=None)


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@QUICK
@given(images=BATCHES, seed=SEEDS, padding=st.integers(0, 3), mode=st.sampled_from(["constant", "reflect"]), data=st.data())
def test_crop_cuts_at_the_drawn_place(images, seed: int, padding: int, mode: str, data) -> None:
    if mode == "reflect":
        padding = min(padding, *(side - 1 for side in images.shape[2:]))
    rows, columns = (side + 2 * padding for side in images.shape[2:])
    height, width = data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns))
    result = RandomCrop((height, width), padding, mode)(images, generator(seed))
    rng = generator(seed)
    top = rng.integers(0, rows - height + 1, len(images))
    left = rng.integers(0, columns - width + 1, len(images))
    assert result.shape == (*images.shape[:2], height, width)
    assert result.dtype == images.dtype
    for number, image in enumerate(images):
        padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)), mode=mode)
        window = padded[:, top[number] : top[number] + height, left[number] : left[number] + width]
        assert np.array_equal(result[number], window)


@QUICK
@given(images=BATCHES, seed=SEEDS, pixels=st.integers(0, 8))
def test_shift_moves_and_fills_with_zeros(images, seed: int, pixels: int) -> None:
    result = RandomShift(pixels)(images, generator(seed))
    rng = generator(seed)
    down, right = (rng.integers(-pixels, pixels + 1, len(images)) for _ in range(2))
    rows, columns = images.shape[2:]
    expected = np.zeros_like(images)
    for number in range(len(images)):
        for y in range(rows):
            for x in range(columns):
                from_y, from_x = y - down[number], x - right[number]
                if 0 <= from_y < rows and 0 <= from_x < columns:
                    expected[number, :, y, x] = images[number, :, from_y, from_x]
    assert result.dtype == images.dtype
    assert np.array_equal(result, expected)


@QUICK
@given(images=BATCHES, seed=SEEDS, probability=st.sampled_from([0, 0.3, 0.5, 1]))
def test_flip_mirrors_the_drawn_images(images, seed: int, probability: float) -> None:
    before = images.copy()
    result = RandomFlip(probability)(images, generator(seed))
    flipped = generator(seed).random(len(images)) < probability
    for number, image in enumerate(images):
        assert np.array_equal(result[number], np.flip(image, axis=2) if flipped[number] else image)
    assert result.dtype == images.dtype
    assert np.array_equal(images, before)


@QUICK
@given(images=BATCHES, data=st.data())
def test_normalize_is_the_textbook_formula(images, data) -> None:
    channels = images.shape[1]
    mean = data.draw(hnp.arrays(np.float64, channels, elements=st.floats(0, 1)))
    std = data.draw(hnp.arrays(np.float64, channels, elements=st.floats(0.1, 1)))
    result = Normalize(mean.tolist(), std.tolist())(images, generator(0))
    scaled = images / 255.0 if images.dtype == np.uint8 else images.astype(np.float64)
    expected = (scaled - mean.reshape(1, -1, 1, 1)) / std.reshape(1, -1, 1, 1)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)


def test_flip_half_of_the_images_by_default() -> None:
    images = np.tile(np.array([0, 1], np.uint8), (4000, 1, 1, 1))
    flipped = RandomFlip()(images, generator(1))[:, 0, 0, 0].sum()
    assert 1800 < flipped < 2200


def test_crop_and_shift_reach_every_place() -> None:
    images = np.zeros((600, 1, 3, 3), np.uint8)
    images[:, 0, 1, 1] = 1
    for transform in (RandomShift(1), RandomCrop(3, 1)):
        counts = transform(images, generator(1))[:, 0].sum(axis=0, dtype=int)
        assert counts.sum() == 600
        assert counts.min() > 30


def test_what_they_are_called() -> None:
    transforms = [Normalize(0.5, 0.25), RandomCrop(8, 2), RandomFlip(), RandomShift(2)]
    assert str(transforms) == (
        "[Normalize(mean=(0.5,), std=(0.25,)), RandomCrop(size=(8, 8), padding=2), "
        "RandomFlip(probability=0.5), RandomShift(pixels=2)]"
    )


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Normalize([0, 0], [1]), "Normalize: 2 means but 1 stds: give one of each per channel"),
        (lambda: Normalize([0, 0], [1, 0]), "Normalize: std of channel 1 is 0.0: it must be above 0"),
        (lambda: Normalize(np.nan, 1), "Normalize: mean is nan: expected one finite number per channel"),
        (lambda: Normalize([], []), "Normalize: mean is []: expected one finite number per channel"),
        (lambda: Normalize(0, "wide"), "Normalize: std is 'wide': expected one finite number per channel"),
        (lambda: RandomCrop(0), "height in size of RandomCrop must be a whole number of at least 1, got 0"),
        (lambda: RandomCrop((3, 4, 5)), "size of RandomCrop is (3, 4, 5): expected (height, width) in pixels"),
        (lambda: RandomCrop(8, 2, "edge"), "unknown padding_mode of RandomCrop 'edge': Known: constant, reflect"),
        (lambda: RandomCrop(8, -1), "padding of RandomCrop must be a whole number of at least 0, got -1"),
        (lambda: RandomFlip(1.5), "probability of RandomFlip is 1.5: expected a number from 0 to 1"),
        (lambda: RandomFlip("often"), "probability of RandomFlip is 'often': expected a number from 0 to 1"),
        (lambda: RandomShift(1.5), "pixels of RandomShift must be a whole number of at least 0, got 1.5"),
        (lambda: RandomShift(True), "pixels of RandomShift must be a whole number of at least 0, got True"),
    ],
)
def test_refused_arguments(make, words: str) -> None:
    with pytest.raises(UserError) as error:
        make()
    assert str(error.value) == words


BATCH = np.zeros((2, 3, 8, 8), np.uint8)


@pytest.mark.parametrize(
    ("transform", "images", "words"),
    [
        (Normalize(0.5, 0.5), BATCH, "Normalize: 1 means, but the images have 3 channels"),
        (
            Normalize([125.3] * 3, [63.0] * 3),
            BATCH,
            "Normalize: mean (125.3, 125.3, 125.3) and std (63.0, 63.0, 63.0) are for images scaled to 0..1: "
            "divide them by 255",
        ),
        (
            RandomCrop(8, 8, "reflect"),
            BATCH,
            "RandomCrop: images of 8×8 cannot be mirrored 8 pixels beyond their border: give a padding of at most 7",
        ),
        (RandomCrop(9), BATCH, "RandomCrop: cannot cut 9×9 out of images of 8×8 with padding 0"),
        (
            RandomFlip(),
            BATCH[0],
            "RandomFlip: got uint8 of shape (3, 8, 8): expected uint8 or float32 images (B, C, H, W)",
        ),
        (
            RandomShift(1),
            BATCH.astype(np.float64),
            "RandomShift: got float64 of shape (2, 3, 8, 8): expected uint8 or float32 images (B, C, H, W)",
        ),
    ],
)
def test_refused_images(transform, images, words: str) -> None:
    with pytest.raises(UserError) as error:
        transform(images, generator(0))
    assert str(error.value) == words


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mean_std_of_all_images(dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (1203, 3, 5, 4)).astype(dtype)
    pixels[:, 1] //= 2
    mean, std = mean_std(ArrayDataset(pixels, [0] * 1203))
    scaled = pixels / 255.0 if dtype == np.uint8 else pixels.astype(np.float64)
    np.testing.assert_allclose(mean, scaled.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, scaled.std(axis=(0, 2, 3)), rtol=1e-12)


def test_mean_std_keeps_digits_of_large_near_values() -> None:
    pixels = (1e6 + np.random.default_rng(0).random((600, 1, 4, 4))).astype(np.float32)
    mean, std = mean_std(ArrayDataset(pixels, [0] * 600))
    np.testing.assert_allclose(mean, pixels.mean(dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(std, pixels.astype(np.float64).std(), rtol=1e-9)


def test_mean_std_measures_at_most_ten_thousand_and_meets_no_pattern() -> None:
    class Counted(ArrayDataset):
        asked = 0

        def images(self, indices):
            self.asked += len(indices)
            return super().images(indices)

    # As in MNIST, every other image comes from a darker source: a fixed even stride would see one source only.
    pixels = np.zeros((40_000, 1, 1, 1), np.uint8)
    pixels[::2] = 255
    data = Counted(pixels, [0] * len(pixels))
    mean, std = mean_std(data)
    assert data.asked == 10_000
    assert 0.48 < mean[0] < 0.52
    assert 0.49 < std[0] < 0.51


def test_a_constant_channel_gets_std_one() -> None:
    mean, std = mean_std(ArrayDataset(np.full((3, 2, 2), 51, np.uint8), [0, 0, 0]))
    assert mean == [0.2]
    assert std == [1.0]
