"""The latent text-to-image UNet of `diffusers`, with identity adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from ..config import DiffusionConfig
from .identity_adapter import IdentityLayout, add_identity_adapters, prefer_nearby


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
        **(POOLED_TEXT if config.pooled_text else {}),
    )
    return add_identity_adapters(unet)


POOLED_TEXT = {"addition_embed_type": "text", "addition_embed_type_num_heads": 8}
"""What diffusers calls it: the hidden states, pooled by attention, are added to the timestep's embedding."""

POOLED_START = 0.1
"""Scale of what a UNet that has been trained without pooled text gets of it at first."""


def with_pooled_text(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The UNet, its words also pooled into the timestep's embedding, which reaches every residual block.

    Cross-attention alone learns words slowly: each of 48 tokens starts with a 48th of the attention, and most of them
    are padding. Sex, hair, view, expression and rendition are the whole picture's (Saharia et al. 2022 do both too).

    Args:
        unet: with identity adapters; returned as it is if it has pooled text.

    Returns:
        a UNet with the same weights, and new small ones for what is new.
    """
    if unet.config.addition_embed_type is not None:
        return unet
    # Without diffusers' own notes, one of which says that what was left at its default shall stay there.
    config = {k: v for k, v in unet.config.items() if k != "identity_layout" and not k.startswith("_")}
    pooled = add_identity_adapters(UNet2DConditionModel.from_config({**config, **POOLED_TEXT}))
    missing, unexpected = pooled.load_state_dict(unet.state_dict(), strict=False)
    assert not unexpected and all(name.startswith("add_embedding.") for name in missing)
    nn.init.constant_(pooled.add_embedding.norm2.weight, POOLED_START)
    if "identity_layout" in unet.config:
        prefer_nearby(pooled, IdentityLayout(*unet.config["identity_layout"]))
    return pooled


def pooled_text_parameters(unet: UNet2DConditionModel) -> list[nn.Parameter]:
    """Parameters of what pools the words, none where nothing does."""
    return [parameter for name, parameter in unet.named_parameters() if name.startswith("add_embedding.")]


def with_further_channels(unet: UNet2DConditionModel, channels: int) -> UNet2DConditionModel:
    """The UNet for latents that have further channels behind those it knows.

    Args:
        unet: with identity adapters; returned as it is if it has as many or more.
        channels: of the latents.

    Returns:
        a UNet that does what it did with the channels it knows, reads nothing of the new ones and answers 0 for them.
    """
    known = unet.config.in_channels
    if known >= channels:
        return unet
    unet.conv_in = _widened(unet.conv_in, channels, 1)
    unet.conv_out = _widened(unet.conv_out, channels, 0)
    unet.register_to_config(in_channels=channels, out_channels=channels)
    return unet


def _widened(layer: nn.Conv2d, channels: int, dim: int) -> nn.Conv2d:
    """A convolution with more channels out (0) or in (1), the new ones of no effect."""
    inputs, outputs = (channels, layer.out_channels) if dim else (layer.in_channels, channels)
    wide = nn.Conv2d(inputs, outputs, layer.kernel_size, layer.stride, layer.padding)
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            old = getattr(layer, name)
            parameter.zero_()
            parameter[tuple(slice(side) for side in old.shape)] = old
    return wide


DEEP_FEATURES = "deep_features"
"""What the last block up is given by all those below it, and the name of that output and input of the graphs."""


@contextmanager
def deep_features(unet: UNet2DConditionModel, kept: Tensor | None = None) -> Iterator[list[Tensor]]:
    """Looks at, or replaces, what the UNet's last block up is given by the blocks below it.

    They change little from one denoising step to the next: with those of the step before, only the first block down and
    the last one up have to run again (DeepCache, Ma et al. 2024, their branch 0).

    Args:
        unet: the UNet.
        kept: what to give the last block instead, [b, c, h, w]; None changes nothing.

    Yields:
        what the block was given in each call, [b, c, h, w].
    """
    seen: list[Tensor] = []

    def look(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given = {**named, "hidden_states": arguments[0] if arguments else named["hidden_states"]}
        if kept is not None:
            given["hidden_states"] = kept
        seen.append(given["hidden_states"])
        return arguments[1:], given

    handle = unet.up_blocks[-1].register_forward_pre_hook(look, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()
