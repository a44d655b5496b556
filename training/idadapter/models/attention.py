"""Attention in which one token may stand for several equal ones."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor
from torch.nn import functional
from transformers import CLIPTextModel


def attend(attention: Attention, queries: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention with a bias a key: `softmax(q k / sqrt(d) + bias) v`.

    n equal tokens weigh `n exp(q k / sqrt(d)) = exp(q k / sqrt(d) + ln n)` together and have one value, so one token
    with bias ln n stands for them exactly; one with a bias of minus infinity stands for none.

    Args:
        attention: diffusers' block: its projections without norms, in [b, tokens, width].
        queries: [b, q, width].
        tokens: keys and values, [b, k, width].
        bias: what is added to the logits [b, heads, q, k] (any of the four may be 1), or None for zeros.

    Returns:
        [b, q, width].
    """

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

    query, key, value = (
        heads(project(x))
        for project, x in ((attention.to_q, queries), (attention.to_k, tokens), (attention.to_v, tokens))
    )
    bias = None if bias is None else bias.to(query.dtype)
    if torch.is_grad_enabled() and query.device.type == "cpu":
        # The fused kernel's backward pass takes seven times as long on processors, where a matrix fits the cache.
        logits = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        attended = (logits if bias is None else logits + bias).softmax(-1).to(value.dtype) @ value
    else:
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return attention.to_out[0](attended.transpose(1, 2).flatten(-2))


def plain_attention(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
    """Has both compute attention by matrix products, as `attend` does for training on processors."""
    unet.set_attn_processor(AttnProcessor())
    text_encoder.set_attn_implementation("eager")
