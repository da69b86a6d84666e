"""Parts of images erased at random: set to 0, which is the mean once images are normalised. Put these after Normalize."""

from __future__ import annotations

import numpy as np

from chainrule.arguments import explained, whole_number
from chainrule.data.arguments import bounds_of, check_batch, probability_of
from chainrule.data.boxes import draw_boxes
from chainrule.data.dataset import Images


class Cutout:
    """Set a square of ``size`` x ``size`` pixels of each image to 0. Its middle is drawn evenly among all pixels, so that some
    of it may lie outside of the image.

    DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout" (2017).
    """

    @explained
    def __init__(self, size: int) -> None:
        self.size = whole_number("size of Cutout", size, 1)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """Each image with a square of zeros: (B,C,H,W) -> the same shape."""
        check_batch("Cutout", images)
        result = images.copy()
        count, _, height, width = images.shape
        corners = rng.integers(0, (height, width), (count, 2)) - self.size // 2
        for image, (top, left) in zip(result, corners.tolist(), strict=True):
            image[:, max(0, top) : max(0, top + self.size), max(0, left) : max(0, left + self.size)] = 0
        return result

    def __repr__(self) -> str:
        return f"Cutout(size={self.size})"


class RandomErasing:
    """Set a box of some images to 0: of each image with the given ``probability``.

    ``scale`` are the least and the largest share of the image's area, ``ratio`` the least and the largest ratio of width to
    height, before both are rounded to whole pixels, at least one. Where no such box fits into the image in ten attempts, it
    stays as it is.

    Zhong et al., "Random erasing data augmentation" (2020).
    """

    @explained
    def __init__(
        self,
        probability: float = 0.5,
        scale: tuple[float, float] = (0.02, 0.33),
        ratio: tuple[float, float] = (0.3, 3.3),
    ) -> None:
        self.probability = probability_of("RandomErasing", probability)
        self.scale = bounds_of("scale of RandomErasing", scale, 1)
        self.ratio = bounds_of("ratio of RandomErasing", ratio)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """Some of the images with a box of zeros: (B,C,H,W) -> the same shape."""
        check_batch("RandomErasing", images)
        result = images.copy()
        count, _, height, width = images.shape
        chosen = rng.random(count) < self.probability
        sizes, met = draw_boxes(rng, count, (height, width), self.scale, self.ratio)
        whole = np.maximum(1, np.rint(sizes)).astype(np.int64)
        tops, lefts = (rng.random((count, 2)) * (np.array([height, width]) - whole + 1)).astype(np.int64).T.tolist()
        for number in np.flatnonzero(chosen & met).tolist():
            (rows, columns), top, left = whole[number].tolist(), tops[number], lefts[number]
            result[number, :, top : top + rows, left : left + columns] = 0
        return result

    def __repr__(self) -> str:
        return f"RandomErasing(probability={self.probability}, scale={self.scale}, ratio={self.ratio})"
