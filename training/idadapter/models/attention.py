"""Attention in which one token may stand for several equal ones."""

from __future__ import annotations

from diffusers.models.attention_processor import Attention
from torch import Tensor
from torch.nn import functional


def attend(attention: Attention, queries: Tensor, tokens: Tensor, bias: Tensor | None = None) -> Tensor:
    """Multi-head attention with a bias a key: `softmax(q k / sqrt(d) + bias) v`.

    n equal tokens weigh `n exp(q k / sqrt(d)) = exp(q k / sqrt(d) + ln n)` together and have one value, so one token
    with bias ln n stands for them exactly; one with a bias of minus infinity stands for none.

    Args:
        attention: diffusers' block: its projections without norms, in [b, tokens, width].
        queries: [b, q, width].
        tokens: keys and values, [b, k, width].
        bias: [b, k], or None for zeros.

    Returns:
        [b, q, width].
    """

    def heads(projected: Tensor) -> Tensor:
        return projected.unflatten(-1, (attention.heads, -1)).transpose(1, 2)

    attended = functional.scaled_dot_product_attention(
        heads(attention.to_q(queries)),
        heads(attention.to_k(tokens)),
        heads(attention.to_v(tokens)),
        attn_mask=None if bias is None else bias[:, None, None, :].to(queries.dtype),
    )
    return attention.to_out[0](attended.transpose(1, 2).flatten(-2))
