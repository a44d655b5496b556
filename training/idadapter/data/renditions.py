"""Art renditions of a photo made by image filters, so that the words for them mean something in training captions."""

from __future__ import annotations

import cv2
import numpy as np

RENDITIONS = ("pencil_sketch", "cartoon", "oil_painting", "black_and_white")
"""Names of the filters, in the order of the class indices used by caches."""

WORKING_SIZE = 256
"""Smaller pictures are filtered twice as large or more: a dab or a line can then be finer than their pixels."""


def pencil_sketch(image: np.ndarray) -> np.ndarray:
    """Grey colour-dodge of the photo over its blurred negative: dark strokes on white paper."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    blurred = cv2.GaussianBlur(grey, (0, 0), image.shape[0] / 32)
    dodge = cv2.divide(grey, np.maximum(blurred, 1), scale=250)
    shade = cv2.addWeighted(dodge, 0.85, grey, 0.15, 0)
    return cv2.cvtColor(shade, cv2.COLOR_GRAY2RGB)


def cartoon(image: np.ndarray) -> np.ndarray:
    """Five light tones in lively colours, with dark outlines. Hue stays, so that skin stays skin."""
    large = _enlarged(image)
    smooth = large
    for _ in range(4):
        smooth = cv2.bilateralFilter(smooth, 9, 45, 9)
    lab = cv2.cvtColor(smooth, cv2.COLOR_RGB2LAB).astype(np.float32)
    lightness = 255 * (lab[..., 0] / 255) ** 0.7
    lab[..., 0] = 0.8 * np.round(lightness / 51) * 51 + 0.2 * lightness
    flat = _livelier(lab, 1.4)
    unit = large.shape[0] / WORKING_SIZE
    grey = cv2.GaussianBlur(cv2.cvtColor(large, cv2.COLOR_RGB2GRAY), (0, 0), 2 * unit)
    block = 2 * round(9 * unit) + 1
    lines = cv2.adaptiveThreshold(grey, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, block, 7)
    lines = cv2.GaussianBlur(lines, (3, 3), 0)
    drawn = flat.astype(np.float32) * (0.35 + 0.65 * lines[..., None] / 255)
    return _as_small_as(image, drawn)


def oil_painting(image: np.ndarray) -> np.ndarray:
    """Dabs of the commonest brightness around each pixel (the classic oil filter), and a brush's ridges along edges.

    Dabs are small enough for eyes: of ones of seven pixels at 128, faces melted, and so did those of a model that had
    learned from them (docs/training_log.md, seventeenth session).
    """
    large = _enlarged(image)
    unit = large.shape[0] / WORKING_SIZE
    dabs = _dabs(large, radius=round(3 * unit), levels=16)
    ridges = _strokes(dabs, length=round(8 * unit))
    painted = np.clip(dabs + 6 * ridges[..., None], 0, 255).astype(np.uint8)
    lab = cv2.cvtColor(painted, cv2.COLOR_RGB2LAB).astype(np.float32)
    return _as_small_as(image, _livelier(lab, 1.3, warmer=5))


def _enlarged(image: np.ndarray) -> np.ndarray:
    scale = max(1, round(WORKING_SIZE / image.shape[0]))
    return cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)


def _as_small_as(image: np.ndarray, picture: np.ndarray) -> np.ndarray:
    size = image.shape[1], image.shape[0]
    return cv2.resize(picture.astype(np.uint8), size, interpolation=cv2.INTER_AREA)


def _livelier(lab: np.ndarray, saturation: float, warmer: float = 0.0) -> np.ndarray:
    """[H, W, 3] float32 of OpenCV's 8-bit Lab as RGB, with its colours so much further from grey, and yellower."""
    lab[..., 1:] = 128 + saturation * (lab[..., 1:] - 128) + [0, warmer]
    return cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)


def _dabs(image: np.ndarray, radius: int, levels: int) -> np.ndarray:
    """Each pixel takes the mean colour of the commonest of so many brightness levels around it: [H, W, 3] float32."""
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
    return result


def _strokes(image: np.ndarray, length: int) -> np.ndarray:
    """Noise smeared along the picture's edges (line integral convolution, Cabral and Leedom 1993).

    Args:
        image: [H, W, 3] float32 RGB in 0..255.
        length: how far to both sides, pixels.

    Returns:
        [H, W] float32 of variance 1; the same noise for every picture of a size.
    """
    grey = cv2.cvtColor(image.astype(np.uint8), cv2.COLOR_RGB2GRAY).astype(np.float32)
    gx, gy = cv2.Scharr(grey, -1, 1, 0), cv2.Scharr(grey, -1, 0, 1)
    xx, xy, yy = (cv2.GaussianBlur(product, (0, 0), 2.5) for product in (gx * gx, gx * gy, gy * gy))
    across = 0.5 * np.arctan2(2 * xy, xx - yy)
    along = np.stack([-np.sin(across), np.cos(across)], -1).astype(np.float32)
    noise = np.random.default_rng(0).standard_normal(grey.shape).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), 0.8)
    start = np.stack(np.meshgrid(*(np.arange(n, dtype=np.float32) for n in grey.shape[::-1])), -1)
    total = np.zeros_like(noise)
    for side in (1, -1):
        place, heading = start, side * along
        for _ in range(length):
            total += cv2.remap(noise, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            here = cv2.remap(along, place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            # An edge has no front and no back: go on as before.
            heading = np.where((here * heading).sum(-1, keepdims=True) < 0, -here, here)
            place = place + heading
    return total / total.std()


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
