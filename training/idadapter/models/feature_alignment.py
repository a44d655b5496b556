"""Alignment of the UNet's middle with a recogniser's features of the clean picture (REPA, Yu et al. 2024)."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional


class FeatureAlignment(nn.Module):
    """Reads the recogniser's features of the clean picture out of what the UNet's middle block makes of the noisy one.

    A network that must know what a face is made of, wherever it is noisy, learns to draw faces sooner. It is there in
    training only: no bundle holds it.
    """

    def __init__(self, width: int, features: int, side: int) -> None:
        """Makes the projection.

        Args:
            width: channels of the middle block.
            features: channels of the recogniser's features.
            side: their side.
        """
        super().__init__()
        self.side = side
        self.projection = nn.Sequential(
            nn.Conv2d(width, 2 * width, 1), nn.SiLU(), nn.Conv2d(2 * width, 2 * width, 1), nn.SiLU()
        )
        self.out = nn.Conv2d(2 * width, features, 1)
        self.hidden: Tensor | None = None

    def watch(self, unet: UNet2DConditionModel) -> None:
        """Keeps what the middle block makes in each call of the UNet."""

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            self.hidden = output

        unet.mid_block.register_forward_hook(keep)

    def forward(self) -> Tensor:
        """What the latest call's middle says of the clean picture's features, [b, features, side, side].

        Raises:
            RuntimeError: the UNet has not been called since the last time.
        """
        if self.hidden is None:
            raise RuntimeError("the UNet has not been called")
        hidden, self.hidden = self.hidden, None
        return self.out(functional.adaptive_avg_pool2d(self.projection(hidden), self.side))


def misalignment(predicted: Tensor, features: Tensor) -> Tensor:
    """1 - cosine between predicted features and real ones without their common part, averaged over places.

    Args:
        predicted: [b, c, s, s].
        features: the recogniser's, [b, c, s, s]; at one place all faces have most of theirs in common, so the batch's
            mean there is taken off.

    Returns:
        [b], 0 to 2.
    """
    centred = features - features.mean(0, keepdim=True)
    return 1 - functional.cosine_similarity(predicted.float(), centred.float(), dim=1).mean((1, 2))


@torch.no_grad()
def whole_picture_features(recognizer: nn.Module, images: Tensor) -> Tensor:
    """The deepest of the recogniser's feature maps, of the whole portrait instead of the face's chip.

    So its places are the picture's places, as the UNet's are.

    Args:
        recognizer: a `FaceRecognizer`.
        images: RGB [b, 3, h, w] in [0, 1].

    Returns:
        [b, c, s, s].
    """
    size = recognizer.input_size
    return recognizer.features(functional.interpolate(images, (size, size), mode="bilinear", antialias=True))[-1]
