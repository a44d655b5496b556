"""What the frozen face models share: loading stored tensors, and layers with TensorFlow's padding."""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from idadapter.external_data import read_tensors
from idadapter.quantized import Quantized, Stored, to_float32


class FrozenModel(nn.Module):
    """A model that is never trained: its parameters take no gradient, its input may."""

    input_size: ClassVar[int]
    """Side in pixels of the square input."""

    @classmethod
    def stored_tensors(cls, cache: Path | None = None) -> dict[str, Stored]:
        """The weights from the npm package under this module's parameter names, quantised as in the package."""
        raise NotImplementedError

    @classmethod
    def from_package(cls, cache: Path | None = None) -> Self:
        """The model with the weights of the npm package (downloaded into ``cache`` if missing)."""
        return cls.from_tensors(cls.stored_tensors(cache))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """The model with the weights of a bundle's part: ``folder / "model.safetensors"``."""
        return cls.from_tensors(read_tensors(folder / "model.safetensors"))

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Stored]) -> Self:
        """The model with these weights, in float32; raises RuntimeError for a missing or surplus name."""
        model = cls()
        model.load_state_dict({name: torch.from_numpy(to_float32(value)) for name, value in tensors.items()})
        return model.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode, also as a part of a module that trains."""
        return super().train(False)


class SamePadConv2d(nn.Conv2d):
    """A convolution with TensorFlow's ``same`` padding: the odd pixel is added at the right and bottom.

    For even input sizes with stride 2, or stride 1: what the face models have.
    """

    def forward(self, x: Tensor) -> Tensor:
        """[n, in, h, w] -> [n, out, ceil(h / stride), ceil(w / stride)]."""
        total = [
            max((-(-side // stride) - 1) * stride + kernel - side, 0)
            for side, stride, kernel in zip(x.shape[-2:], self.stride, self.kernel_size, strict=True)
        ]
        top, left = total[0] // 2, total[1] // 2
        padded = functional.pad(x, (left, total[1] - left, top, total[0] - top))
        return super().forward(padded)


class SeparableConv(nn.Module):
    """A 3 x 3 convolution of each channel alone, then a 1 x 1 convolution of all (Chollet 2017)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        """Makes the layer from ``width_in`` to ``width_out`` channels."""
        super().__init__()
        self.depthwise = nn.Conv2d(width_in, width_in, 3, padding=1, groups=width_in, bias=False)
        self.pointwise = nn.Conv2d(width_in, width_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[n, width_in, h, w] -> [n, width_out, h, w]."""
        return self.pointwise(self.depthwise(x))


def as_filters(stored: Stored, depthwise: bool = False) -> Stored:
    """TensorFlow's filters [h, w, in, out] as PyTorch's [out, in, h, w]; depthwise [h, w, c, 1] as [c, 1, h, w]."""
    axes = (2, 3, 0, 1) if depthwise else (3, 2, 0, 1)
    if isinstance(stored, Quantized):
        return stored.transpose(*axes)
    return np.ascontiguousarray(stored.transpose(*axes))


def subtract_mean(images: Tensor, mean: Tensor) -> Tensor:
    """RGB [n, 3, h, w] in [0, 1] minus ``mean`` [3] (of 0..255), over 255, in float32."""
    return images.float() - (mean / 255).view(1, 3, 1, 1)
