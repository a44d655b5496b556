"""Mixed facial features and the textual projection (paper, equations 3 to 6)."""

from __future__ import annotations

import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention
from torch import Tensor, nn
from torch.nn import functional

from .attention import attend


class AttentionBlock(nn.Module):
    """Pre-norm self-attention and feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        """Makes a block of `width` channels."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(query_dim=width, heads=heads, dim_head=width // heads)
        self.norm2 = nn.LayerNorm(width)
        self.feed_forward = FeedForward(width, mult=2, activation_fn="gelu")

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """[b, tokens, width] -> [b, tokens, width]; the bias of each token as a key is [b, tokens]."""
        normal = self.norm1(x)
        x = x + attend(self.attention, normal, normal, None if bias is None else bias[:, None, None])
        return x + self.feed_forward(self.norm2(x))


class MixedFeatures(nn.Module):
    """MFF and P_textual: features of N photos become E_r and E_c.

    `f_v = concat(f_v(1..N))`, `f_a = mean(f_a(1..N))`, `E_r = P_visual([f_v, f_a])` with P_visual two attention blocks
    (equations 3 to 5); `E_c = P_textual(mean f_c(1..N))` with P_textual an MLP (equation 6). Ours: f_a becomes
    `face_tokens` tokens instead of one, and a learned vector tells which tokens are which. And since the brackets of
    equation 5 can be read along the tokens or along the channels, f_a stands in both places: a few tokens among N * P
    others and the picture's own get two hundredths of an adapter's attention before it has learned where to look.
    """

    def __init__(
        self,
        patch_width: int,
        face_width: int,
        width: int,
        text_width: int,
        heads: int = 4,
        face_tokens: int = 4,
        mixing: bool = True,
        face_in_patches: bool = True,
    ) -> None:
        """Makes the projections.

        Args:
            patch_width: d_v.
            face_width: d_a.
            width: d_r.
            text_width: d_t.
            heads: of the attention blocks.
            face_tokens: tokens made of f_a.
            mixing: false for the ablation "without MFF": no attention blocks and no f_a, so that every token of E_r is
                one patch's features, projected; the face tokens are constants.
            face_in_patches: whether f_a also stands beside the features of every patch; false in bundles before 0.4.0.
        """
        super().__init__()
        self.config = {
            "patch_width": patch_width,
            "face_width": face_width,
            "width": width,
            "text_width": text_width,
            "heads": heads,
            "face_tokens": face_tokens,
            "mixing": mixing,
            "face_in_patches": face_in_patches and mixing,
        }
        self.mixing = mixing
        self.text_is_constant = False
        self.face_tokens = face_tokens
        self.patch_in = nn.Linear(patch_width, width)
        self.face_in = nn.Linear(face_width, width * face_tokens)
        # [f_v, f_a] along the channels, projected, is the sum of both projections; `patch_in` has the bias.
        self.face_beside = nn.Linear(face_width, width, bias=False) if face_in_patches and mixing else None
        self.kind = nn.Parameter(torch.randn(2, width) * 0.02)
        self.blocks = nn.ModuleList(AttentionBlock(width, heads) for _ in range(2))
        self.norm_out = nn.LayerNorm(width)
        self.textual = nn.Sequential(
            nn.LayerNorm(patch_width), nn.Linear(patch_width, 2 * width), nn.GELU(), nn.Linear(2 * width, text_width)
        )

    def forward(
        self,
        patch_features: Tensor,
        class_embedding: Tensor,
        face_embedding: Tensor,
        photo_counts: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Mixes the photos of each of b people.

        Args:
            patch_features: f_v [b, N, P, d_v].
            class_embedding: f_c [b, N, d_v].
            face_embedding: f_a [b, N, d_a], unit length.
            photo_counts: [b, N], how many equal photos each row stands for; None for one each. Equal to repeating the
                rows, and cheaper.

        Returns:
            E_r [b, face_tokens + N * P, d_r], the tokens of f_a first, and E_c [b, d_t].
        """
        batch, count, patches, _ = patch_features.shape
        visual = self.patch_in(patch_features).reshape(batch, count * patches, -1) + self.kind[0]
        if not self.mixing:
            constant = self.kind[1].expand(batch, self.face_tokens, -1)
            return self.norm_out(torch.cat([constant, visual], dim=1)), self.textual(
                _mean(class_embedding, photo_counts)
            )
        mean = functional.normalize(_mean(face_embedding.float(), photo_counts), dim=-1)
        # Entries of a unit vector are small; this brings them to unit variance.
        mean = mean * mean.shape[-1] ** 0.5
        face = self.face_in(mean).reshape(batch, self.face_tokens, -1) + self.kind[1]
        if self.face_beside is not None:
            visual = visual + self.face_beside(mean)[:, None]
        tokens = torch.cat([face, visual], dim=1)
        bias = None if photo_counts is None else self.token_bias(photo_counts, patches)
        for block in self.blocks:
            tokens = block(tokens, bias)
        return self.norm_out(tokens), self.textual(_mean(class_embedding, photo_counts))

    @torch.no_grad()
    def begin_with(self, patch_features: Tensor) -> None:
        """Has E_r begin as the principal components of f_v, brought to equal variance, the attention blocks as nothing.

        Nearly all the variance of an image encoder's patches is colour and light (here: 8 of 256 components); what
        makes a face somebody's has a hundredth of it. Behind a random map those components' gradients are as small,
        and nothing finer than hair and skin is learned for a long time.

        Args:
            patch_features: f_v of some hundred photos, [n, P, d_v].
        """
        rows = patch_features.flatten(0, 1).double()
        mean = rows.mean(0)
        variances, directions = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        # The least components are what rounding left; a floor keeps them from becoming noise of the same strength.
        scaled = directions / (variances.clamp_min(0) + 1e-4 * variances.sum()).sqrt()
        count = min(self.patch_in.out_features, self.patch_in.in_features)
        weight = scaled.flip(1)[:, :count].T
        self.patch_in.weight[:count] = weight.to(self.patch_in.weight)
        self.patch_in.bias[:count] = -(weight @ mean).to(self.patch_in.bias)
        for block in self.blocks:
            for last in (block.attention.to_out[0], block.feed_forward.net[2]):
                last.weight.zero_()
                last.bias.zero_()

    @torch.no_grad()
    def make_text_constant(self, embedding: Tensor) -> None:
        """Makes E_c this one embedding whoever is shown, for the ablation "without text embedding".

        With the token embedding of the identifier itself the text encoder reads what it would without IDAdapter, and
        the service needs to know nothing of it.

        Args:
            embedding: [d_t].
        """
        last = self.textual[-1]
        last.weight.zero_()
        last.bias.copy_(embedding)
        self.text_is_constant = True

    def idle_parameters(self) -> list[nn.Parameter]:
        """Parameters that an ablation leaves without a part to play, so that they do not train."""
        idle = list(self.textual.parameters()) if self.text_is_constant else []
        return idle if self.mixing else [*idle, *self.blocks.parameters(), *self.face_in.parameters()]

    def token_bias(self, photo_counts: Tensor, patches: int) -> Tensor:
        """The logarithm of how many equal tokens each token of E_r stands for: what attention adds to its logits.

        Args:
            photo_counts: [b, N].
            patches: P.

        Returns:
            [b, face_tokens + N * P].
        """
        logarithms = photo_counts.log()[:, :, None].expand(-1, -1, patches).flatten(1)
        return functional.pad(logarithms, (self.face_tokens, 0))


def _mean(values: Tensor, counts: Tensor | None) -> Tensor:
    """Mean over the photos, [b, N, width] -> [b, width]."""
    if counts is None:
        return values.mean(1)
    return (values * counts[..., None]).sum(1) / counts.sum(1, keepdim=True)
