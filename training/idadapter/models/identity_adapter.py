"""Visual injection (paper, equation 7): the gated adapters between self- and cross-attention."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock, GatedSelfAttentionDense
from torch import Tensor, nn
from torch.nn import functional

from .attention import attend

Objects = tuple[Tensor, Tensor, Tensor | None]
"""What reaches every adapter: E_r [b, M, d_r], beta [b], and each token's bias [b, M] (None: zeros)."""


class IdentityLayout(NamedTuple):
    """How the tokens of E_r lie: `face_tokens` of f_a, then those of each photo's `patches`, a square grid.

    What follows has no meaning; a batch is filled up with it where others have more photos.
    """

    patches: int
    face_tokens: int


FAR = 4.0
"""What a head that looks nearby takes off the logits of tokens without a place, those of f_a."""


def nearby_slopes(heads: int) -> Tensor:
    """How much each head of an aligned adapter looks nearby, [heads]: half of them at their place, one in four around.

    In logits a patch's side (ALiBi, Press et al. 2022).
    """
    slopes = torch.zeros(heads)
    slopes[: heads // 2] = FAR
    slopes[heads // 2 : heads // 2 + heads // 4] = FAR / 8
    return slopes


def nearness(queries: int, keys: int, width: int) -> Tensor:
    """Minus the distance between the places of two square grids that cover the same picture.

    Args:
        queries: places of the queries' grid, row by row.
        keys: places of the keys' grid, row by row.
        width: places a side that distances are counted in.

    Returns:
        [queries, keys], at most 0.
    """

    def places(count: int) -> Tensor:
        side = math.isqrt(count)
        line = (torch.arange(side) + 0.5) * (width / side)
        return torch.stack([line.repeat_interleave(side), line.repeat(side)], dim=-1)

    # Written out, for ONNX has no `torch.cdist`.
    return -(places(queries)[:, None] - places(keys)).square().sum(-1).sqrt()


class IdentityAdapter(GatedSelfAttentionDense):
    """GLIGEN's gated self-attention with the caller's strength and only the queries that are kept.

    y := y + beta tanh(gamma) S([y, E_r]), then the gated feed-forward. S keeps the first |y| tokens, so only those are
    computed: keys and values come from the whole concatenation, queries from y alone. Same numbers, less work.
    """

    layout: IdentityLayout | None = None
    """Set where portraits are aligned as the references' crops are, so that places correspond (`prefer_nearby`)."""

    kept: tuple[Any, Tensor] | None = None
    """The bias of places last asked for, and what it was for."""

    def forward(self, x: Tensor, objs: Objects) -> Tensor:
        """Injects the identity.

        Args:
            x: [b, tokens, width] tokens of the picture (y of equation 7).
            objs: see `Objects`.

        Returns:
            [b, tokens, width].
        """
        identity_tokens, strength, bias = objs
        beta = strength.view(-1, 1, 1).to(x.dtype)
        count = x.shape[1]
        tokens = self.norm1(torch.cat([x, self.linear(identity_tokens)], dim=1))
        bias = None if bias is None else functional.pad(bias, (count, 0))[:, None, None]
        if self.layout is not None:
            near = self._place_bias(count, identity_tokens.shape[1], x.device)
            bias = near if bias is None else near + bias
        attended = attend(self.attn, tokens[:, :count], tokens, bias)
        x = x + beta * self.alpha_attn.tanh() * attended
        return x + beta * self.alpha_dense.tanh() * self.ff(self.norm2(x))

    def _place_bias(self, count: int, tokens: int, device: torch.device) -> Tensor:
        """`place_bias`, computed once a shape outside of an export; what inference mode makes, no training may use."""
        if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
            return self.place_bias(count, tokens).to(device)
        key = (self.layout, count, tokens, device)
        if self.kept is None or self.kept[0] != key:
            self.kept = (key, self.place_bias(count, tokens).to(device))
        return self.kept[1]

    def place_bias(self, count: int, tokens: int) -> Tensor:
        """What nearness adds to the logits of the picture's `count` tokens and the M of E_r: [1, heads, count, k].

        Places near the query come first in some heads (`nearby_slopes`); tokens of f_a have no place, and are far.
        """
        assert self.layout is not None
        patches, face_tokens = self.layout
        width = math.isqrt(patches)
        # Written with remainders, for the exported graph takes any number of photos.
        index = torch.arange(tokens)
        photos = nearness(count, patches, width)[:, (index - face_tokens) % patches]
        photos = torch.where(index < face_tokens, -1.0, photos)
        near = torch.cat([nearness(count, count, width), photos], dim=1)
        return (nearby_slopes(self.attn.heads)[:, None, None] * near)[None]


class PassThrough(nn.Module):
    """Stands where GLIGEN has its position net: `Objects` reach the adapters as they are."""

    def forward(self, objs: Objects) -> Objects:
        """The same objects."""
        return objs


def _adapter_like(block: GatedSelfAttentionDense) -> IdentityAdapter:
    """An adapter of a block's shape, with weights of its own and a closed gate."""
    return IdentityAdapter(
        query_dim=block.linear.out_features,
        context_dim=block.linear.in_features,
        n_heads=block.attn.heads,
        d_head=block.attn.inner_dim // block.attn.heads,
    )


def add_identity_adapters(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Puts `IdentityAdapter`s into a UNet made with `attention_type="gated"`, and the pass-through before them."""
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            adapter = _adapter_like(block.fuser)
            adapter.load_state_dict(block.fuser.state_dict())
            block.fuser = adapter
    unet.position_net = PassThrough()
    return unet


def prefer_nearby(unet: UNet2DConditionModel, layout: IdentityLayout) -> None:
    """Tells every adapter that the patches of E_r and the places of the picture correspond; kept in the UNet's config.

    Portraits stand aligned as the references' crops do, and where to look for a feature of the face is the first thing
    an adapter would have to learn. Whatever it learns is added to this.
    """
    for block in unet.modules():
        if isinstance(block, IdentityAdapter):
            block.layout = layout
    unet.register_to_config(identity_layout=list(layout))


def renew_adapters(unet: UNet2DConditionModel) -> None:
    """Gives every adapter new weights and a closed gate: what they knew belonged to another E_r."""
    for block in unet.modules():
        if isinstance(block, BasicTransformerBlock):
            block.fuser = _adapter_like(block.fuser)


def adapter_parameters(unet: UNet2DConditionModel) -> list[nn.Parameter]:
    """Parameters of every adapter."""
    return [p for name, p in unet.named_parameters() if ".fuser." in name]


@torch.no_grad()
def open_gates(unet: UNet2DConditionModel, value: float) -> None:
    """Sets every gate gamma to `value`, and scales what it lets through so that the UNet computes what it did.

    Behind a gate that is nearly closed nothing learns, and the gate itself is a scalar, which Adam moves by no more
    than its learning rate a step. Behind an open one the adapter's last layers start at (almost) nothing instead, and
    learn at once.

    Args:
        unet: with identity adapters.
        value: gamma of equation 7, not 0.
    """
    for adapter in unet.modules():
        if isinstance(adapter, IdentityAdapter):
            outputs = ((adapter.alpha_attn, adapter.attn.to_out[0]), (adapter.alpha_dense, adapter.ff.net[2]))
            for gate, last in outputs:
                for parameter in last.parameters():
                    parameter.mul_(gate.tanh() / math.tanh(value))
                gate.fill_(value)


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
    identity_token_bias: Tensor | None = None,
) -> Tensor:
    """One UNet call.

    Args:
        unet: with identity adapters.
        sample: [b, c, h, w] noisy latents.
        timestep: [b].
        encoder_hidden_states: [b, L, d_t].
        identity_tokens: E_r [b, M, d_r], or None to skip the adapters.
        identity_strength: beta [b].
        identity_token_bias: [b, M]: the logarithm of how many equal tokens each stands for; None for one each.

    Returns:
        [b, c, h, w], epsilon or velocity as the scheduler's prediction type says.
    """
    objects = (identity_tokens, identity_strength, identity_token_bias)
    extra = {} if identity_tokens is None else {"gligen": {"objs": objects}}
    return unet(sample, timestep, encoder_hidden_states, cross_attention_kwargs=extra, return_dict=False)[0]
