"""Random changes of brightness, contrast and saturation."""

from __future__ import annotations

import math

import numpy as np

from chainrule.arguments import explained, real_number
from chainrule.data.arguments import check_batch
from chainrule.data.dataset import Images
from chainrule.errors import UserError

_LUMINANCE = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey value of a pixel (ITU-R BT.601)."""


class ColorJitter:
    """Change brightness, contrast and saturation of each image by factors drawn evenly from max(0, 1 - x) to 1 + x.

    With the grey value g of a pixel and its mean m over the image, a pixel p becomes b (m + c (g - m + s (p - g))). These are
    torchvision's changes, which give the same in any order; but only at the end is the result cut off at 0 and 255 and rounded,
    for uint8 images; float32 images are not cut off. Grey images have no saturation to change. Images have 1 or 3 channels.
    """

    @explained
    def __init__(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0) -> None:
        self.amounts = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, value in self.amounts.items():
            number = self.amounts[name] = real_number(f"{name} of ColorJitter", value)
            if not 0 <= number < math.inf:
                raise UserError(f"{name} of ColorJitter is {value!r}: expected a finite number of at least 0")

    def __call__(self, images: Images, rng: np.random.Generator) -> Images:
        """Each image with other colours: (B,C,H,W) -> the same shape."""
        check_batch("ColorJitter", images)
        channels = images.shape[1]
        if channels not in (1, 3):
            raise UserError(f"ColorJitter: the images have {channels} channels: expected 1 (grey) or 3 (red, green, blue)")
        brightness, contrast, saturation = (
            rng.uniform(max(0.0, 1 - amount), 1 + amount, (len(images), 1, 1, 1)).astype(np.float32)
            for amount in self.amounts.values()
        )
        pixels = images.astype(np.float32)
        grey = pixels
        if channels == 3:
            grey = sum(np.float32(share) * pixels[:, i : i + 1] for i, share in enumerate(_LUMINANCE))  # type: ignore[assignment]
            pixels -= grey
            pixels *= saturation
            pixels += grey
        mean = grey.mean((1, 2, 3), dtype=np.float64, keepdims=True).astype(np.float32)
        pixels *= brightness * contrast
        pixels += brightness * (1 - contrast) * mean
        if images.dtype == np.uint8:
            return np.rint(pixels.clip(0, 255, out=pixels), out=pixels).astype(np.uint8)
        return pixels

    def __repr__(self) -> str:
        return f"ColorJitter({', '.join(f'{name}={value}' for name, value in self.amounts.items())})"
