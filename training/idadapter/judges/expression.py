"""Which expression a face has: face-api's seven classes. For judging only; no bundle holds this network."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..data.alignment import crop_square
from ..faces.frozen import FrozenModel, subtract_mean
from ..faces.landmarks import WIDTHS, DenseBlock, stored_blocks
from ..faces.registry import load_weights
from ..quantized import Stored, to_float32

EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
"""The classes, in the network's order."""

CROP_SIDE = 2.2
"""Side of the upright crop in sizes of `face_square`. Measured on 500 training photos of CelebA, area under the curve
of "happy" against the label Smiling: 1.8 0.946, 2.0 0.960, 2.2 0.966, 2.6 0.963, 3.0 0.955, 3.4 0.946."""

SMILING_ABOVE = 0.65
"""The probability of "happy" that counts as smiling: agrees with the label in 92 of 100 of those photos."""


class ExpressionClassifier(FrozenModel):
    """Face crops RGB [n, 3, 112, 112] in [0, 1] -> probabilities of `EXPRESSIONS` [n, 7]."""

    input_size: ClassVar[int] = 112

    mean_rgb: Tensor

    def __init__(self) -> None:
        """Makes the network with random weights; use `from_package`."""
        super().__init__()
        widths = (3, *WIDTHS)
        self.blocks = nn.ModuleList(
            DenseBlock(a, b, first=index == 0) for index, (a, b) in enumerate(zip(widths, WIDTHS, strict=False))
        )
        self.head = nn.Linear(WIDTHS[-1], len(EXPRESSIONS))
        self.register_buffer("mean_rgb", torch.tensor([122.782, 117.001, 104.298]), persistent=False)

    @classmethod
    def stored_tensors(cls, cache: Path | None = None) -> dict[str, Stored]:
        """The package's weights under this module's names."""
        weights = load_weights("face_expression_model", cache)
        tensors = stored_blocks(weights)
        tensors["head.weight"] = weights["fc/weights"].transpose(1, 0)
        tensors["head.bias"] = to_float32(weights["fc/bias"])
        return tensors

    def forward(self, faces: Tensor) -> Tensor:
        """Classifies."""
        x = subtract_mean(faces, self.mean_rgb)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3))).float().softmax(1)


def face_square(landmarks: np.ndarray) -> tuple[tuple[float, float], float]:
    """Middle and size of a face from five points [5, 2]; a head turned aside keeps its size.

    The size is the distance of the eyes or, where a turn shortens it, 1.1 times the way from the eyes to the mouth.
    """
    eyes, mouth = landmarks[:2].mean(0), landmarks[3:].mean(0)
    middle = (eyes + mouth) / 2
    size = max(np.linalg.norm(landmarks[1] - landmarks[0]), 1.1 * np.linalg.norm(mouth - eyes))
    return (float(middle[0]) + 0.5, float(middle[1]) + 0.5), float(size)


class ExpressionJudge:
    """The classifier on the faces of pictures."""

    def __init__(self, cache: Path | None = None) -> None:
        """Loads the network from the pinned npm package (downloaded into `cache` if missing)."""
        self.model = ExpressionClassifier.from_package(cache)

    @torch.inference_mode()
    def probabilities(self, picture: np.ndarray, landmarks: np.ndarray, side: float = CROP_SIDE) -> np.ndarray:
        """Probabilities of `EXPRESSIONS` [7], the mean of the face and its mirror image.

        Args:
            picture: [h, w, 3] uint8 RGB.
            landmarks: [5, 2].
            side: of the crop, in sizes of `face_square`.
        """
        middle, size = face_square(landmarks)
        face = crop_square(picture, middle, side * size, self.model.input_size)
        both = torch.from_numpy(np.stack([face, face[:, ::-1]])).permute(0, 3, 1, 2).float() / 255
        return self.model(both).mean(0).numpy()
