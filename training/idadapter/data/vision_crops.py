"""Face crops for the image encoder, cut from cached portraits, with the paper's augmentations."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from .alignment import reduce_area


def crop(portrait: np.ndarray, size: int) -> np.ndarray:
    """A portrait [s, s, 3] at the image encoder's size."""
    return cv2.resize(shrunk(portrait, size), (size, size), interpolation=cv2.INTER_LINEAR)


def shrunk(portrait: np.ndarray, size: int) -> np.ndarray:
    """The portrait shrunk by the largest whole factor that leaves it no smaller than `size`: nothing aliases then."""
    factor = portrait.shape[0] // size
    return reduce_area(portrait, factor) if factor >= 2 else portrait


def augmented(portrait: np.ndarray, size: int, random: np.random.Generator) -> np.ndarray:
    """Rotated, shifted and scaled a little, its colours and light changed: the same person, another photo.

    Args:
        portrait: [s, s, 3] uint8; flips are the caller's, who knows what they do to the caption.
        size: side of the crop.
        random: draws the changes.

    Returns:
        [size, size, 3] uint8.
    """
    portrait = shrunk(portrait, size)
    side = portrait.shape[0]
    angle, scale = random.normal(0, 6), np.exp(random.normal(0, 0.05)) * size / side
    middle = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((middle, middle), angle, scale)
    matrix[:, 2] += (size - 1) / 2 - middle + random.normal(0, 0.02 * size, 2)
    image = cv2.warpAffine(portrait, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    pixels = image.astype(np.float32)
    pixels = (pixels - 128) * np.exp(random.normal(0, 0.12)) + 128
    pixels *= np.exp(random.normal(0, 0.06, 3) + random.normal(0, 0.12)).astype(np.float32)
    return np.clip(pixels, 0, 255).astype(np.uint8)


def to_tensor(images: list[np.ndarray] | np.ndarray | Tensor, device: torch.device | None = None) -> Tensor:
    """uint8 pictures [n, h, w, 3] to RGB [n, 3, h, w] in [0, 1], where they are needed."""
    pictures = images if isinstance(images, Tensor) else torch.from_numpy(np.stack(images))
    return pictures.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255
