"""dlib's face recognition network (ResNet with 27 convolutions, 128 numbers a face), as packaged by face-api."""

import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from idadapter.faces.frozen import FrozenModel, as_filters, subtract_mean
from idadapter.faces.registry import load_weights
from idadapter.quantized import Stored, to_float32

TEMPLATE = np.array([[47.6, 46.6], [100.5, 46.6], [74.0, 76.6], [50.4, 103.0], [97.6, 103.0]])
"""Where the five points (right eye, left eye, nose, right and left mouth corner) stand in the 150 x 150 input."""

MEAN_EMBEDDING_FILE = Path(__file__).with_name("mean_embedding.json")

# The package's names of the residual blocks, a row a stage; the first block of each stage but the first halves
# the resolution.
STAGES = (
    ("conv32_1", "conv32_2", "conv32_3"),
    ("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    ("conv128_down", "conv128_1", "conv128_2"),
    ("conv256_down", "conv256_1", "conv256_2"),
    ("conv256_down_out",),
)
WIDTHS = (32, 64, 128, 256, 256)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut; a halving block's shortcut is a 2 x 2 average, padded with zeros."""

    def __init__(self, width_in: int, width_out: int, halve: bool) -> None:
        """Makes a block from ``width_in`` to ``width_out`` channels."""
        super().__init__()
        self.halve = halve
        self.conv1 = nn.Conv2d(width_in, width_out, 3, stride=2 if halve else 1, padding=0 if halve else 1)
        self.conv2 = nn.Conv2d(width_out, width_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width_in, h, w] -> [n, width_out, h', w'], h' = h, or about h / 2 in a halving block."""
        y = self.conv2(functional.relu(self.conv1(x)))
        if self.halve:
            x = functional.avg_pool2d(x, 2)
            channels = y.shape[1] - x.shape[1]
            if channels > 0:
                x = functional.pad(x, (0, 0, 0, 0, 0, channels))
            # An unpadded convolution loses a pixel against the average where the side is even.
            y = functional.pad(y, (0, x.shape[3] - y.shape[3], 0, x.shape[2] - y.shape[2]))
        return functional.relu(x + y)


class FaceRecognizer(FrozenModel):
    """Face -> unit-length embedding (f_a of the paper). Differentiable with respect to the faces.

    Faces are RGB [n, 3, 150, 150] in [0, 1], aligned to ``TEMPLATE``. The raw network's outputs share a large
    common part, so the mean over the training faces (``mean_embedding``) is subtracted before normalising.
    """

    input_size: ClassVar[int] = 150
    embedding_size: ClassVar[int] = 128

    mean_rgb: Tensor
    mean_embedding: Tensor

    def __init__(self) -> None:
        """Makes the network with random weights; use ``from_package`` or ``from_folder``."""
        super().__init__()
        self.stem = nn.Conv2d(3, WIDTHS[0], 7, stride=2)
        self.stages = nn.ModuleList()
        width = WIDTHS[0]
        for index, (names, width_out) in enumerate(zip(STAGES, WIDTHS, strict=True)):
            blocks = []
            for position in range(len(names)):
                blocks.append(ResidualBlock(width, width_out, halve=position == 0 and index > 0))
                width = width_out
            self.stages.append(nn.Sequential(*blocks))
        self.head = nn.Linear(width, self.embedding_size, bias=False)
        self.register_buffer("mean_rgb", torch.tensor([122.782, 117.001, 104.298]), persistent=False)
        self.register_buffer("mean_embedding", torch.zeros(self.embedding_size))

    @classmethod
    def stored_tensors(cls, cache: Path | None = None) -> dict[str, Stored]:
        """The package's weights; each convolution's affine layer is folded into its filters' scale and its bias."""
        weights = load_weights("face_recognition_model", cache)
        tensors = _folded("stem", "conv32_down", weights)
        for index, names in enumerate(STAGES):
            for position, name in enumerate(names):
                for conv in ("conv1", "conv2"):
                    tensors |= _folded(f"stages.{index}.{position}.{conv}", f"{name}/{conv}", weights)
        head = weights["fc"]
        tensors["head.weight"] = head.transpose(1, 0)
        tensors["mean_embedding"] = np.array(json.loads(MEAN_EMBEDDING_FILE.read_text()), np.float32)
        return tensors

    def features(self, faces: Tensor) -> list[Tensor]:
        """Features for a perceptual loss, after the first four stages.

        Returns:
            [n, 32, 35, 35], [n, 64, 17, 17], [n, 128, 8, 8] and [n, 256, 4, 4], all after a ReLU.
        """
        x = functional.relu(self.stem(subtract_mean(faces, self.mean_rgb)))
        x = functional.max_pool2d(x, 3, 2)
        found = []
        for stage in self.stages[:4]:
            x = stage(x)
            found.append(x)
        return found

    def raw_embedding(self, features: list[Tensor]) -> Tensor:
        """The network's own output [n, 128], before subtraction and normalisation, in float32."""
        x = self.stages[4](features[-1]).float().mean((2, 3))
        # What tells people apart is a small difference of large numbers: bfloat16 would lose it here.
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                return self.head(x)
        return self.head(x)

    def embed(self, features: list[Tensor]) -> Tensor:
        """The embedding [n, 128] from what :meth:`features` gave, so that one pass serves both losses."""
        return functional.normalize(self.raw_embedding(features) - self.mean_embedding, dim=1)

    def forward(self, faces: Tensor) -> Tensor:
        """RGB faces [n, 3, 150, 150] in [0, 1] -> embeddings [n, 128] of length 1."""
        return self.embed(self.features(faces))


def _folded(target: str, source: str, weights: dict[str, Stored]) -> dict[str, Stored]:
    """The convolution ``source`` and the affine layer after it as one convolution named ``target``."""
    filters = as_filters(weights[f"{source}/conv/filters"])
    factor = to_float32(weights[f"{source}/scale/weights"])
    bias = to_float32(weights[f"{source}/conv/bias"]) * factor + to_float32(weights[f"{source}/scale/biases"])
    by_output = factor.reshape(-1, 1, 1, 1)
    if isinstance(filters, np.ndarray):
        # The package keeps these eight in float32; half precision is far finer than its other weights' bytes.
        return {f"{target}.weight": (filters * by_output).astype(np.float16), f"{target}.bias": bias}
    return {f"{target}.weight": filters.times(by_output), f"{target}.bias": bias}
