"""Differentiable crops for the recogniser out of portraits whose faces stand at the portrait template."""

from __future__ import annotations

import math

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

    def __call__(self, images: Tensor, offset: tuple[int, int] = (0, 0)) -> Tensor:
        """Crops.

        Args:
            images: [b, 3, h, w]: whole portraits, or a window of them.
            offset: x and y of the window's first pixel in the portrait.

        Returns:
            [b, 3, size, size], edge pixels replicated.
        """
        points = self.points.to(images.device) - torch.tensor(offset, dtype=torch.float32, device=images.device)
        if self.factor > 1:
            images = functional.avg_pool2d(images, self.factor)
            points = (points - (self.factor - 1) / 2) / self.factor
        height, width = images.shape[-2:]
        scale = torch.tensor([2 / (width - 1), 2 / (height - 1)], device=images.device)
        grid = (points * scale - 1).expand(images.shape[0], -1, -1, -1)
        return functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=True)
