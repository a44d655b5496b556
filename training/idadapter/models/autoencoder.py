"""The latent space: a small `diffusers.AutoencoderDC` trained here, or Stable Diffusion's `AutoencoderKL`."""

from __future__ import annotations

import torch
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


LATENT_LAYERS = ("encoder.conv_out.", "decoder.conv_in.")
"""What makes latents out of the innermost level and reads them: of another shape where the latents are."""


def start_from(autoencoder: Autoencoder, trained: Autoencoder) -> None:
    """Copies a trained autoencoder's weights into one of as many levels, or of more (`AutoencoderDC` alone).

    New levels keep their random weights, and so does what makes and reads latents of another shape. But latents of
    more channels, made of the same level, begin with the trained one's, and nothing is read from the new ones yet.

    Args:
        autoencoder: is changed.
        trained: as wide and with as many layers on every level it has.

    Raises:
        ValueError: another kind, or a level that differs.
    """
    state, copied = autoencoder.state_dict(), {}
    for name, value in trained.state_dict().items():
        place = _deeper_name(name, autoencoder, trained)
        if place in state and state[place].shape == value.shape:
            copied[place] = value
        elif place in state and _has_more_channels(state[place], value, name, autoencoder, trained):
            copied[place] = _widened(state[place], value, name)
        elif not name.startswith(LATENT_LAYERS):
            raise ValueError(
                f"the run's autoencoder has {name} {list(value.shape)}, for which the configuration has no place: give "
                "it the run's channels and layers, followed by new levels if there are any, or begin a new run"
            )
    autoencoder.load_state_dict({**state, **copied})


def _has_more_channels(new: Tensor, old: Tensor, name: str, autoencoder: Autoencoder, trained: Autoencoder) -> bool:
    """Whether a tensor differs only in that there are more latent channels than before."""
    small = isinstance(autoencoder, AutoencoderDC) and isinstance(trained, AutoencoderDC)
    if not small or not name.startswith(LATENT_LAYERS) or new.ndim != old.ndim:
        return False
    channels = 0 if name.startswith("encoder.") else 1
    same = [a == b for dim, (a, b) in enumerate(zip(new.shape, old.shape, strict=True)) if dim != channels]
    return all(same) and new.ndim > channels and new.shape[channels] > old.shape[channels]


def _widened(new: Tensor, old: Tensor, name: str) -> Tensor:
    """What makes latents keeps its new rows; what reads them has nothing for the new columns."""
    if name.startswith("encoder."):
        return torch.cat([old, new[len(old) :]])
    return torch.cat([old, torch.zeros_like(new[:, old.shape[1] :])], dim=1)


def _deeper_name(name: str, autoencoder: Autoencoder, trained: Autoencoder) -> str:
    """What a tensor of the trained one is called in the other, whose decoder may have further levels inside."""
    if not isinstance(autoencoder, AutoencoderDC) or not isinstance(trained, AutoencoderDC):
        return name
    levels = len(trained.config.decoder_block_out_channels)
    if len(autoencoder.config.decoder_block_out_channels) == levels:
        return name
    innermost = f"decoder.up_blocks.{levels - 1}."
    if not name.startswith(innermost):
        return name
    # A level that is no longer the innermost one begins with what doubles the next level's side.
    layer, rest = name.removeprefix(innermost).split(".", 1)
    return f"{innermost}{int(layer) + 1}.{rest}"


def compression(autoencoder: Autoencoder) -> int:
    """Pixels a latent's side stands for."""
    if isinstance(autoencoder, AutoencoderKL):
        return 2 ** (len(autoencoder.config.block_out_channels) - 1)
    return autoencoder.spatial_compression_ratio


def encode(autoencoder: Autoencoder, images: Tensor) -> Tensor:
    """RGB [b, 3, h, w] in [0, 1] to latents [b, c, h/f, w/f] of about unit variance, f = `compression`.

    An `AutoencoderKL` encodes to a distribution, of which this is the mode.
    """
    encoded = autoencoder.encode(images * 2 - 1)
    latent = encoded.latent_dist.mode() if isinstance(autoencoder, AutoencoderKL) else encoded.latent
    return latent * autoencoder.config.scaling_factor


def decode(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """Latents [b, c, h, w] to RGB [b, 3, f h, f w], around [0, 1] but not clamped (a loss needs the overshoot)."""
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
