"""Whose face it is, and what it is made of: MobileFaceNet."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime

from ..data.alignment import align_face
from ..data.templates import ARCFACE_TEMPLATE

INPUT_SIZE = 112


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """An ONNX Runtime session of one thread, so that sums have one order."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class FaceJudge:
    """MobileFaceNet: embeddings, the features realism is measured with, and features of whole portraits."""

    def __init__(self, evaluators: Path) -> None:
        """Loads the recogniser."""
        self.session = open_session(evaluators / "mobilefacenet.onnx")

    def run(self, picture: np.ndarray, landmarks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Unit-length embedding [128], and the 640 numbers of realism (data/README.md), of one face."""
        face = align_face(picture, landmarks, ARCFACE_TEMPLATE, INPUT_SIZE)
        embedding, fourteen, twenty_eight = self.session.run(
            ["embedding", "features_14", "features_28"], {"face": _pixels(face)}
        )
        quarters = fourteen[0].reshape(128, 2, 7, 2, 7).mean((2, 4)).reshape(-1)
        moments = np.concatenate([twenty_eight[0].mean((1, 2)), twenty_eight[0].std((1, 2))])
        return embedding[0], np.concatenate([quarters, moments])

    def portrait_features(self, portrait: np.ndarray) -> np.ndarray:
        """What the network's middle sees of a whole square portrait, hair and hat included: [6408] float32.

        `features_14` averaged over 2 x 2 squares, `features_28`'s mean and deviation a channel, and the mean and
        deviation of the three colours and of the spread between them.
        """
        face = cv2.resize(portrait, (INPUT_SIZE, INPUT_SIZE), interpolation=cv2.INTER_AREA)
        pixels = _pixels(face)
        fourteen, twenty_eight = self.session.run(["features_14", "features_28"], {"face": pixels})
        pooled = fourteen[0].reshape(128, 7, 2, 7, 2).mean((2, 4)).reshape(-1)
        colours = np.concatenate([pixels[0], np.ptp(pixels[0], axis=0, keepdims=True)])
        moments = [moment((1, 2)) for maps in (twenty_eight[0], colours) for moment in (maps.mean, maps.std)]
        return np.concatenate([pooled, *moments]).astype(np.float32)


def _pixels(face: np.ndarray) -> np.ndarray:
    return face.astype(np.float32).transpose(2, 0, 1)[None] / 255
