"""A small CLIP (Radford et al. 2021) of `transformers`: the paper's image encoder and text encoder."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig as TransformersClipConfig
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTokenizer, CLIPVisionConfig, CLIPVisionModel

from ..config import ClipConfig

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
"""CLIP's own constants (Radford et al. 2021), which any Stable Diffusion sized image encoder expects."""


def text_config(config: ClipConfig, vocabulary_size: int, **special_tokens: int) -> CLIPTextConfig:
    """Shape of the text transformer.

    Args:
        config: the run's.
        vocabulary_size: tokens of the tokenizer.
        special_tokens: `bos_token_id`, `eos_token_id` and `pad_token_id`, where other than CLIP's.
    """
    return CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=config.text_width,
        intermediate_size=4 * config.text_width,
        projection_dim=config.projection,
        num_hidden_layers=config.text_layers,
        num_attention_heads=config.text_heads,
        max_position_embeddings=config.max_length,
        **special_tokens,
    )


def _text_config_for(config: ClipConfig, tokenizer: CLIPTokenizer, vocabulary_size: int | None) -> CLIPTextConfig:
    return text_config(
        config,
        vocabulary_size or len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


TOKEN_SPREAD = 0.5
"""Standard deviation of a new text encoder's token embeddings: beside it, what the layers add is context."""


def make_text_encoder(config: ClipConfig, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """A text transformer with random weights for a tokenizer's vocabulary, which a UNet learns to read as it is.

    Random features tell all words of the captions apart, wherever they stand. A text encoder that trains along with
    the UNet unlearns that: what the UNet cannot read yet is noise to it, and within two hundred steps the fastest way
    to less of that was to make all tokens the same (docs/training_log.md, seventh session). Stable Diffusion's
    is frozen too.
    """
    model = CLIPTextModel(_text_config_for(config, tokenizer, None))
    embeddings = model.get_input_embeddings().weight
    with torch.no_grad():
        embeddings.mul_(TOKEN_SPREAD / embeddings.std())
    return model


def make_clip(config: ClipConfig, tokenizer: CLIPTokenizer, vocabulary_size: int | None = None) -> CLIPModel:
    """A CLIP with random weights for this vocabulary.

    Args:
        config: the run's.
        tokenizer: whose special tokens the text transformer knows.
        vocabulary_size: tokens that have an embedding; the tokenizer's by default.
    """
    text = _text_config_for(config, tokenizer, vocabulary_size)
    vision = CLIPVisionConfig(
        hidden_size=config.vision_width,
        intermediate_size=4 * config.vision_width,
        projection_dim=config.projection,
        num_hidden_layers=config.vision_layers,
        num_attention_heads=config.vision_heads,
        image_size=config.image_size,
        patch_size=config.patch_size,
    )
    return CLIPModel(
        TransformersClipConfig(
            text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=config.projection
        )
    )


def resized_positions(state: dict[str, Tensor], patches: int) -> dict[str, Tensor]:
    """A vision transformer's weights for another number of patches: its position embeddings, interpolated.

    Args:
        state: of a `CLIPVisionModel`; position 0 is the class token's.
        patches: P wanted, a square number.

    Returns:
        the same weights, but for the position embeddings where P differs.
    """
    name = next(key for key in state if key.endswith("position_embedding.weight"))
    first, grid = state[name][:1], state[name][1:]
    if len(grid) == patches:
        return state
    side, wanted = math.isqrt(len(grid)), math.isqrt(patches)
    picture = grid.T.reshape(1, -1, side, side)
    picture = functional.interpolate(picture, size=(wanted, wanted), mode="bicubic")
    return {**state, name: torch.cat([first, picture.flatten(2)[0].T])}


class PatchDecoder(nn.Module):
    """Tells a patch's pixels or latents from its features, one linear map for all patches; serves training alone.

    Contrast teaches an image encoder what captions say, which is little. What its patches' features have forgotten of a
    face no adapter can bring back.
    """

    def __init__(self, width: int, patch_size: int, channels: int = 3) -> None:
        """Makes the map from `width` features to a patch of `channels` `patch_size`^2 values."""
        super().__init__()
        self.patch_size = patch_size
        self.pixels = nn.Linear(width, channels * patch_size**2)

    @torch.no_grad()
    def fit(self, patch_features: Tensor, pictures: Tensor) -> None:
        """Begins as what tells `pictures` [n, c, s, s] from features [n, P, d] best, by ridge regression.

        In float64, with a ridge of 1e-5 of the features' mean variance: the same to float32's last digit every time.
        """
        values = functional.unfold(pictures, self.patch_size, stride=self.patch_size).transpose(1, 2)
        rows, wanted = patch_features.flatten(0, 1).double(), values.flatten(0, 1).double()
        mean, wanted_mean = rows.mean(0), wanted.mean(0)
        square = (rows - mean).T @ (rows - mean)
        square += 1e-5 * square.diagonal().mean() * torch.eye(len(square), dtype=square.dtype)
        weight = torch.linalg.solve(square, (rows - mean).T @ (wanted - wanted_mean))
        self.pixels.weight.copy_(weight.T)
        self.pixels.bias.copy_(wanted_mean - mean @ weight)

    def forward(self, patch_features: Tensor) -> Tensor:
        """Features [n, P, d] -> normalised pixels [n, 3, s, s], or latents."""
        side = math.isqrt(patch_features.shape[1])
        patches = self.pixels(patch_features).transpose(1, 2)
        size = side * self.patch_size
        return functional.fold(patches, (size, size), self.patch_size, stride=self.patch_size)


def normalize_pixels(images: Tensor) -> Tensor:
    """RGB [n, 3, s, s] in [0, 1] to what CLIP's vision transformer was trained on."""
    mean = torch.tensor(PIXEL_MEAN).view(1, 3, 1, 1).to(images.device, non_blocking=True)
    std = torch.tensor(PIXEL_STD).view(1, 3, 1, 1).to(images.device, non_blocking=True)
    return (images - mean) / std


def image_features(encoder: CLIPVisionModel, crops: Tensor) -> tuple[Tensor, Tensor]:
    """f_v [n, P, d_v] and f_c [n, d_v] of crops, RGB [n, 3, s, s] in [0, 1]."""
    output = encoder(pixel_values=normalize_pixels(crops))
    return output.last_hidden_state.float()[:, 1:], output.pooler_output.float()
