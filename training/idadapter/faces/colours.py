"""Mean colours of skin and hair of aligned portraits: what a recogniser looks past and a person's friends do not."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.templates import portrait_template

REGIONS = ("skin", "hair")
"""Both cheeks, where neither a smile nor a beard changes much; and the band above the forehead."""


def region_masks(size: int) -> Tensor:
    """Where `REGIONS` are in an aligned portrait, weights that sum to 1 each: [2, size, size]."""
    right_eye, left_eye, _, right_corner, left_corner = portrait_template(size)
    distance = float(np.linalg.norm(left_eye - right_eye))
    cheeks = [0.45 * eye + 0.55 * corner for eye, corner in ((right_eye, right_corner), (left_eye, left_corner))]
    above = (right_eye + left_eye) / 2 - [0, 1.35 * distance]
    masks = [
        sum(_bump(size, cheek, 0.14 * distance, 0.14 * distance) for cheek in cheeks),
        _bump(size, above, 0.6 * distance, 0.14 * distance),
    ]
    return torch.from_numpy(np.stack([mask / mask.sum() for mask in masks])).float()


def region_colours(images: Tensor, masks: Tensor) -> Tensor:
    """Mean colour of each region.

    Args:
        images: RGB [b, 3, h, w] in [0, 1].
        masks: [r, h, w] (`region_masks`).

    Returns:
        [b, r, 3].
    """
    return torch.einsum("bchw,rhw->brc", images, masks)


def _bump(size: int, middle: np.ndarray, width: float, height: float) -> np.ndarray:
    v, u = np.mgrid[0:size, 0:size]
    return np.exp(-0.5 * (((u - middle[0]) / width) ** 2 + ((v - middle[1]) / height) ** 2))
