"""The latent text-to-image UNet of `diffusers`, with identity adapters."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D

from ..config import DiffusionConfig
from .identity_adapter import add_identity_adapters


def require_latents(unet: UNet2DConditionModel, channels: int, size: int) -> None:
    """Checks that a UNet reads the latents there are.

    Args:
        unet: of a run.
        channels: of the run's latents.
        size: their side.

    Raises:
        ValueError: it was made for others.
    """
    found = (unet.config.in_channels, unet.config.sample_size)
    if found != (channels, size):
        raise ValueError(
            f"the run's UNet is for latents of {found[0]} channels and side {found[1]}, its autoencoder makes "
            f"{channels} and {size}: remove parts/unet and run `diffusion` (`--stop-at 0` if `idadapter` is to train "
            "everything)"
        )


def make_unet(config: DiffusionConfig, latent_channels: int, latent_size: int, text_width: int) -> UNet2DConditionModel:
    """The UNet with random weights and closed adapters; attention on every level that `attention` says."""
    channels = tuple(config.channels)
    down = tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in config.attention)
    up = tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(config.attention))
    unet = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=latent_channels,
        out_channels=latent_channels,
        block_out_channels=channels,
        down_block_types=down,
        up_block_types=up,
        layers_per_block=config.layers,
        cross_attention_dim=text_width,
        # diffusers' name is wrong: it takes the number of heads.
        attention_head_dim=tuple(config.heads or width // config.head_width for width in channels),
        use_linear_projection=config.linear_projection,
        attention_type="gated",
    )
    return add_identity_adapters(unet)


def compile_residual_blocks(unet: UNet2DConditionModel) -> None:
    """Has `torch.compile` fuse what surrounds the convolutions: a little less time a step, after two minutes.

    Each shape is compiled for itself. Looking at pictures while training is not worth that, see `uncompiled`.
    """
    torch._dynamo.config.recompile_limit = 64
    for block in unet.modules():
        if isinstance(block, ResnetBlock2D):
            block.compile(dynamic=False)


def uncompiled() -> AbstractContextManager[None]:
    """A context in which nothing is compiled, and what was compiled runs as it was written."""
    return torch.compiler.set_stance("force_eager")
