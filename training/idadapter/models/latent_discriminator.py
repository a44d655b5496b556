"""Tells latents that the model has drawn from those of photos, both with noise added (latent adversarial diffusion)."""

from __future__ import annotations

from copy import deepcopy

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextModel

from .identity_adapter import predict
from .text_encoder import encode_text

HEAD_WIDTH = 64


class LatentDiscriminator(nn.Module):
    """Small convolutional heads on every block's output of a frozen UNet (Sauer et al. 2024, "Fast High-Resolution
    Image Synthesis with Latent Adversarial Diffusion Distillation", section 3).

    The UNet is a copy of the one that trains, as it was, without the adapters; it is told the words, so its features
    tell a picture of something else too. Both kinds of latents have the same noise on them: what a prediction cannot
    know at its timestep is hidden by as much of it.
    """

    def __init__(self, unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        """Copies and freezes both."""
        super().__init__()
        self.unet = deepcopy(unet).requires_grad_(False)
        self.text_encoder = deepcopy(text_encoder).requires_grad_(False)
        blocks = [*self.unet.down_blocks, self.unet.mid_block, *self.unet.up_blocks]
        down = self.unet.config.block_out_channels
        self.heads = nn.ModuleList(make_head(width) for width in (*down, down[-1], *reversed(down)))
        self._seen: list[Tensor] = []
        for block in blocks:
            block.register_forward_hook(self._look)

    def _look(self, _: nn.Module, __: object, output: Tensor | tuple[Tensor, ...]) -> None:
        self._seen.append(output if isinstance(output, Tensor) else output[0])

    def features(self, noisy: Tensor, timesteps: Tensor, input_ids: Tensor) -> list[Tensor]:
        """What the heads are given.

        Args:
            noisy: z_t [b, c, h, w].
            timesteps: [b] int64.
            input_ids: [b, L], of the words alone.

        Returns:
            a map [b, c_i, h_i, w_i] for each head.
        """
        nobody = self.text_encoder.get_input_embeddings().weight.new_zeros(len(noisy), 1)
        states = encode_text(self.text_encoder, input_ids, nobody, torch.full_like(timesteps, -1))
        self._seen = []
        predict(self.unet, noisy.contiguous(memory_format=torch.channels_last), timesteps, states, None, None)
        seen, self._seen = self._seen, []
        # torch 2.13 crashes in the backward pass of a GroupNorm whose input is channels_last and needs no gradient.
        return [one.float().contiguous() for one in seen]

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """How much each place looks like a photo's, a map [b, h_i, w_i] for each head; above 0 it does."""
        return [head(one)[:, 0] for head, one in zip(self.heads, features, strict=True)]


def make_head(width: int) -> nn.Sequential:
    """Judges a map [b, width, h, w] by each place and its neighbours: [b, 1, h, w]."""
    return nn.Sequential(
        nn.GroupNorm(1, width),
        nn.Conv2d(width, HEAD_WIDTH, 1),
        nn.SiLU(),
        nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 3, padding=1),
        nn.SiLU(),
        nn.Conv2d(HEAD_WIDTH, 1, 1),
    )


def looks_drawn(scores: list[Tensor], share: Tensor | None = None) -> Tensor:
    """The generator's loss: non-saturating (Goodfellow et al. 2014), mean over places, then over heads.

    Args:
        scores: maps [b, h_i, w_i], one a head.
        share: [b], how much each picture counts; None for all the same.
    """
    return torch.stack([_mean(functional.softplus(-one), share) for one in scores]).mean()


def told_apart(drawn: list[Tensor], real: list[Tensor], share: Tensor | None = None) -> Tensor:
    """The discriminator's logistic loss; 2 log 2 where it knows nothing.

    Args:
        drawn: maps [b, h_i, w_i], one a head.
        real: as many of photos.
        share: [b], how much each pair of them counts; None for all the same.
    """
    each = [
        _mean(functional.softplus(a), share) + _mean(functional.softplus(-b), share)
        for a, b in zip(drawn, real, strict=True)
    ]
    return torch.stack(each).mean()


def _mean(losses: Tensor, share: Tensor | None) -> Tensor:
    return losses.mean() if share is None else (losses.mean((1, 2)) * share).mean()
