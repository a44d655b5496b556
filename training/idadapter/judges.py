"""The independent judges of `data/evaluators`: for measuring only, nothing the product conditions on."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from .data.alignment import align_face
from .data.templates import ARCFACE_TEMPLATE


class FaceFinder:
    """YuNet by OpenCV."""

    def __init__(self, evaluators: Path, threshold: float = 0.5) -> None:
        """Loads the detector; scores below `threshold` do not count."""
        self.detector = cv2.FaceDetectorYN.create(
            str(evaluators / "face_detector_yunet.onnx"), "", (128, 128), threshold
        )

    def landmarks(self, picture: np.ndarray) -> np.ndarray | None:
        """Five landmarks [5, 2] of the surest face of [h, w, 3] uint8 RGB, or None where there is no face."""
        self.detector.setInputSize((picture.shape[1], picture.shape[0]))
        _, faces = self.detector.detect(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
        if faces is None or not len(faces):
            return None
        return faces[faces[:, -1].argmax(), 4:14].reshape(5, 2).astype(np.float64)


class FaceJudge:
    """MobileFaceNet: embeddings, and the features realism is measured with."""

    def __init__(self, evaluators: Path) -> None:
        """Loads the recogniser."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(evaluators / "mobilefacenet.onnx"), options, providers=["CPUExecutionProvider"]
        )

    def run(self, picture: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit-length embedding [128], and the 640 numbers of realism (data/README.md), of one face."""
        face = align_face(picture, landmarks, ARCFACE_TEMPLATE, 112)
        pixels = face.astype(np.float32).transpose(2, 0, 1)[None] / 255
        names = ["embedding", "features_14", "features_28"]
        embedding, fourteen, twenty_eight = self.session.run(names, {"face": pixels})
        quarters = fourteen[0].reshape(128, 2, 7, 2, 7).mean((2, 4)).reshape(-1)
        moments = np.concatenate([twenty_eight[0].mean((1, 2)), twenty_eight[0].std((1, 2))])
        return embedding[0], np.concatenate([quarters, moments])


def kernel_distance(real: np.ndarray, made: np.ndarray, scale: np.ndarray | None = None) -> float:
    """Unbiased squared maximum mean discrepancy with k(x, y) = (x.y / d + 1)^3 (KID, Binkowski et al. 2018).

    Args:
        real: [n, d] features of real photos.
        made: [m, d] features of the pictures to judge.
        scale: [k, d] photos that features are standardised by; `real` by default.
    """
    base = real if scale is None else scale
    mean, deviation = base.mean(0), base.std(0) + 1e-6
    x, y = (real - mean) / deviation, (made - mean) / deviation

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    xx, yy = kernel(x, x), kernel(y, y)
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * kernel(x, y).mean())
