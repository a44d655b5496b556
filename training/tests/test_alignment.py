"""The alignment rule, against a slow and plain version of its docstring."""

import math

import numpy as np
import pytest

from idadapter.data.alignment import (
    align_face,
    crop_square,
    similarity_transform,
    warp_similarity,
)
from idadapter.data.templates import PORTRAIT_TEMPLATE


def similarity(scale: float, degrees: float, x: float, y: float) -> np.ndarray:
    a, b = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[a, -b, x], [b, a, y]])


def plain_warp(image: np.ndarray, transform: np.ndarray, size: int) -> np.ndarray:
    scale = math.hypot(transform[0, 0], transform[1, 0])
    factor = max(1, math.floor(1 / scale + 1e-9))
    rows, columns = math.ceil(image.shape[0] / factor), math.ceil(image.shape[1] / factor)
    small = np.zeros((rows, columns, 3))
    for row in range(rows):
        for column in range(columns):
            for channel in range(3):
                total = 0
                for y in range(row * factor, row * factor + factor):
                    for x in range(column * factor, column * factor + factor):
                        total += int(image[min(y, image.shape[0] - 1), min(x, image.shape[1] - 1), channel])
                small[row, column, channel] = (2 * total + factor**2) // (2 * factor**2)
    inverse = np.linalg.inv(np.vstack([transform, [0, 0, 1]]))
    result = np.zeros((size, size, 3))
    for v in range(size):
        for u in range(size):
            x, y, _ = inverse @ [u, v, 1]
            x, y = (x - (factor - 1) / 2) / factor, (y - (factor - 1) / 2) / factor
            left, top = math.floor(x), math.floor(y)
            for dy, wy in ((0, top + 1 - y), (1, y - top)):
                for dx, wx in ((0, left + 1 - x), (1, x - left)):
                    row, column = np.clip(top + dy, 0, rows - 1), np.clip(left + dx, 0, columns - 1)
                    result[v, u] += wx * wy * small[row, column]
    return result


def test_similarity_is_recovered_and_is_the_least_squares_one():
    random = np.random.default_rng(1)
    points = random.uniform(0, 200, (5, 2))
    wanted = similarity(0.37, 25, -12, 40)
    exact = points @ wanted[:, :2].T + wanted[:, 2]
    np.testing.assert_allclose(similarity_transform(points, exact), wanted, atol=1e-10)

    template = exact + random.normal(0, 4, (5, 2))
    a, b, x, y = 0, 1, 2, 3
    rows = np.zeros((10, 4))
    rows[0::2, a], rows[0::2, b], rows[0::2, x] = points[:, 0], -points[:, 1], 1
    rows[1::2, a], rows[1::2, b], rows[1::2, y] = points[:, 1], points[:, 0], 1
    solved = np.linalg.lstsq(rows, template.reshape(-1), rcond=None)[0]
    found = similarity_transform(points, template)
    np.testing.assert_allclose(found, [[solved[a], -solved[b], solved[x]], [solved[b], solved[a], solved[y]]])


@pytest.mark.parametrize("points", [np.ones((5, 2)), np.ones((4, 2))])
def test_coinciding_or_missing_points_are_refused(points: np.ndarray):
    with pytest.raises(ValueError):
        similarity_transform(points, PORTRAIT_TEMPLATE)


@pytest.mark.parametrize(("scale", "degrees"), [(1.7, 10), (0.8, -30), (0.5, 0), (0.21, 15)])
def test_warp_follows_its_rule(scale: float, degrees: float):
    random = np.random.default_rng(2)
    image = random.integers(0, 256, (45, 61, 3)).astype(np.uint8)
    transform = similarity(scale, degrees, 3.3, -1.2)
    difference = np.abs(warp_similarity(image, transform, 20) - plain_warp(image, transform, 20))
    # Half a level is rounding; the rest leaves room for OpenCV's single precision.
    assert difference.max() < 0.51


def test_shrinking_does_not_alias():
    checkers = np.indices((200, 200)).sum(0) % 2 * 255
    photo = np.repeat(checkers[:, :, None], 3, axis=2).astype(np.uint8)
    points = PORTRAIT_TEMPLATE * 4
    assert np.unique(align_face(photo, points, PORTRAIT_TEMPLATE, 128)[5:40, 5:40]).tolist() == [128]


def test_crop_of_the_whole_photo_is_the_photo():
    photo = np.random.default_rng(3).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    np.testing.assert_array_equal(crop_square(photo, (16, 16), 32, 32), photo)
    np.testing.assert_array_equal(crop_square(photo, (8, 24), 16, 16), photo[16:, :16])
