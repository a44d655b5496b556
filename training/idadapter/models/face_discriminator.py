"""Tells faces that the model has drawn from those of photos, by what the recogniser sees on its way (projected GAN)."""

from __future__ import annotations

from torch import Tensor, nn

from ..faces.recognizer import WIDTHS
from .latent_discriminator import make_head

STAGES_SEEN = 3
"""Of the recogniser: 35, 17 and 8 places a side. What makes an eye whole is in these; the person is in the fourth."""


class FaceDiscriminator(nn.Module):
    """Small convolutional heads on the recogniser's first features (Sauer et al. 2021, "Projected GANs").

    `LatentDiscriminator` sees latents, an eye of which is two or three places, behind noise; this one sees the decoded
    face through the same random similarity and blur as the identity loss.
    """

    def __init__(self) -> None:
        """Makes the heads; the recogniser is the stage's."""
        super().__init__()
        self.heads = nn.ModuleList(make_head(width) for width in WIDTHS[:STAGES_SEEN])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """How much each place looks like a photo's, a map [b, h_i, w_i] for each head; above 0 it does.

        Args:
            features: `FaceRecognizer.features`, more than `STAGES_SEEN` or as many.
        """
        # Contiguous as in `LatentDiscriminator.features`.
        return [head(one.float().contiguous())[:, 0] for head, one in zip(self.heads, features, strict=False)]
