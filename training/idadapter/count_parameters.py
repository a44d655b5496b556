"""How many parameters train, part by part, beside the paper's number; no weights are made.

python -m idadapter.count_parameters --config configs/sd21.toml
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import CLIPTextModel

from .config import Config, read_config
from .faces.recognizer import FaceRecognizer
from .models.clip import text_config
from .models.idadapter import IdAdapterModel
from .models.mixed_features import MixedFeatures
from .models.unet import make_unet

PAPER_TRAINED = 262e6
"""Trainable parameters at Stable Diffusion 2.1's size (arXiv 2403.13535)."""

BYTES_AND_SPECIAL_TOKENS = 2 * 256 + 2
"""Tokens of a CLIP vocabulary beside its merges."""


def vocabulary_size(config: Config) -> int:
    """Tokens of a vocabulary with every merge that the configuration allows."""
    return BYTES_AND_SPECIAL_TOKENS + config.clip.merges


@dataclass(frozen=True)
class PartCount:
    """Parameters of one part of the model."""

    part: str
    trained: int
    frozen: int


def make_model_shapes(config: Config) -> IdAdapterModel:
    """The model of the IDAdapter stage on torch's meta device: shapes without memory."""
    width = config.clip.text_width
    with torch.device("meta"):
        unet = make_unet(config.diffusion, config.autoencoder.latent_channels, config.portrait_size // 8, width)
        tokens = vocabulary_size(config)
        text_encoder = CLIPTextModel(text_config(config.clip, tokens, bos_token_id=tokens - 2, eos_token_id=tokens - 1))
        mixed_features = MixedFeatures(
            patch_width=config.clip.vision_width,
            face_width=FaceRecognizer.embedding_size,
            width=width,
            text_width=width,
            face_tokens=config.idadapter.face_tokens,
        )
        return IdAdapterModel(unet, text_encoder, mixed_features, config.idadapter.joint)


def part_of(name: str) -> str:
    """The part of the method that a parameter belongs to, by its name in `IdAdapterModel`."""
    if name.startswith("mixed_features.textual."):
        return "P_textual (equation 6)"
    if name.startswith("mixed_features."):
        return "MFF (equations 3 to 5)"
    if ".fuser." in name:
        return "adapters (equation 7)"
    if ".attn2.to_k." in name or ".attn2.to_v." in name:
        return "cross-attention keys and values"
    return "rest of the UNet" if name.startswith("unet.") else "text encoder"


def count_parameters(model: IdAdapterModel) -> list[PartCount]:
    """Trained and frozen parameters of every part, the largest trained part first."""
    counts: dict[str, list[int]] = {}
    for name, parameter in model.named_parameters():
        count = counts.setdefault(part_of(name), [0, 0])
        count[0 if parameter.requires_grad else 1] += parameter.numel()
    found = [PartCount(part, trained, frozen) for part, (trained, frozen) in counts.items()]
    return sorted(found, key=lambda count: -count.trained)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    config = read_config(parser.parse_args().config)
    counts = count_parameters(make_model_shapes(config))
    print(f"{config.name:34} {'trained':>12} {'frozen':>12}")
    for count in counts:
        print(f"{count.part:34} {count.trained / 1e6:10.2f} M {count.frozen / 1e6:10.2f} M")
    trained, frozen = (sum(getattr(count, kind) for count in counts) for kind in ("trained", "frozen"))
    print(f"{'in all':34} {trained / 1e6:10.2f} M {frozen / 1e6:10.2f} M")
    print(f"{'paper, at Stable Diffusion 2.1':34} {PAPER_TRAINED / 1e6:10.2f} M")


if __name__ == "__main__":
    main()
