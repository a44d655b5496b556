"""The latent space: a small `diffusers.AutoencoderDC` trained here, or Stable Diffusion's `AutoencoderKL`."""

from __future__ import annotations

from diffusers import AutoencoderDC, AutoencoderKL
from torch import Tensor

from ..config import AutoencoderConfig

Autoencoder = AutoencoderDC | AutoencoderKL


def make_autoencoder(config: AutoencoderConfig) -> Autoencoder:
    """An autoencoder with random weights, of the kind and shape configured.

    The small one consists of residual blocks without attention; its first level only unshuffles pixels, so nothing runs
    at full size.
    """
    levels = len(config.encoder_channels)
    if config.kind == "kl":
        return AutoencoderKL(
            latent_channels=config.latent_channels,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
            block_out_channels=tuple(config.encoder_channels),
            layers_per_block=config.encoder_layers[0],
            norm_num_groups=min(32, *config.encoder_channels),
        )
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


def start_from(deeper: AutoencoderDC, shallower: AutoencoderDC) -> int:
    """Copies a trained autoencoder's weights into one of as many levels or more, as far as they are the same layers.

    What is new, and what reads or makes the latents where their shape differs, keeps its random weights.

    Args:
        deeper: is changed.
        shallower: as wide on the levels it has.

    Returns:
        how many tensors were copied.
    """
    state, innermost = deeper.state_dict(), len(shallower.config.decoder_block_out_channels) - 1
    further = len(deeper.config.decoder_block_out_channels) > innermost + 1
    copied = 0
    for name, value in shallower.state_dict().items():
        parts = name.split(".")
        if further and parts[:3] == ["decoder", "up_blocks", str(innermost)]:
            # A level that is no longer the innermost one begins with what doubles the next level's side.
            parts[3] = str(int(parts[3]) + 1)
        place = ".".join(parts)
        if place in state and state[place].shape == value.shape:
            state[place].copy_(value)
            copied += 1
    return copied


def compression(autoencoder: Autoencoder) -> int:
    """Pixels a latent's side stands for."""
    if isinstance(autoencoder, AutoencoderKL):
        return 2 ** (len(autoencoder.config.block_out_channels) - 1)
    return autoencoder.spatial_compression_ratio


def encode(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """RGB [b, 3, h, w] in [0, 1] to latents [b, c, h/8, w/8] of about unit variance.

    An `AutoencoderKL` encodes to a distribution, of which this is the mode.
    """
    encoded = autoencoder.encode(images * 2 - 1)
    latent = encoded.latent_dist.mode() if isinstance(autoencoder, AutoencoderKL) else encoded.latent
    return latent * autoencoder.config.scaling_factor


def decode(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Latents [b, c, h, w] to RGB [b, 3, 8h, 8w], around [0, 1] but not clamped (a loss needs the overshoot)."""
    return autoencoder.decode(latents / autoencoder.config.scaling_factor).sample / 2 + 0.5


def side_state(autoencoder: Autoencoder, side: str) -> tuple[dict[str, Tensor], str]:
    """What is stored of one side, and the prefix of its names inside the autoencoder.

    Args:
        autoencoder: of either kind.
        side: "encoder" or "decoder"; an `AutoencoderKL`'s have a 1 x 1 convolution beside them.
    """
    if isinstance(autoencoder, AutoencoderDC):
        return getattr(autoencoder, side).state_dict(), f"{side}."
    beside = {"encoder": "quant_conv.", "decoder": "post_quant_conv."}[side]
    state = autoencoder.state_dict()
    return {name: value for name, value in state.items() if name.startswith((f"{side}.", beside))}, ""
