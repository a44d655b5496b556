"""Turns the head in a portrait a little, by a head's depth as it is on average: another view of the very same photo."""

from __future__ import annotations

import math

import cv2
import numpy as np

from .alignment import similarity_transform
from .facts import yaw_offset
from .templates import portrait_template

# In eyes' distances of an aligned portrait, about 63 mm of a grown-up.
HEAD_DEPTH = 1.2
"""How far the front of the face stands before the axis that heads turn around."""
HALF_WIDTH = 1.75
"""How far from that axis, to either side, depth ends: hair and ears are within, what is behind the head is not."""
NOSE_DEPTH = 0.42
"""How far the nose's tip stands out of that front, where a photo shows it so: in profile, background is beside it."""
NOSE_SPREAD = (0.2, 0.34)
"""Standard deviations of the nose's bump, across and along it."""
TIP_DEPTH = 0.6
"""How far the tip stands before the eyes: what `yaw_offset` is a tangent by."""
LARGEST_TURN = math.radians(35)
"""Beyond it a cheek would have to show what no photo has seen, and pixels would fold."""
APPARENT = 4 / 7
"""How far a turned face looks turned to a network that tells head pose, of how far it was (`tests/test_judges.py`)."""
LEAST_VIEW = math.radians(12)
"""What looks less far to a side hardly passes for a view to that side."""
GOLDEN = 0.6180339887498949
"""The fractional part of the golden ratio, whose multiples lie evenly between whole numbers."""
SPREAD = 2 / 3
"""The power of a share of the largest turn that is taken: the smaller, the fewer pictures turn little."""
GRID = 4
"""Pixels between two places for which the way back is looked for; between them it is interpolated."""


def yaw_angle(landmarks: np.ndarray) -> float:
    """How far a head is turned, in radians, positive towards the picture's right; a rough guess of five landmarks."""
    return math.atan(yaw_offset(landmarks) / TIP_DEPTH)


def yaw_offset_at(angle: np.ndarray) -> np.ndarray:
    """The `yaw_offset` of heads turned by so many radians: what `yaw_angle` inverts."""
    return TIP_DEPTH * np.tan(angle)


def varied_turn(yaw: float, turn: float) -> float:
    """A turn that leaves a head where a photo can show it: the one asked for, or the same towards the front.

    Args:
        yaw: where the head looks, radians (`yaw_angle`).
        turn: radians, positive towards the picture's right.
    """
    return turn if abs(yaw + turn) <= LARGEST_TURN else -math.copysign(turn, yaw)


def head_towards(portrait: np.ndarray, landmarks: np.ndarray, view: float, margin: int = 0) -> np.ndarray:
    """The portrait as if its head looked to a side, or as far there as `turned_head` goes.

    Of a head that looks so far to the other side that it would not come to `LEAST_VIEW`, the mirror image is turned.

    Args:
        portrait: as in `turned_head`.
        landmarks: as there.
        view: where to, radians, positive towards the picture's right.
        margin: as there.

    Returns:
        [s, s, 3] uint8.
    """
    if math.copysign(1, view) * yaw_angle(landmarks) + APPARENT * LARGEST_TURN < LEAST_VIEW:
        portrait = np.ascontiguousarray(portrait[:, ::-1])
        landmarks = mirrored_landmarks(landmarks, portrait.shape[0] - 2 * margin)
    return turned_head(portrait, landmarks, (view - yaw_angle(landmarks)) / APPARENT, margin)


def mirrored_landmarks(landmarks: np.ndarray, size: int) -> np.ndarray:
    """Where the five points [5, 2] are in the mirror image of a square picture."""
    return np.array([size - 1, 0]) + landmarks[[1, 0, 2, 4, 3]] * np.array([-1, 1])


def turn_of_seed(seed: int, variation: float) -> float:
    """By how many radians the reference of the picture with a seed is turned (`turnOfSeed` of pipeline/turned_head.ts).

    Args:
        seed: of the picture; neighbours, which pictures of one request have, turn far apart, and most turn far.
        variation: how far heads are to look turned at most, degrees.
    """
    share = math.sin(math.pi * ((0.5 + seed * GOLDEN) % 1 - 0.5))
    return math.copysign(abs(share) ** SPREAD, share) * variation / APPARENT * math.pi / 180


def turned_head(portrait: np.ndarray, landmarks: np.ndarray, angle: float, margin: int = 0) -> np.ndarray:
    """The portrait as if the head had been turned, aligned again as portraits are.

    Every pixel moves across as a point of its depth does when the head turns: the front of the face more than its
    sides, the nose more than the front, the background not at all. Good enough to be a reference, whose features are to
    be found at another place than in the picture to be drawn; too rough to be drawn itself.

    Args:
        portrait: [s + 2 margin, s + 2 margin, 3] uint8, aligned, with what is beside the portrait.
        landmarks: [5, 2] where its five points are, pixels of the portrait within the margins.
        angle: radians, positive towards the picture's right; at most `LARGEST_TURN` of it is made.
        margin: pixels on each side, of which a turned head shows some; beyond, the picture is mirrored.

    Returns:
        [s, s, 3] uint8.
    """
    size = portrait.shape[0] - 2 * margin
    angle = float(np.clip(angle, -LARGEST_TURN, LARGEST_TURN))
    template = portrait_template(size)
    unit = float(np.linalg.norm(template[1] - template[0]))
    axis = (size - 1) / 2 - HEAD_DEPTH * unit * math.sin(yaw_angle(landmarks))
    nose, nose_depth = landmarks[2], NOSE_DEPTH * max(0.0, 1 - (yaw_angle(landmarks) / LARGEST_TURN) ** 2)

    def moved(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Where points of the portrait are after the turn, across."""
        across = (x - axis) / unit
        depth = HEAD_DEPTH * np.cos(np.clip(across / HALF_WIDTH, -1, 1) * (math.pi / 2))
        # A skull is round upwards too, and shoulders stay.
        depth *= np.clip(1.25 - np.abs(y - 0.52 * size) / (0.62 * size), 0, 1)
        bump = ((x - nose[0]) / (NOSE_SPREAD[0] * unit)) ** 2 + ((y - nose[1]) / (NOSE_SPREAD[1] * unit)) ** 2
        depth += nose_depth * np.exp(-bump / 2)
        inside = depth / (HEAD_DEPTH + nose_depth)
        return x + unit * (depth * math.sin(angle) - inside * across * (1 - math.cos(angle)))

    points = np.stack([moved(landmarks[:, 0], landmarks[:, 1]), landmarks[:, 1]], axis=1)
    back = cv2.invertAffineTransform(similarity_transform(points, template))
    v, u = np.mgrid[0 : size - 1 + GRID : GRID, 0 : size - 1 + GRID : GRID].astype(np.float64)
    x, y = (back[i, 0] * u + back[i, 1] * v + back[i, 2] for i in (0, 1))
    # The way back of `moved` has no formula; each round comes nearer, for nothing folds.
    source = x.copy()
    for _ in range(8):
        source += x - moved(source, y)
    maps = ((_between(_between(nodes, size).T, size).T + margin).astype(np.float32) for nodes in (source, y))
    return cv2.remap(portrait, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _between(nodes: np.ndarray, size: int) -> np.ndarray:
    """Values at every pixel of the first axis, of those at every `GRID`-th: linear between two of them."""
    near, far = np.divmod(np.arange(size), GRID)
    share = (far / GRID)[:, None]
    return nodes[near] * (1 - share) + nodes[np.minimum(near + 1, len(nodes) - 1)] * share
