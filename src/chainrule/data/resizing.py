"""Random resized crops."""

from __future__ import annotations

import numpy as np

from chainrule.arguments import explained, explained_methods
from chainrule.data.arguments import bounds_of, check_batch, height_and_width
from chainrule.data.boxes import draw_boxes
from chainrule.data.dataset import Images


@explained_methods
class RandomResizedCrop:
    """Cut a box of random size, shape and place out of each image, and resize it to ``size``: (B,C,H,W) -> (B,C,*size).

    ``scale`` are the least and the largest share of the image's area, ``ratio`` the least and the largest ratio of width to
    height. Where no such box fits into the image in ten attempts, it is the largest one in its middle whose ratio is in the
    range. Resizing is bilinear, over all pixels that a new one covers; uint8 images are rounded to the nearest.

    Szegedy et al., "Going deeper with convolutions" (2015).
    """

    @explained
    def __init__(
        self,
        size: int | tuple[int, int],
        scale: tuple[float, float] = (0.08, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
    ) -> None:
        pair = size if isinstance(size, tuple | list) else (size, size)
        self.size = height_and_width("size of RandomResizedCrop", pair)
        self.scale = bounds_of("scale of RandomResizedCrop", scale, 1)
        self.ratio = bounds_of("ratio of RandomResizedCrop", ratio)

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """A box of each image, resized: (B,C,H,W) -> (B,C,*size)."""
        from PIL import Image  # which takes longer to load than all of this package

        check_batch("RandomResizedCrop", images)
        result = np.empty((*images.shape[:2], *self.size), images.dtype)
        for image, resized, box in zip(images, result, self.boxes(images.shape, rng), strict=True):
            for channel, pixels in zip(image, resized, strict=True):
                cut = Image.fromarray(channel).resize(self.size[::-1], Image.Resampling.BILINEAR, box=box)
                pixels[:] = np.asarray(cut)
        return result

    def boxes(self, shape: tuple[int, ...], rng: np.random.Generator) -> list[tuple[float, float, float, float]]:
        """Left, top, right and bottom edge, in pixels, of the box of each image of a batch of ``shape`` (B,C,H,W)."""
        count, _, height, width = shape
        sizes, met = draw_boxes(rng, count, (height, width), self.scale, self.ratio)
        share = rng.random((count, 2))
        middle = np.array([min(height, width / self.ratio[0]), min(width, height * self.ratio[1])])
        sizes, share = np.where(met[:, np.newaxis], sizes, middle), np.where(met[:, np.newaxis], share, 0.5)
        corner = share * (np.array([height, width]) - sizes)
        end = np.minimum(corner + sizes, [height, width])  # a rounding must not put it beyond the image
        return [(x, y, right, bottom) for (y, x), (bottom, right) in zip(corner.tolist(), end.tolist(), strict=True)]

    def __repr__(self) -> str:
        low, high = (f"{bound:.4g}" for bound in self.ratio)
        return f"RandomResizedCrop(size={self.size}, scale={self.scale}, ratio=({low}, {high}))"
