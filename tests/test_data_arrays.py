"""ArrayDataset: what it accepts, and the words with which it refuses the rest."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.data.dataset import ArrayDataset
from chainrule.data.sampling import evenly_drawn
from chainrule.errors import UserError

PIXELS = np.arange(5 * 2 * 3, dtype=np.uint8).reshape(5, 2, 3)


def test_grey_images_get_a_channel() -> None:
    data = ArrayDataset(PIXELS, [0, 1, 2, 1, 0])
    assert data.image_shape == (1, 2, 3)
    assert len(data) == 5
    assert data.classes == ["0", "1", "2"]
    assert data.labels.dtype == np.int64
    assert np.array_equal(data.images([4, 0]), PIXELS[[4, 0], np.newaxis])


def test_floating_point_becomes_float32_and_keeps_its_values() -> None:
    data = ArrayDataset(PIXELS[:, np.newaxis] / 7, np.zeros(5, np.uint8), classes=["all"], name="mine")
    images = data.images(range(5))
    assert images.dtype == np.float32
    np.testing.assert_allclose(images[:, 0], PIXELS / 7, rtol=1e-7)
    assert repr(data) == "<ArrayDataset mine: 5 images 1×2×3, 1 classes>"


def test_images_are_fresh_arrays() -> None:
    data = ArrayDataset(PIXELS, [0] * 5)
    data.images([0])[:] = 77
    assert data.images([0]).max() == PIXELS[0].max()


def test_no_indices_give_no_images() -> None:
    assert ArrayDataset(PIXELS, [0] * 5).images([]).shape == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ([0, 5], "arrays: there is no image 5: numbers go from 0 to 4"),
        ([-1], "arrays: there is no image -1: numbers go from 0 to 4"),
        ([0.5], "arrays: images are chosen by a list of whole numbers, not by float64 of shape (1,)"),
        (3, "arrays: images are chosen by a list of whole numbers, not by int64 of shape ()"),
        ([True] * 5, "arrays: images are chosen by a list of whole numbers, not by bool of shape (5,)"),
    ],
)
def test_wrong_indices(indices, words: str) -> None:
    with pytest.raises(UserError) as error:
        ArrayDataset(PIXELS, [0] * 5).images(indices)
    assert str(error.value) == words


def with_value(value: float) -> np.ndarray:
    images = np.zeros((3, 2, 4, 5))
    images[1, 1, 2, 3] = value
    return images


@pytest.mark.parametrize(
    ("images", "labels", "classes", "words"),
    [
        (PIXELS, [0] * 4, None, "5 images but 4 labels: each image needs one"),
        (PIXELS, [0, 1, 7, 1, 9], list("abc"), "labels[2] is 7: with 3 classes a label is 0 to 2"),
        (PIXELS, [0, 1, 2, -3, 9], list("abc"), "labels[3] is -3: with 3 classes a label is 0 to 2"),
        (PIXELS, [0, -1, 0, 0, 0], None, "labels[1] is -1: classes are counted from 0, to at most 99999"),
        (PIXELS, [0, 10**12, 0, 0, 0], None, "labels[1] is 1000000000000: classes are counted from 0, to at most 99999"),
        (PIXELS, [2**64 - 1] * 5, list("ab"), "labels[0] is 18446744073709551615: with 2 classes a label is 0 to 1"),
        (PIXELS, [0.0] * 5, None, "labels are float64: expected whole numbers; convert with .astype(np.int64)"),
        (PIXELS, [True] * 5, None, "labels are bool: expected whole numbers; convert with .astype(np.int64)"),
        (PIXELS, [[0]] * 5, None, "labels have shape (5, 1): expected (N,), one class number per image"),
        (PIXELS, [], None, "there are no labels"),
        (PIXELS[0], [0, 1], None, "images have shape (2, 3): expected (N, H, W) or (N, C, H, W)"),
        (PIXELS[:0], [], None, "images have shape (0, 1, 2, 3): there is nothing to learn from"),
        (
            PIXELS.astype(np.int64),
            [0] * 5,
            None,
            "images are int64: expected uint8 (pixels 0 to 255) or floating point; "
            "convert them with .astype(np.uint8) or .astype(np.float32)",
        ),
        (
            with_value(np.nan),
            [0] * 3,
            None,
            "image 1 holds nan in channel 1, row 2, column 3: repair or remove this image",
        ),
        (
            with_value(-np.inf),
            [0] * 3,
            None,
            "image 1 holds -inf in channel 1, row 2, column 3: repair or remove this image",
        ),
        (with_value(1e300), [0] * 3, None, "image 1 holds inf in channel 1, row 2, column 3: repair or remove this image"),
    ],
)
def test_refused(images, labels, classes, words: str) -> None:
    with pytest.raises(UserError) as error:
        ArrayDataset(images, labels, classes, name="mine")
    assert str(error.value) == f"mine: {words}"


def test_ragged_images_are_refused() -> None:
    with pytest.raises(UserError, match=r"^mine: the images do not form one array, all must have the same shape: "):
        ArrayDataset([np.zeros((2, 2)), np.zeros((3, 2))], [0, 1], name="mine")


@pytest.mark.parametrize(("count", "total"), [(1, 1), (1, 9), (3, 10), (7, 7), (100, 1234)])
def test_evenly_drawn_takes_an_item_from_each_stretch(count: int, total: int) -> None:
    chosen = evenly_drawn(count, total)
    edges = np.arange(count + 1) * total // count
    assert ((edges[:-1] <= chosen) & (chosen < edges[1:])).all()


def test_what_is_evenly_drawn_never_changes() -> None:
    assert evenly_drawn(5, 50).tolist() == [9, 18, 29, 36, 43]


# ---- one image by its number


def test_an_image_and_its_class_by_number() -> None:
    images = np.arange(3 * 4, dtype=np.uint8).reshape(3, 2, 2)
    data = ArrayDataset(images, [2, 0, 1], name="three")
    image, label = data[1]
    assert image.shape == (1, 2, 2)
    np.testing.assert_array_equal(image[0], images[1])
    assert label == 0
    assert type(label) is int
    image[:] = 9  # a fresh array
    np.testing.assert_array_equal(data[np.int64(-2)][0][0], images[1])
    assert [label for _, label in data] == [2, 0, 1]
    for number in (3, -4):
        with pytest.raises(UserError, match=f"three: there is no image {number}: numbers go from 0 to 2, or from -1 to -3"):
            data[number]
    for several in (slice(2), [0, 1], True, "0"):
        with pytest.raises(UserError, match=r"three: \[...\] takes the number of one image, got a \w+: for several use images"):
            data[several]  # type: ignore[index]
