"""face-api's 68-point landmark network: four densely connected blocks of depthwise convolutions, 350 kB."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from idadapter.faces.frozen import FrozenModel, SamePadConv2d, as_filters, subtract_mean
from idadapter.faces.registry import load_weights
from idadapter.quantized import Stored, to_float32

WIDTHS = (32, 64, 128, 256)

BOX_MARGIN = 1.0
"""Side of the crop over the longer side of the detector's box. Measured on 290 photos of LFW and CelebA against their
five landmarks, mean error over the distance of the eyes: 0.9 to 1.0 8.2 %, 1.1 8.3 %, 1.2 8.4 %, 1.3 8.7 %."""


def mirror_order() -> list[int]:
    """Which of the 68 iBUG points each point becomes when the picture is mirrored."""
    order = list(range(68))
    # Points of one part of the face, in the order in which the mirror reverses them.
    reversed_runs = [
        range(0, 17),  # jaw
        range(17, 27),  # eyebrows
        range(31, 36),  # nostrils
        range(48, 55),  # upper lip, outside
        range(55, 60),  # lower lip, outside
        range(60, 65),  # upper lip, inside
        range(65, 68),  # lower lip, inside
    ]
    for run in reversed_runs:
        for point, mirrored in zip(run, reversed(run), strict=True):
            order[point] = mirrored
    # An eye runs from one corner over the upper lid to the other and back below, in opposite directions.
    for right, left in zip((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46), strict=True):
        order[right], order[left] = left, right
    return order


class SeparableConv(nn.Module):
    """A 3 x 3 convolution of each channel alone, then a 1 x 1 convolution of all."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        """Makes the layer from ``width_in`` to ``width_out`` channels."""
        super().__init__()
        self.depthwise = SamePadConv2d(width_in, width_in, 3, stride=stride, groups=width_in, bias=False)
        self.pointwise = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width_in, h, w] -> [n, width_out, h / stride, w / stride]."""
        return self.pointwise(self.depthwise(x))


class DenseBlock(nn.Module):
    """Halves the resolution, then adds three convolutions, each reading the sum of all before it."""

    def __init__(self, width_in: int, width_out: int, first: bool) -> None:
        """Makes a block; only the first of the network starts with a full convolution."""
        super().__init__()
        down = SamePadConv2d(width_in, width_out, 3, stride=2) if first else SeparableConv(width_in, width_out, 2)
        self.convs = nn.ModuleList([down, *(SeparableConv(width_out, width_out, 1) for _ in range(3))])

    def forward(self, x: Tensor) -> Tensor:
        """[n, width_in, h, w] -> [n, width_out, h / 2, w / 2]."""
        total = x = functional.relu(self.convs[0](x))
        for conv in self.convs[1:]:
            total = total + conv(x)
            x = functional.relu(total)
        return x


def stored_blocks(weights: Mapping[str, Stored]) -> dict[str, Stored]:
    """The four dense blocks' tensors as `blocks.*` of a module, from the package's names for them."""
    tensors: dict[str, Stored] = {}
    for block in range(len(WIDTHS)):
        for conv in range(4):
            target, source = f"blocks.{block}.convs.{conv}", f"dense{block}/conv{conv}"
            if block == 0 and conv == 0:
                tensors[f"{target}.weight"] = as_filters(weights[f"{source}/filters"])
                tensors[f"{target}.bias"] = to_float32(weights[f"{source}/bias"])
                continue
            depthwise = as_filters(weights[f"{source}/depthwise_filter"], depthwise=True)
            tensors[f"{target}.depthwise.weight"] = depthwise
            tensors[f"{target}.pointwise.weight"] = as_filters(weights[f"{source}/pointwise_filter"])
            tensors[f"{target}.pointwise.bias"] = to_float32(weights[f"{source}/bias"])
    return tensors


class FaceLandmarks(FrozenModel):
    """Face crops -> 68 landmarks in the iBUG order.

    Crops are RGB [n, 3, 112, 112] in [0, 1]: the detector's box made square, times ``BOX_MARGIN``.
    """

    input_size: ClassVar[int] = 112

    mean_rgb: Tensor
    mirrored: Tensor

    def __init__(self) -> None:
        """Makes the network with random weights; use ``from_package`` or ``from_folder``."""
        super().__init__()
        widths = (3, *WIDTHS)
        self.blocks = nn.ModuleList(
            DenseBlock(a, b, first=index == 0) for index, (a, b) in enumerate(zip(widths, WIDTHS, strict=False))
        )
        self.head = nn.Linear(WIDTHS[-1], 136)
        self.register_buffer("mean_rgb", torch.tensor([122.782, 117.001, 104.298]), persistent=False)
        self.register_buffer("mirrored", torch.tensor(mirror_order()), persistent=False)

    @classmethod
    def stored_tensors(cls, cache: Path | None = None) -> dict[str, Stored]:
        """The package's weights under this module's names."""
        weights = load_weights("face_landmark_68_model", cache)
        tensors = stored_blocks(weights)
        tensors["head.weight"] = weights["fc/weights"].transpose(1, 0)
        tensors["head.bias"] = to_float32(weights["fc/bias"])
        return tensors

    def forward(self, faces: Tensor) -> Tensor:
        """Finds the landmarks in each crop and in its mirror image, and takes the mean.

        The network alone sees every face 2 % of the eyes' distance too far to the left; the mirror cancels that.

        Args:
            faces: RGB crops [n, 3, 112, 112] in [0, 1].

        Returns:
            [n, 68, 2] float32, (x, y) in 0..1 of the crop (a point outside the crop is possible).
        """
        straight, mirror = self.search(faces), self.search(faces.flip(3))[:, self.mirrored]
        unmirrored = torch.stack([1 - mirror[..., 0], mirror[..., 1]], dim=-1)
        return (straight + unmirrored) / 2

    def search(self, faces: Tensor) -> Tensor:
        """One pass of the network: crops as :meth:`forward` takes them -> [n, 68, 2]."""
        x = subtract_mean(faces, self.mean_rgb)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3))).float().unflatten(1, (68, 2))


def five_points(landmarks: np.ndarray) -> np.ndarray:
    """The five points alignment uses, from 68: [68, 2] -> [5, 2].

    Right eye (mean of 36 to 41), left eye (42 to 47), nose tip (30), right mouth corner (48), left mouth corner (54);
    right and left are the person's own.
    """
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    return np.stack([*eyes, landmarks[30], landmarks[48], landmarks[54]])
