"""Where the five landmarks stand in each aligned crop.

Points are in the order right eye, left eye, nose, right mouth corner, left mouth corner (the person's own right and
left), in pixels with the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

import numpy as np

ARCFACE_TEMPLATE = np.array(
    [[38.29, 51.70], [73.53, 51.50], [56.03, 71.74], [41.55, 92.37], [70.73, 92.20]], dtype=np.float64
)
"""ArcFace's five points in its 112 x 112 crop (Deng et al. 2019)."""


def scaled_template(size: int, eye_distance: float, eye_y: float) -> np.ndarray:
    """ArcFace's template at another scale and height, the eyes centred across.

    Args:
        size: side of the square crop, pixels.
        eye_distance: distance between the eyes, pixels.
        eye_y: height of the eyes below the crop's upper edge, pixels.

    Returns:
        [5, 2] points in pixels.
    """
    right_eye, left_eye = ARCFACE_TEMPLATE[0], ARCFACE_TEMPLATE[1]
    middle = (right_eye + left_eye) / 2
    scale = eye_distance / np.linalg.norm(left_eye - right_eye)
    return (ARCFACE_TEMPLATE - middle) * scale + np.array([(size - 1) / 2, eye_y])


PORTRAIT_SIZE = 128
"""Side of the mini model's portraits, pixels."""

PORTRAIT_TEMPLATE = scaled_template(PORTRAIT_SIZE, eye_distance=36.0, eye_y=58.0)
"""Where faces stand in the mini model's portraits."""


def portrait_template(size: int) -> np.ndarray:
    """Where faces stand in portraits of any size, which all show the same: [5, 2] pixels."""
    if size == PORTRAIT_SIZE:
        return PORTRAIT_TEMPLATE
    return (PORTRAIT_TEMPLATE + 0.5) * (size / PORTRAIT_SIZE) - 0.5
