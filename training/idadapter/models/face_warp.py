"""Differentiable crops for the recogniser out of portraits whose faces stand at the portrait template."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..data.alignment import similarity_transform


class FaceWarp:
    """Cuts the recogniser's chip out of square portraits, bilinearly and differentiably.

    Portraits are aligned when they are made, so that one fixed similarity takes all of them to the recogniser's
    template; no landmarks are needed.
    """

    def __init__(self, portrait_template: np.ndarray, template: np.ndarray, size: int) -> None:
        """Precomputes the sampling grid.

        Args:
            portrait_template: [5, 2] landmarks in the portrait, pixels.
            template: [5, 2] landmarks in the chip, pixels.
            size: side of the chip.
        """
        inverse = similarity_transform(template, portrait_template)
        # Portrait pixels a chip's pixel: from two on, squares of them are averaged first (as `warp_similarity` does).
        self.factor = max(1, math.floor(math.hypot(inverse[0, 0], inverse[1, 0]) + 1e-9))
        v, u = np.mgrid[0:size, 0:size]
        points = np.stack([u, v, np.ones_like(u)], axis=-1) @ inverse.T
        self.points = torch.tensor(points, dtype=torch.float32)

    def jittered(self, generator: torch.Generator, count: int, strength: float) -> Callable[[Tensor], Tensor]:
        """A way to look at `count` portraits: each moved, turned, scaled and all blurred by chance.

        Args:
            generator: draws the changes.
            count: of the portraits.
            strength: 1 for shifts of 2 pixels, turns of 5 degrees, scales of 4 % (standard deviations) and a blur of up
                to 1.5 pixels in two of three calls; 0 for none of it.

        Returns:
            what makes [b, 3, size, size] of [b, 3, h, w], b at most `count`: the same changes for the same places.
        """
        angle, scale, *shift = strength * torch.randn(4, count, generator=generator)
        sigma = strength * 1.5 * float(torch.rand((), generator=generator).mul(1.5).sub(0.5).clamp_min(0))
        angle, scale = 0.087 * angle, torch.exp(0.04 * scale)
        cosine, sine = scale * angle.cos(), scale * angle.sin()
        turn = torch.stack([torch.stack([cosine, -sine], -1), torch.stack([sine, cosine], -1)], -2)
        shifts = 2 * torch.stack(shift, -1)[:, None, None]

        def look(images: Tensor) -> Tensor:
            points = self._points(images.device)
            middle = points.mean((0, 1))
            turns, moves = (one[: len(images)].to(images.device, non_blocking=True) for one in (turn, shifts))
            turned = torch.einsum("bij,vuj->bvui", turns, points - middle)
            return self._sample(blurred(images, sigma), turned + middle + moves)

        return look

    def __call__(self, images: Tensor, offset: tuple[int, int] = (0, 0)) -> Tensor:
        """Crops.

        Args:
            images: [b, 3, h, w]: whole portraits, or a window of them.
            offset: x and y of the window's first pixel in the portrait.

        Returns:
            [b, 3, size, size], edge pixels replicated.
        """
        moved = self._points(images.device)
        if offset != (0, 0):
            moved = moved - torch.tensor(offset, dtype=torch.float32).to(images.device, non_blocking=True)
        return self._sample(images, moved)

    def _points(self, device: torch.device) -> Tensor:
        if self.points.device != device:
            self.points = self.points.to(device)
        return self.points

    def _sample(self, images: Tensor, points: Tensor) -> Tensor:
        """Portraits read at points [v, u, 2] of their own pixels, or [b, v, u, 2]."""
        if self.factor > 1:
            images = functional.avg_pool2d(images, self.factor)
            points = (points - (self.factor - 1) / 2) / self.factor
        height, width = images.shape[-2:]
        # Written out, for a tensor made here would have to be copied to a GPU, which is to wait for it.
        grid = torch.stack([points[..., 0] * (2 / (width - 1)), points[..., 1] * (2 / (height - 1))], -1) - 1
        grid = grid.expand(images.shape[0], -1, -1, -1)
        return functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=True)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur by `sigma` pixels, [b, 3, h, w]; below a quarter of a pixel there is nothing to see."""
    if sigma < 0.25:
        return images
    radius = math.ceil(2.5 * sigma)
    line = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, device=images.device) / sigma) ** 2)
    line = (line / line.sum()).to(images.dtype).expand(images.shape[1], 1, 1, -1)
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, line, groups=images.shape[1])
    return functional.conv2d(rows, line.transpose(2, 3), groups=images.shape[1])
