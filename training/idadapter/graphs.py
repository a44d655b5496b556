"""The graphs of a bundle as PyTorch modules with their inputs and outputs (docs/bundle.md), ready to trace."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPVisionModel

from .models.autoencoder import Autoencoder, compression, decode, encode, side_state
from .models.clip import normalize_pixels
from .models.identity_adapter import predict
from .models.mixed_features import MixedFeatures
from .models.text_encoder import encode_text
from .models.unet import DEEP_FEATURES, deep_features
from .parts import read_image_encoder, read_mixed_features, read_text_encoder, read_unet, read_vae
from .tokenizer import load_tokenizer


class ImageEncoderGraph(nn.Module):
    """Faces [n, 3, S, S] in [0, 1] -> f_c [n, d_v], f_v [n, P, d_v]."""

    def __init__(self, model: CLIPVisionModel) -> None:
        """Wraps the vision transformer."""
        super().__init__()
        self.model = model

    def forward(self, faces: Tensor) -> tuple[Tensor, Tensor]:
        """Runs it on normalised pixels."""
        output = self.model(pixel_values=normalize_pixels(faces))
        return output.pooler_output, output.last_hidden_state[:, 1:]


class MixedFeaturesGraph(nn.Module):
    """Features of one person's n different photos -> E_r [1, M, d_r], its tokens' bias [1, M], E_c [1, d_t]."""

    def __init__(self, model: MixedFeatures) -> None:
        """Wraps MFF and P_textual."""
        super().__init__()
        self.model = model

    def forward(
        self, patch_features: Tensor, class_embedding: Tensor, face_embedding: Tensor, photo_counts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Adds and keeps a batch of one."""
        counts = photo_counts[None]
        tokens, embedding = self.model(patch_features[None], class_embedding[None], face_embedding[None], counts)
        return tokens, self.model.token_bias(counts, patch_features.shape[1]), embedding


class TextEncoderGraph(nn.Module):
    """Token ids, E_c and its place -> hidden states."""

    def __init__(self, model: CLIPTextModel) -> None:
        """Wraps the text transformer."""
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, identity_embedding: Tensor, identifier_position: Tensor) -> Tensor:
        """See `encode_text`."""
        return encode_text(self.model, input_ids, identity_embedding, identifier_position)


class UnetGraph(nn.Module):
    """The UNet with its adapters -> what it predicts, and what its last block is given (see `shallow_graph`)."""

    def __init__(self, model: UNet2DConditionModel) -> None:
        """Wraps the UNet."""
        super().__init__()
        self.model = model

    def forward(
        self,
        sample: Tensor,
        timestep: Tensor,
        encoder_hidden_states: Tensor,
        identity_tokens: Tensor,
        identity_token_bias: Tensor,
        identity_strength: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See `predict` and `deep_features`."""
        with deep_features(self.model) as deep:
            prediction = predict(
                self.model,
                sample,
                timestep,
                encoder_hidden_states,
                identity_tokens,
                identity_strength,
                identity_token_bias,
            )
        return prediction, deep[0]


class VaeEncoderGraph(nn.Module):
    """Pictures in [0, 1] -> latents of unit variance."""

    def __init__(self, model: Autoencoder) -> None:
        """Wraps the autoencoder."""
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """See `encode`."""
        return encode(self.model, image)


class VaeDecoderGraph(nn.Module):
    """Latents of unit variance -> pictures in [0, 1]."""

    def __init__(self, model: Autoencoder) -> None:
        """Wraps the autoencoder."""
        super().__init__()
        self.model = model

    def forward(self, latent: Tensor) -> Tensor:
        """See `decode`; clamped here."""
        return decode(self.model, latent).clamp(0, 1)


@dataclass(frozen=True)
class GraphSpec:
    """How one graph of a bundle is traced.

    Attributes:
        name: folder and graph.
        module: wrapper with the graph's inputs and outputs.
        tensors: state dict of the part, as stored.
        prefix: of the part's parameters inside the wrapper.
        inputs: example inputs by name; the first axis is free, one for all inputs of a graph.
        outputs: names of the outputs.
        free_tokens: inputs whose second axis is free too (all of one graph share it).
    """

    name: str
    module: nn.Module
    tensors: Mapping[str, Tensor]
    prefix: str
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    free_tokens: tuple[str, ...] = ()


def half_precision(module: nn.Module) -> nn.Module:
    """Rounds every parameter to what fp16 can hold, so that PyTorch and the bundle compute with equal numbers.

    Raises:
        ValueError: one is not finite, or too large for fp16.
    """
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(tensor.half().float())
            if not tensor.isfinite().all():
                raise ValueError(f"{name} has numbers that half precision cannot hold (65504 at most)")
    return module.eval().requires_grad_(False)


def graph_specs(parts: Path, references: int) -> Iterator[GraphSpec]:
    """Every trained graph of a folder of parts, ready to trace, one after another: a part is read when its turn comes.

    Args:
        parts: a run's parts, or a bundle.
        references: N.

    Raises:
        FileNotFoundError: a part is missing.
    """
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    image_encoder = half_precision(read_image_encoder(parts))
    vision = image_encoder.config
    patches = (vision.image_size // vision.patch_size) ** 2
    yield GraphSpec(
        "image_encoder", ImageEncoderGraph(image_encoder), image_encoder.state_dict(), "model.",
        {"faces": normal(2, 3, vision.image_size, vision.image_size).sigmoid()},
        ("class_embedding", "patch_features"),
    )  # fmt: skip
    del image_encoder
    mixed = half_precision(read_mixed_features(parts))
    tokens, width = references * patches + mixed.face_tokens, mixed.config["width"]
    yield GraphSpec(
        "mixed_features", MixedFeaturesGraph(mixed), mixed.state_dict(), "model.",
        {
            "patch_features": normal(references, patches, vision.hidden_size),
            "class_embedding": normal(references, vision.hidden_size),
            "face_embedding": nn.functional.normalize(normal(references, mixed.config["face_width"]), dim=1),
            "photo_counts": torch.arange(references, 0, -1).float(),
        },
        ("identity_tokens", "identity_token_bias", "identity_embedding"),
    )  # fmt: skip
    del mixed
    text_encoder = half_precision(read_text_encoder(parts))
    text, length = text_encoder.config, load_tokenizer(parts / "tokenizer").model_max_length
    yield GraphSpec(
        "text_encoder", TextEncoderGraph(text_encoder), text_encoder.state_dict(), "model.",
        {
            "input_ids": torch.randint(0, text.vocab_size, (2, length), generator=random),
            "identity_embedding": normal(2, text.hidden_size),
            "identifier_position": torch.tensor([-1, 5]),
        },
        ("hidden_states",),
    )  # fmt: skip
    del text_encoder
    unet = half_precision(read_unet(parts))
    latent = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    yield GraphSpec(
        "unet", UnetGraph(unet), unet.state_dict(), "model.",
        {
            "sample": normal(2, *latent),
            "timestep": torch.tensor([999.0, 20.0]),
            "encoder_hidden_states": normal(2, length, text.hidden_size),
            "identity_tokens": normal(2, tokens, width),
            "identity_token_bias": normal(2, tokens),
            "identity_strength": torch.tensor([1.0, 0.3]),
        },
        ("prediction", DEEP_FEATURES), ("identity_tokens", "identity_token_bias"),
    )  # fmt: skip
    del unet
    vae = half_precision(read_vae(parts))
    image_size = latent[1] * compression(vae)
    state, prefix = side_state(vae, "encoder")
    yield GraphSpec(
        "vae_encoder", VaeEncoderGraph(vae), state, f"model.{prefix}",
        {"image": normal(2, 3, image_size, image_size).sigmoid()}, ("latent",),
    )  # fmt: skip
    state, prefix = side_state(vae, "decoder")
    yield GraphSpec(
        "vae_decoder", VaeDecoderGraph(vae), state, f"model.{prefix}", {"latent": normal(2, *latent)}, ("image",)
    )
