"""Augmentation of photographs: resized crops, colours, erased parts, mixtures; right areas, bounds, rounding, and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from chainrule.data import ColorJitter, CutMix, Cutout, Mixup, RandomErasing, RandomResizedCrop
from chainrule.errors import UserError

COUNT = 400


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def batch(count: int, *shape: int, dtype: Any = np.uint8) -> np.ndarray:
    pixels = generator(9).integers(0, 256, (count, *shape))
    return pixels.astype(np.uint8) if dtype == np.uint8 else (pixels / 255).astype(dtype)


TRANSFORMS = [
    RandomResizedCrop((12, 10)),
    ColorJitter(0.4, 0.3, 0.5),
    Cutout(4),
    RandomErasing(1.0),
]


@pytest.mark.parametrize("transform", TRANSFORMS, ids=str)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_the_same_numbers_give_the_same_images_and_leave_the_argument(transform: Any, dtype: Any) -> None:
    images = batch(6, 3, 12, 10, dtype=dtype)
    before = images.copy()
    one, again, other = (transform(images, generator(seed)) for seed in (1, 1, 2))
    assert (one.shape, one.dtype) == (images.shape, images.dtype)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    np.testing.assert_array_equal(images, before)
    assert transform(images[:0], generator()).shape == (0, 3, 12, 10)
    with pytest.raises(
        UserError, match=rf"^{type(transform).__name__}: got int64 of shape \(3, 4\): expected uint8 or float32"
    ):
        transform(np.zeros((3, 4), np.int64), generator())


# ---- resized crops


def test_crops_keep_the_bounds_of_area_and_aspect() -> None:
    crop = RandomResizedCrop(8, scale=(0.2, 0.7), ratio=(0.5, 2.0))
    left, top, right, bottom = np.array(crop.boxes((COUNT, 3, 30, 40), generator())).T
    width, height = right - left, bottom - top
    area, ratio = width * height / 1200, width / height
    assert 0.2 - 1e-9 <= area.min() < 0.22
    assert 0.63 < area.max() <= 0.7 + 1e-9
    assert 0.5 - 1e-9 <= ratio.min() < 0.55
    assert 1.8 < ratio.max() <= 2 + 1e-9
    assert (left >= 0).all()
    assert (right <= 40).all()
    assert (top >= 0).all()
    assert (bottom <= 30).all()
    for first, room in ((left, 40 - width), (top, 30 - height)):
        assert (first / room).mean() == pytest.approx(0.5, abs=0.05), "places are drawn evenly"
    left, top, right, bottom = np.array(crop.boxes((COUNT, 3, 30, 30), generator())).T
    assert np.log((right - left) / (bottom - top)).mean() == pytest.approx(0, abs=0.1), "wide ones are as frequent as high ones"


def test_where_no_box_fits_it_is_the_largest_in_the_middle() -> None:
    boxes = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.5, 0.75)).boxes((3, 1, 20, 40), generator())
    assert boxes == [(12.5, 0.0, 27.5, 20.0)] * 3, "15 of 20 pixels"
    boxes = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(1.0, 1.5)).boxes((1, 1, 20, 8), generator())
    assert boxes == [(0.0, 6.0, 8.0, 14.0)]


def test_the_whole_image_at_its_own_size_is_the_identity() -> None:
    for dtype in (np.uint8, np.float32):
        images = batch(4, 2, 9, 9, dtype=dtype)
        crop = RandomResizedCrop(9, scale=(1.0, 1.0), ratio=(1.0, 1.0))
        np.testing.assert_array_equal(crop(images, generator()), images)


def test_a_crop_shows_its_box_bilinearly() -> None:
    """A ramp stays a ramp: each new pixel has the value at its middle, to a tenth of a pixel, but for those at the border."""
    ramp = np.broadcast_to(np.arange(40, dtype=np.float32) * 4, (5, 1, 30, 40)).copy()
    crop = RandomResizedCrop((10, 10), scale=(0.2, 0.6))
    for image, (left, _, right, _) in zip(crop(ramp, generator(3)), crop.boxes(ramp.shape, generator(3)), strict=True):
        expected = (left + (right - left) * (np.arange(10) + 0.5) / 10 - 0.5) * 4
        np.testing.assert_allclose(image[0, :, 1:-1], np.broadcast_to(expected, (10, 10))[:, 1:-1], atol=0.4)
    rounded = crop(ramp.astype(np.uint8), generator(3))
    assert np.abs(rounded - crop(ramp, generator(3))).max() <= 0.51, "to the nearest"


# ---- colours


def test_a_jitter_of_nothing_is_the_identity() -> None:
    for dtype in (np.uint8, np.float32):
        for channels in (1, 3):
            images = batch(4, channels, 6, 5, dtype=dtype)
            found = ColorJitter()(images, generator())
            if dtype == np.uint8:
                np.testing.assert_array_equal(found, images)
            else:
                np.testing.assert_allclose(found, images, rtol=0, atol=2e-7)


def reference(image: np.ndarray, brightness: float, contrast: float, saturation: float, order: str) -> np.ndarray:
    """One change after the other, in float64."""
    for name in order:
        grey = image if len(image) == 1 else np.tensordot([0.299, 0.587, 0.114], image, 1)[np.newaxis]
        if name == "b":
            image = image * brightness
        elif name == "c":
            image = (image - grey.mean()) * contrast + grey.mean()
        else:
            image = (image - grey) * saturation + grey
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("order", ["bcs", "scb", "csb"])
def test_jitter_is_brightness_contrast_and_saturation_in_any_order(order: str, channels: int) -> None:
    images = batch(20, channels, 6, 5)
    rng = generator(4)
    factors = [rng.uniform(1 - amount, 1 + amount, 20) for amount in (0.4, 0.3, 0.6)]
    exact = np.array([reference(image.astype(float), *each, order) for image, *each in zip(images, *factors, strict=True)])
    assert exact.max() > 255.5, "some are cut off"
    found = ColorJitter(0.4, 0.3, 0.6)(images, generator(4))
    near = np.abs(found - np.clip(exact, 0, 255))
    assert near.max() <= 0.5 + 1e-3, "rounded to the nearest, and only once"
    assert near.mean() < 0.26
    plain = ColorJitter(0.4, 0.3, 0.6)(images.astype(np.float32), generator(4))
    np.testing.assert_allclose(plain, exact, rtol=1e-5, atol=1e-3)


def test_factors_are_at_least_0() -> None:
    images = batch(COUNT, 1, 2, 2, dtype=np.float32) + 1
    shares = ColorJitter(brightness=2.0)(images, generator()).ravel() / images.ravel()
    assert 0 <= shares.min() < 0.05
    assert 2.9 < shares.max() <= 3.001


# ---- erased parts


def test_cutout_is_a_square_around_a_pixel_drawn_evenly() -> None:
    ones = np.ones((COUNT, 2, 10, 12), np.float32)
    erased = Cutout(4)(ones, generator()) == 0
    assert (erased[:, 0] == erased[:, 1]).all(), "in all channels"
    rows, columns = erased[:, 0].any(2).sum(1), erased[:, 0].any(1).sum(1)
    assert (erased[:, 0].sum((1, 2)) == rows * columns).all()
    assert set(rows) == set(columns) == {2, 3, 4}, "cut off at the border"
    inside = (rows == 4) & (columns == 4)
    assert inside.mean() == pytest.approx((7 / 10) * (9 / 12), abs=0.08)
    assert (Cutout(100)(ones[:3], generator()) == 0).all()


@pytest.mark.parametrize("probability", [0.0, 0.4, 1.0])
def test_erased_areas(probability: float) -> None:
    """The share of images, and in each the share of its area, evenly between the bounds."""
    ones = np.ones((COUNT, 3, 40, 40), np.float32)
    erased = RandomErasing(probability, scale=(0.1, 0.3), ratio=(0.5, 2.0))(ones, generator())[:, 0] == 0
    chosen = erased.any((1, 2))
    assert chosen.mean() == pytest.approx(probability, abs=0.08)
    if not probability:
        return
    rows, columns = erased[chosen].any(2).sum(1), erased[chosen].any(1).sum(1)
    share = rows * columns / 1600
    np.testing.assert_array_equal(erased[chosen].mean((1, 2)), share)
    assert 0.085 < share.min() < 0.12, "sides are rounded to whole pixels"
    assert 0.28 < share.max() < 0.315
    assert share.mean() == pytest.approx(0.2, abs=0.02)
    assert (columns / rows).min() > 0.45
    assert (columns / rows).max() < 2.2


def test_tiny_images_lose_at_least_a_pixel() -> None:
    erased = RandomErasing(1.0)(np.ones((50, 1, 2, 2), np.float32), generator()) == 0
    assert set(erased.sum((1, 2, 3))) <= {1, 2}
    assert erased.any((1, 2, 3)).mean() > 0.9


# ---- mixtures


def test_mixup_is_the_mixture_of_two_images() -> None:
    images, labels = batch(8, 1, 3, 3, dtype=np.float32), np.arange(8)
    mixed, first, second, share = Mixup(0.4)(images, labels, generator(5))
    np.testing.assert_array_equal(first, labels)
    assert sorted(second) == list(range(8))
    np.testing.assert_allclose(mixed, share * images + (1 - share) * images[second], rtol=1e-6, atol=1e-7)
    shares = np.array([Mixup(0.4)(images, labels, generator(seed)).share for seed in range(COUNT)])
    assert shares.mean() == pytest.approx(0.5, abs=0.05)
    assert shares.var() == pytest.approx(0.25 / 1.8, rel=0.1), "of Beta(a, a): 1 / (4 (2 a + 1))"


def test_cutmix_replaces_a_box_and_shares_labels_by_its_area() -> None:
    images, labels = np.arange(5, dtype=np.float32).repeat(80).reshape(5, 1, 10, 8), np.arange(5)
    shares = []
    for seed in range(COUNT):
        mixed, first, second, share = CutMix(1.0)(images, labels, generator(seed))
        np.testing.assert_array_equal(first, labels)
        replaced = (mixed != images)[second != labels]
        assert all((one == replaced[0]).all() for one in replaced), "the same box in all images"
        if len(replaced):
            rows, columns = replaced[0, 0].any(1).sum(), replaced[0, 0].any(0).sum()
            assert replaced[0].sum() == rows * columns
            assert share == pytest.approx(1 - rows * columns / 80)
            place = int(np.flatnonzero(second != labels)[0])
            assert set(np.unique(mixed[place])) <= {float(place), float(second[place])}
        shares.append(share)
    assert 0.5 < np.mean(shares) < 0.75, "half the area, less what lies outside"
    assert min(shares) < 0.1
    assert max(shares) > 0.97


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: RandomResizedCrop(0), "height in size of RandomResizedCrop must be a whole number of at least 1, got 0"),
    (
        lambda: RandomResizedCrop(8, scale=(0.5, 1.5)),
        "scale of RandomResizedCrop is (0.5, 1.5): expected two numbers above 0 and at most 1, the least and the most",
    ),
    (lambda: RandomResizedCrop(8, ratio=(2, 1)), "ratio of RandomResizedCrop is (2, 1): expected two numbers above 0, the "),
    (lambda: RandomResizedCrop(8, ratio=(1, 2, 3)), "ratio of RandomResizedCrop is (1, 2, 3): expected two numbers above 0, "),  # type: ignore[arg-type]
    (lambda: ColorJitter(-0.1), "brightness of ColorJitter is -0.1: expected a finite number of at least 0"),
    (lambda: ColorJitter(0, np.inf), "contrast of ColorJitter is inf: expected a finite number of at least 0"),
    (lambda: ColorJitter(0, 0, "x"), "saturation of ColorJitter must be a number, got 'x'"),  # type: ignore[arg-type]
    (
        lambda: ColorJitter(0.1)(np.zeros((1, 2, 3, 3), np.uint8), generator()),
        "ColorJitter: the images have 2 channels: expected 1 (grey) or 3 (red, green, blue)",
    ),
    (lambda: Cutout(0), "size of Cutout must be a whole number of at least 1, got 0"),
    (lambda: RandomErasing(1.5), "probability of RandomErasing is 1.5: expected a number from 0 to 1"),
    (lambda: RandomErasing(True), "probability of RandomErasing is True: expected a number from 0 to 1"),
    (
        lambda: RandomErasing(0.5, scale=(0, 1)),
        "scale of RandomErasing is (0, 1): expected two numbers above 0 and at most 1, ",
    ),
    (lambda: Mixup(0), "alpha of Mixup is 0: expected a finite number above 0"),
    (lambda: CutMix(-1), "alpha of CutMix is -1: expected a finite number above 0"),
    (
        lambda: Mixup()(np.zeros((1, 1, 2, 2), np.uint8), np.zeros(1, np.int64), generator()),
        "Mixup: got uint8 images: expected float32, as a Loader gives them",
    ),
]


@pytest.mark.parametrize(("call", "message"), BAD, ids=[message for _, message in BAD])
def test_what_does_not_fit_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UserError) as error:
        call()
    assert str(error.value).startswith(message)


def test_they_say_what_they_are() -> None:
    made = [*TRANSFORMS, Mixup(0.2), CutMix(1)]
    assert [str(one) for one in made] == [
        "RandomResizedCrop(size=(12, 10), scale=(0.08, 1.0), ratio=(0.75, 1.333))",
        "ColorJitter(brightness=0.4, contrast=0.3, saturation=0.5)",
        "Cutout(size=4)",
        "RandomErasing(probability=1.0, scale=(0.02, 0.33), ratio=(0.3, 3.3))",
        "Mixup(alpha=0.2)",
        "CutMix(alpha=1.0)",
    ]
