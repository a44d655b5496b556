"""HSE-FaceRes of the npm package ``@vladmandic/human``: a MobileNet that was trained to tell faces of VGGFace2 apart
(https://github.com/HSE-asavchenko/HSE_FaceRec_tf, says the package).

Serves training alone: a second opinion of who a portrait shows. What the model conditions on, and is held to first, is
`faces.recognizer`; what judges portraits is a third network.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..quantized import Stored, to_float32
from .frozen import FrozenModel, SamePadConv2d, as_filters
from .recognizer import TEMPLATE as RECOGNIZER_TEMPLATE
from .registry import HUMAN, load_weights

INPUT_SIZE = 160
"""The network was trained with 224. At 160 it finds 92 of 100 people first instead of 95 (220 pairs of photos of
training people, from portraits; the recogniser finds 96), at half of the cost."""

TEMPLATE = (RECOGNIZER_TEMPLATE - 75) * (0.8 * 224 / 150) + (INPUT_SIZE - 1) / 2
"""Where the five points (right eye, left eye, nose, right and left mouth corner) stand in the input."""

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
HALVING = (2, 4, 6, 12)
"""Which of the thirteen blocks, counted from 1, halve the resolution."""


class Block(nn.Module):
    """A 3 x 3 convolution of each channel alone, then a 1 x 1 convolution of all; a bounded ReLU after each."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        """Makes the block."""
        super().__init__()
        self.depthwise = SamePadConv2d(width_in, width_in, 3, stride=stride, groups=width_in)
        self.pointwise = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width_in, h, w] -> [n, width_out, ceil(h / stride), ceil(w / stride)]."""
        return functional.relu6(self.pointwise(functional.relu6(self.depthwise(x))))


class FaceRes(FrozenModel):
    """Faces aligned to `TEMPLATE`, RGB [n, 3, 160, 160] in [0, 1] -> embeddings [n, 1024], not centred, not normalised.

    Embeddings are square roots of the network's pooled activations, of which a few large ones would else outweigh the
    rest. They are compared by the cosine of their differences from a mean over many people.
    """

    input_size: ClassVar[int] = INPUT_SIZE
    embedding_size: ClassVar[int] = WIDTHS[-1]

    mean_rgb: Tensor

    def __init__(self) -> None:
        """Makes the network with random weights; use ``from_package``."""
        super().__init__()
        self.stem = SamePadConv2d(3, 32, 3, stride=2)
        widths = (32, *WIDTHS)
        self.blocks = nn.Sequential(
            *(Block(widths[i], widths[i + 1], 2 if i + 1 in HALVING else 1) for i in range(len(WIDTHS)))
        )
        self.register_buffer("mean_rgb", torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1), persistent=False)

    @classmethod
    def stored_tensors(cls, cache: Path | None = None) -> dict[str, Stored]:
        """The package's weights under this module's names, the depthwise convolutions' scale folded into them."""
        weights = load_weights("faceres", cache, HUMAN)
        tensors: dict[str, Stored] = {
            "stem.weight": as_filters(weights["conv1/convolution/merged_input"]),
            "stem.bias": weights["conv1_bn/batchnorm_1/sub"],
        }
        for i in range(1, len(WIDTHS) + 1):
            scale = to_float32(weights[f"conv_dw_{i}_bn/batchnorm_1/mul"]).reshape(-1, 1, 1, 1)
            filters = to_float32(as_filters(weights[f"conv_dw_{i}/depthwise_kernel"], depthwise=True))
            tensors[f"blocks.{i - 1}.depthwise.weight"] = filters * scale
            tensors[f"blocks.{i - 1}.depthwise.bias"] = weights[f"conv_dw_{i}_bn/batchnorm_1/sub"]
            tensors[f"blocks.{i - 1}.pointwise.weight"] = as_filters(weights[f"conv_pw_{i}/convolution/merged_input"])
            tensors[f"blocks.{i - 1}.pointwise.bias"] = weights[f"conv_pw_{i}_bn/batchnorm_1/sub"]
        return tensors

    def forward(self, faces: Tensor) -> Tensor:
        """Embeds."""
        # Blue first and less the mean of ImageNet, of 0..255, as Caffe's networks have it.
        x = (255 * faces.float() - self.mean_rgb).flip(1)
        x = self.blocks(functional.relu6(self.stem(x.contiguous(memory_format=torch.channels_last))))
        return (x.float().mean((2, 3)) + 1e-4).sqrt()
