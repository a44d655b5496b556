"""Where the head points: two FSA-Nets, averaged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from ..data.alignment import crop_square
from .face_judge import open_session

INPUT_SIZE, FACE_SIZES = 64, 1.35


class HeadPose:
    """FSA-Net (Yang et al. 2019), the 1x1 and the var model of `data/evaluators`."""

    def __init__(self, evaluators: Path) -> None:
        """Loads both networks."""
        self.sessions = [open_session(evaluators / f"head_pose_fsanet_{kind}.onnx") for kind in ("1x1", "var")]

    def angles(self, picture: np.ndarray, box: np.ndarray) -> np.ndarray:
        """Yaw, pitch and roll in degrees, [3]; yaw is negative where the face looks to the picture's left.

        Args:
            picture: [h, w, 3] uint8 RGB.
            box: x, y, width, height of the face.
        """
        middle = (box[0] + box[2] / 2, box[1] + box[3] / 2)
        face = crop_square(picture, middle, FACE_SIZES * max(box[2:]), INPUT_SIZE)
        pixels = (cv2.cvtColor(face, cv2.COLOR_RGB2BGR).astype(np.float32) - 127.5) / 128
        pixels = pixels.transpose(2, 0, 1)[None]
        angles = np.mean([session.run(None, {"input": pixels})[0][0] for session in self.sessions], axis=0)
        # FSA-Net's yaw grows towards the picture's left.
        return angles * np.array([-1, 1, 1])
