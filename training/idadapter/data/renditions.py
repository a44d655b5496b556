"""Art renditions of a photo made by image filters, so that the words for them mean something in training captions."""

from __future__ import annotations

import cv2
import numpy as np

RENDITIONS = ("pencil_sketch", "cartoon", "oil_painting", "black_and_white")
"""Names of the filters, in the order of the class indices used by caches."""


def pencil_sketch(image: np.ndarray) -> np.ndarray:
    """Grey colour-dodge of the photo over its blurred negative: dark strokes on white paper."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(grey, (0, 0), image.shape[0] / 32)
    dodge = cv2.divide(grey, np.maximum(blurred, 1), scale=250)
    shade = cv2.addWeighted(dodge, 0.85, grey, 0.15, 0)
    return cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB)


def cartoon(image: np.ndarray) -> np.ndarray:
    """Six tones of lightness in lively colours, with dark outlines. Hue stays, so that skin stays skin."""
    smooth = image
    for _ in range(3):
        smooth = cv2.bilateralFilter(smooth, 7, 40, 7)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).astype(np.float32)
    lab[..., 0] = 0.8 * np.round(lab[..., 0] / 43) * 43 + 0.2 * lab[..., 0]
    lab[..., 1:] = 128 + 1.25 * (lab[..., 1:] - 128)
    flat = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    grey = cv2.medianBlur(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), 3)
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 7)
    lines = cv2.GaussianBlur(lines, (3, 3), 0)
    return (flat.astype(np.float32) * (0.25 + 0.75 * lines[..., None] / 255)).astype(np.uint8)


def oil_painting(image: np.ndarray, radius: int = 3, levels: int = 12) -> np.ndarray:
    """Each pixel takes the mean colour of the commonest brightness level around it (the classic oil filter)."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    level = (grey.astype(np.int32) * levels) // 256
    size = (2 * radius + 1, 2 * radius + 1)
    best = np.full(grey.shape, -1.0, np.float32)
    result = np.zeros(image.shape, np.float32)
    for index in range(levels):
        mask = (level == index).astype(np.float32)
        count = cv2.boxFilter(mask, -1, size, normalize=False)
        colour = cv2.boxFilter(image.astype(np.float32) * mask[..., None], -1, size, normalize=False)
        wins = count > best
        best[wins] = count[wins]
        result[wins] = (colour / np.maximum(count, 1)[..., None])[wins]
    warm = result * np.array([1.06, 1.0, 0.9], np.float32)
    return np.clip(warm, 0, 255).astype(np.uint8)


def black_and_white(image: np.ndarray) -> np.ndarray:
    """Luma of ITU-R BT.601, in three equal channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def render(image: np.ndarray, rendition: str) -> np.ndarray:
    """Applies one of `RENDITIONS`.

    Args:
        image: [H, W, 3] uint8 RGB.
        rendition: name of the filter.

    Returns:
        [H, W, 3] uint8 RGB.
    """
    filters = {
        "pencil_sketch": pencil_sketch,
        "cartoon": cartoon,
        "oil_painting": oil_painting,
        "black_and_white": black_and_white,
    }
    return filters[rendition](image)
