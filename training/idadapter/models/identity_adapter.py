"""Visual injection (paper, equation 7): the gated adapters between self- and cross-attention."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock, GatedSelfAttentionDense
from torch import Tensor, nn


class IdentityAdapter(GatedSelfAttentionDense):
    """GLIGEN's gated self-attention with the caller's strength and only the queries that are kept.

    y := y + beta tanh(gamma) S([y, E_r]), then the gated feed-forward. S keeps the first |y| tokens, so only those are
    computed: keys and values come from the whole concatenation, queries from y alone. Same numbers, less work.
    """

    def forward(self, x: Tensor, objs: tuple[Tensor, Tensor]) -> Tensor:
        """Injects the identity.

        Args:
            x: [b, tokens, width] tokens of the picture (y of equation 7).
            objs: E_r [b, M, d_r], and beta [b].

        Returns:
            [b, tokens, width].
        """
        identity_tokens, strength = objs
        beta = strength.view(-1, 1, 1).to(x.dtype)
        count = x.shape[1]
        tokens = self.norm1(torch.cat([x, self.linear(identity_tokens)], dim=1))
        attended = self.attn(tokens[:, :count], encoder_hidden_states=tokens)
        x = x + beta * self.alpha_attn.tanh() * attended
        return x + beta * self.alpha_dense.tanh() * self.ff(self.norm2(x))


class PassThrough(nn.Module):
    """Stands where GLIGEN has its position net: E_r and beta reach the adapters as they are."""

    def forward(self, objs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """The same objects."""
        return objs


def add_identity_adapters(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Puts `IdentityAdapter`s into a UNet made with `attention_type="gated"`, and the pass-through before them."""
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            stock = block.fuser
            adapter = IdentityAdapter(
                query_dim=stock.linear.out_features,
                context_dim=stock.linear.in_features,
                n_heads=stock.attn.heads,
                d_head=stock.attn.inner_dim // stock.attn.heads,
            )
            adapter.load_state_dict(stock.state_dict())
            block.fuser = adapter
    unet.position_net = PassThrough()
    return unet


def adapter_parameters(unet: UNet2DConditionModel) -> list[nn.Parameter]:
    """Parameters of every adapter."""
    return [p for name, p in unet.named_parameters() if ".fuser." in name]


def cross_attention_key_value_parameters(unet: UNet2DConditionModel) -> list[nn.Parameter]:
    """Weights of the key and value projections of every cross-attention, which IDAdapter trains too."""
    return [p for name, p in unet.named_parameters() if ".attn2.to_k." in name or ".attn2.to_v." in name]


def predict(
    unet: UNet2DConditionModel,
    sample: Tensor,
    timestep: Tensor,
    encoder_hidden_states: Tensor,
    identity_tokens: Tensor | None,
    identity_strength: Tensor | None,
) -> Tensor:
    """One UNet call.

    Args:
        unet: with identity adapters.
        sample: [b, c, h, w] noisy latents.
        timestep: [b].
        encoder_hidden_states: [b, L, d_t].
        identity_tokens: E_r [b, M, d_r], or None to skip the adapters.
        identity_strength: beta [b].

    Returns:
        [b, c, h, w], epsilon or velocity as the scheduler's prediction type says.
    """
    extra = {} if identity_tokens is None else {"gligen": {"objs": (identity_tokens, identity_strength)}}
    return unet(sample, timestep, encoder_hidden_states, cross_attention_kwargs=extra, return_dict=False)[0]
