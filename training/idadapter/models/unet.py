"""The latent text-to-image UNet of `diffusers`, with identity adapters."""

from __future__ import annotations

from diffusers import UNet2DConditionModel
from torch import nn

from ..config import DiffusionConfig
from .identity_adapter import add_identity_adapters


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
    return add_identity_adapters(add_patches(unet, config.patch_size))


def add_patches(unet: UNet2DConditionModel, size: int) -> UNet2DConditionModel:
    """Makes every square of size x size latents one place of the UNet's first level.

    A quarter of the places (`size` 2) at the same width costs a quarter; outside, the UNet's shapes stay as they are.
    `unet.config.patch_size` remembers the size; 1 changes nothing.
    """
    if size > 1:
        config, width, area = unet.config, unet.config.block_out_channels, size * size
        unet.conv_in = nn.Sequential(
            nn.PixelUnshuffle(size), nn.Conv2d(config.in_channels * area, width[0], 3, padding=1)
        )
        unet.conv_out = nn.Sequential(
            nn.Conv2d(width[0], config.out_channels * area, 3, padding=1), nn.PixelShuffle(size)
        )
        unet.register_to_config(patch_size=size)
    return unet
