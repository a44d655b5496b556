"""Tells faces that the model has drawn from those of photos, by what the recogniser sees on its way (projected GAN)."""

from __future__ import annotations

from torch import Tensor, nn

from ..faces.recognizer import WIDTHS
from .latent_discriminator import HEAD_WIDTH, make_head

STAGES_SEEN = 3
"""Of the recogniser: 35, 17 and 8 places a side. What makes an eye whole is in these; the person is in the fourth."""


class FaceDiscriminator(nn.Module):
    """Small convolutional heads on the recogniser's first features (Sauer et al. 2021, "Projected GANs").

    `LatentDiscriminator` sees latents, an eye of which is two or three places, behind noise; this one sees the decoded
    face through the same random similarity and blur as the identity loss.
    """

    def __init__(self, kinds: int = 0) -> None:
        """Makes the heads; the recogniser is the stage's.

        Args:
            kinds: how many kinds of pictures there are to be told of; 0 to judge all alike. It is told by projection
                (Miyato and Koyama 2018, "cGANs with Projection Discriminator"), which knows nothing at first.
        """
        super().__init__()
        self.heads = nn.ModuleList(make_head(width) for width in WIDTHS[:STAGES_SEEN])
        self.kinds = nn.Embedding(kinds, HEAD_WIDTH * STAGES_SEEN) if kinds else None
        if self.kinds is not None:
            nn.init.zeros_(self.kinds.weight)

    def forward(self, features: list[Tensor], kinds: Tensor | None = None) -> list[Tensor]:
        """How much each place looks like a real picture's, a map [b, h_i, w_i] for each head; above 0 it does.

        Args:
            features: `FaceRecognizer.features`, more than `STAGES_SEEN` or as many.
            kinds: [b] int64, which kind each picture is to be; where the heads are told.
        """
        told = self.kinds(kinds).chunk(STAGES_SEEN, 1) if self.kinds is not None else [None] * STAGES_SEEN
        scores = []
        for head, one, kind in zip(self.heads, features, told, strict=False):
            # Contiguous as in `LatentDiscriminator.features`.
            seen = head[:-1](one.float().contiguous())
            score = head[-1](seen)[:, 0]
            scores.append(score if kind is None else score + (seen * kind[:, :, None, None]).sum(1))
        return scores
