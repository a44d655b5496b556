"""The emotion classifier of the npm package ``@vladmandic/human``: a small Xception of grey faces, 205,000 weights.

Serves training alone: the loss of what captions tell of an expression looks through it. What judges portraits
(`judges.expression`) is another network.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..quantized import Stored, to_float32
from .frozen import FrozenModel, SamePadConv2d, SeparableConv, as_filters
from .registry import HUMAN, load_weights

CLASSES = ("angry", "disgusted", "afraid", "smiling", "sad", "surprised", "neutral")
"""The network's classes in its order, under this project's names."""

WINDOW = (10, 8, 129)
"""Left, top and side of what it sees of the recogniser's 150 x 150 chip. It then agrees with 43 % of LFW's labels of
emotions (700 training photos; the labels are a classifier's too), and the area under the curve of "smiling" is 0.96."""


class Block(nn.Module):
    """Two separable convolutions and a maximum over 3 x 3, beside a 1 x 1 convolution; halves the resolution."""

    def __init__(self, width_in: int, width_out: int) -> None:
        """Makes the block."""
        super().__init__()
        self.beside = nn.Conv2d(width_in, width_out, 1, stride=2)
        self.first, self.second = SeparableConv(width_in, width_out), SeparableConv(width_out, width_out)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width_in, h, w] -> [n, width_out, ceil(h / 2), ceil(w / 2)]."""
        y = self.second(functional.relu(self.first(functional.relu(x))))
        # TensorFlow's "same": of an even side the first row and column are not padded.
        left, top = (side % 2 for side in (y.shape[3], y.shape[2]))
        y = functional.max_pool2d(functional.pad(y, (left, 1, top, 1), value=-torch.inf), 3, 2)
        return y + self.beside(x)


class EmotionClassifier(FrozenModel):
    """Faces as `FaceRecognizer` takes them, RGB [n, 3, 150, 150] in [0, 1] -> logits of `CLASSES` [n, 7]."""

    input_size: ClassVar[int] = 64

    def __init__(self) -> None:
        """Makes the network with random weights; use ``from_package``."""
        super().__init__()
        self.stem1, self.stem2 = nn.Conv2d(1, 32, 3, stride=2), nn.Conv2d(32, 64, 3)
        self.blocks = nn.ModuleList([Block(64, 128), Block(128, 256)])
        self.head = SamePadConv2d(256, len(CLASSES), 3)

    @classmethod
    def stored_tensors(cls, cache: Path | None = None) -> dict[str, Stored]:
        """The package's weights under this module's names."""
        weights = load_weights("emotion", cache, HUMAN)
        graph = "StatefulPartitionedCall/model_1"
        tensors: dict[str, Stored] = {}

        def take(target: str, source: str, bias: str) -> None:
            tensors[f"{target}.weight"] = as_filters(weights[source])
            tensors[f"{target}.bias"] = to_float32(weights[bias])

        folded = {
            "stem1": "conv2d_1/Conv2D",
            "stem2": "conv2d_2/Conv2D",
            "blocks.0.beside": "conv2d_3/Conv2D",
            "blocks.1.beside": "conv2d_4/Conv2D",
            "blocks.0.first.pointwise": "separable_conv2d_1/separable_conv2d",
            "blocks.0.second.pointwise": "separable_conv2d_2/separable_conv2d",
            "blocks.1.first.pointwise": "separable_conv2d_3/separable_conv2d",
            "blocks.1.second.pointwise": "separable_conv2d_4/separable_conv2d",
        }
        for target, source in folded.items():
            take(target, f"{graph}/{source}_weights", f"{graph}/{source}_bn_offset")
        take("head", "unknown_43", "unknown_44")
        depthwise = {"blocks.0.first": 9, "blocks.0.second": 15, "blocks.1.first": 26, "blocks.1.second": 32}
        for target, number in depthwise.items():
            tensors[f"{target}.depthwise.weight"] = as_filters(weights[f"unknown_{number}"], depthwise=True)
        return tensors

    def forward(self, faces: Tensor) -> Tensor:
        """Classifies."""
        left, top, side = WINDOW
        window = faces.float()[..., top : top + side, left : left + side]
        red, green, blue = window.split(1, dim=1)
        # As the package makes faces grey: ITU-R BT.601.
        grey = 0.2989 * red + 0.587 * green + 0.114 * blue
        size = (self.input_size, self.input_size)
        x = functional.interpolate(grey, size, mode="bilinear", antialias=True, align_corners=False)
        x = functional.relu(self.stem2(functional.relu(self.stem1(2 * x - 1))))
        for block in self.blocks:
            x = block(x)
        return self.head(x).float().mean((2, 3))
