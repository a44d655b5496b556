"""The latent space: a small `diffusers.AutoencoderDC` without attention (f8, 8 channels at the mini size)."""

from __future__ import annotations

from diffusers import AutoencoderDC
from torch import Tensor

from ..config import AutoencoderConfig


def make_autoencoder(config: AutoencoderConfig) -> AutoencoderDC:
    """An autoencoder of residual blocks; its first level only unshuffles pixels, so nothing runs at full size."""
    levels = len(config.encoder_channels)
    return AutoencoderDC(
        latent_channels=config.latent_channels,
        encoder_block_types="ResBlock",
        decoder_block_types="ResBlock",
        encoder_block_out_channels=tuple(config.encoder_channels),
        decoder_block_out_channels=tuple(config.decoder_channels),
        encoder_layers_per_block=tuple(config.encoder_layers),
        decoder_layers_per_block=tuple(config.decoder_layers),
        encoder_qkv_multiscales=((),) * levels,
        decoder_qkv_multiscales=((),) * levels,
        encoder_out_shortcut=False,
        decoder_in_shortcut=False,
        decoder_conv_act_fn="silu",
    )


def encode(autoencoder: AutoencoderDC, images: Tensor) -> Tensor:
    """RGB [b, 3, h, w] in [0, 1] to latents [b, c, h/8, w/8] of about unit variance."""
    return autoencoder.encode(images * 2 - 1).latent * autoencoder.config.scaling_factor


def decode(autoencoder: AutoencoderDC, latents: Tensor) -> Tensor:
    """Latents [b, c, h, w] to RGB [b, 3, 8h, 8w], around [0, 1] but not clamped (a loss needs the overshoot)."""
    return autoencoder.decode(latents / autoencoder.config.scaling_factor).sample / 2 + 0.5
