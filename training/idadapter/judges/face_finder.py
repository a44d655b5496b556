"""Finds the face in a picture: YuNet, by OpenCV."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np


@dataclass(frozen=True)
class FoundFace:
    """A face: box (x, y, width, height) [4] and five landmarks [5, 2], in the picture's pixels."""

    box: np.ndarray
    landmarks: np.ndarray


class FaceFinder:
    """YuNet by OpenCV."""

    def __init__(self, evaluators: Path, threshold: float = 0.5) -> None:
        """Loads the detector; scores below `threshold` do not count."""
        self.detector = cv2.FaceDetectorYN.create(
            str(evaluators / "face_detector_yunet.onnx"), "", (128, 128), threshold
        )

    def find(self, picture: np.ndarray) -> FoundFace | None:
        """The surest face of [h, w, 3] uint8 RGB, or None where there is no face."""
        self.detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, faces = self.detector.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if faces is None or not len(faces):
            return None
        surest = faces[faces[:, -1].argmax()].astype(np.float64)
        return FoundFace(surest[:4], surest[4:14].reshape(5, 2))
