"""Aligns faces: the least-squares similarity from five points, and the warp that does not alias."""

import math

import cv2
import numpy as np


def similarity_transform(points: np.ndarray, template: np.ndarray) -> np.ndarray:
    """The least-squares similarity (rotation, one scale, translation) from ``points`` to ``template``.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns" (1991), in two
    dimensions, where the rotation without reflection has a closed form. With both sets centred, p and t, and
    a = sum(p.x t.x + p.y t.y) / sum(|p|^2), b = sum(p.x t.y - p.y t.x) / sum(|p|^2), the matrix is
    [[a, -b, u], [b, a, v]], and (u, v) takes the mean of the points to the mean of the template.

    Args:
        points: [k, 2] (x, y) in photo pixels, k >= 2.
        template: [k, 2] where they belong, in template pixels.

    Returns:
        [2, 3] float64: template = M @ (x, y, 1). Its scale is sqrt(a^2 + b^2) template pixels a photo pixel.

    Raises:
        ValueError: the shapes differ, or all points coincide.
    """
    source, target = np.asarray(points, np.float64), np.asarray(template, np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 2:
        raise ValueError(f"points {source.shape} and template {target.shape} must both be [k, 2]")
    source_mean, target_mean = source.mean(0), target.mean(0)
    p, t = source - source_mean, target - target_mean
    spread = float((p * p).sum())
    if spread < 1e-12:
        raise ValueError("all points coincide")
    a = float((p * t).sum()) / spread
    b = float((p[:, 0] * t[:, 1] - p[:, 1] * t[:, 0]).sum()) / spread
    linear = np.array([[a, -b], [b, a]])
    return np.concatenate([linear, (target_mean - linear @ source_mean)[:, None]], axis=1)


def align_face(image: np.ndarray, points: np.ndarray, template: np.ndarray, size: int) -> np.ndarray:
    """The face warped so that its ``points`` stand at ``template``: `similarity_transform`, then `warp_similarity`.

    Args:
        image: [height, width, 3] uint8, RGB or any other order.
        points: [5, 2] (x, y) in photo pixels.
        template: [5, 2] (x, y) in output pixels.
        size: side of the output.

    Returns:
        [size, size, 3] uint8.

    Raises:
        ValueError: the points coincide.
    """
    return warp_similarity(image, similarity_transform(points, template), size)


def crop_square(image: np.ndarray, center: tuple[float, float], side: float, size: int) -> np.ndarray:
    """The upright square of ``side`` photo pixels about ``center``, resized by `warp_similarity`.

    Args:
        image: [height, width, 3] uint8.
        center: (x, y) in pixel-edge coordinates: the photo's left edge is 0, its right edge is its width.
        side: of the square, which may reach beyond the photo.
        size: side of the output.

    Returns:
        [size, size, 3] uint8. A point at (u, v) of 0..1 of the output is at center + ((u, v) - 1/2) * side.
    """
    scale = size / side
    offset = [size / 2 - scale * (value - 0.5) - 0.5 for value in center]
    return warp_similarity(image, np.array([[scale, 0, offset[0]], [0, scale, offset[1]]]), size)


def warp_similarity(image: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    """The photo under a similarity M, shrunk by area averaging first so that nothing aliases.

    The rule, exact, for other languages to follow (pixel centres are at whole numbers):

    1. s = sqrt(M[0,0]^2 + M[1,0]^2), output pixels a photo pixel; f = floor(1 / s + 1e-9).
    2. If f >= 2, the photo is padded at the right and bottom by repeating its last column and row until both sides
       are multiples of f, and each f x f square becomes its mean in integers, floor((2 sum + f^2) / (2 f^2)). Photo
       pixel p is now at (p - (f - 1) / 2) / f, so M's linear part L becomes f L, its translation t becomes
       t + L ((f - 1) / 2, (f - 1) / 2).
    3. Output pixel (u, v) is the photo at M^-1 (u, v), interpolated bilinearly among the four nearest pixels and
       rounded to the nearest byte; outside the photo the nearest edge pixel counts. (OpenCV 5 does exactly this;
       OpenCV 4 works on a grid of 1/32 pixel and differs by a few levels at sharp edges.)

    Args:
        image: [height, width, 3] uint8.
        transform: [2, 3], from photo to output pixels; rotation, one scale, translation.
        size: side of the output.

    Returns:
        [size, size, 3] uint8.
    """
    linear, translation = transform[:, :2], transform[:, 2]
    factor = math.floor(1 / math.hypot(linear[0, 0], linear[1, 0]) + 1e-9)
    if factor >= 2:
        image = reduce_area(image, factor)
        translation = translation + linear @ np.full(2, (factor - 1) / 2)
        linear = linear * factor
    matrix = np.concatenate([linear, translation[:, None]], axis=1)
    return cv2.warpAffine(
        np.ascontiguousarray(image), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def reduce_area(image: np.ndarray, factor: int) -> np.ndarray:
    """The photo [h, w, c] uint8, each ``factor`` x ``factor`` square averaged: [ceil(h/f), ceil(w/f), c]."""
    height, width, channels = image.shape
    rows, columns = -(-height // factor), -(-width // factor)
    padded = np.pad(image, ((0, rows * factor - height), (0, columns * factor - width), (0, 0)), mode="edge")
    squares = padded.reshape(rows, factor, columns, factor, channels)
    area = factor * factor
    return ((2 * squares.sum((1, 3), dtype=np.int64) + area) // (2 * area)).astype(np.uint8)
