"""Tells decoded pictures that the model has drawn from photos', by the recogniser's first features (projected GAN)."""

from __future__ import annotations

from torch import Tensor, nn

from ..faces.recognizer import WIDTHS
from .latent_discriminator import make_head

STAGES_SEEN = 3
"""Of the recogniser: 35, 17 and 8 places a side. What makes an eye whole is in these; the person is in the fourth."""


class DecodedDiscriminator(nn.Module):
    """Small convolutional heads on the recogniser's first features (Sauer et al. 2021, "Projected GANs").

    `LatentDiscriminator` sees latents, an eye of which is two or three places, behind noise; this one sees what is
    decoded of them, through the same kind of random similarity and blur as the identity loss.
    """

    def __init__(self, kinds: int = 1) -> None:
        """Makes the heads; the recogniser is the stage's.

        Args:
            kinds: of pictures, each compared with its own kind alone.
        """
        super().__init__()
        self.heads = nn.ModuleList(make_head(width, kinds) for width in WIDTHS[:STAGES_SEEN])

    def forward(self, features: list[Tensor], kinds: Tensor | None = None) -> list[Tensor]:
        """How much each place looks like a photo's, a map [b, h_i, w_i] for each head; above 0 it does.

        Args:
            features: `FaceRecognizer.features`, more than `STAGES_SEEN` or as many.
            kinds: [b] int64, what is wanted of each picture; None for all the first.
        """
        # Contiguous as in `LatentDiscriminator.features`.
        scores = [head(one.float().contiguous()) for head, one in zip(self.heads, features, strict=False)]
        if kinds is None:
            return [one[:, 0] for one in scores]
        return [one.gather(1, kinds[:, None, None, None].expand(-1, 1, *one.shape[2:]))[:, 0] for one in scores]
