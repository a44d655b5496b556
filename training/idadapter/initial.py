"""All parts with random weights: what a fresh run starts from, and what tests and dry runs use."""

from __future__ import annotations

from pathlib import Path

from .config import Config
from .faces.recognizer import FaceRecognizer
from .models.autoencoder import compression, make_autoencoder
from .models.clip import make_clip
from .models.identity_adapter import IdentityLayout, prefer_nearby
from .models.mixed_features import MixedFeatures
from .models.unet import make_unet
from .parts import (
    seeded,
    write_image_encoder,
    write_mixed_features,
    write_text_encoder,
    write_unet,
    write_vae,
)
from .tokenizer import train_tokenizer


def write_initial_parts(
    config: Config, parts: Path, captions: list[str], seed: int = 0, vocabulary_size: int | None = None
) -> None:
    """Writes every part with random weights of the configured shapes.

    Args:
        config: the run's.
        parts: folder to write to.
        captions: what the tokenizer learns its merges from.
        seed: of the weights.
        vocabulary_size: tokens that have an embedding, where more than the tokenizer learns from the captions.
    """
    seeded(seed)
    tokenizer = train_tokenizer(captions, config.clip.merges, config.clip.max_length)
    tokenizer.save_pretrained(str(parts / "tokenizer"))
    vae = make_autoencoder(config.autoencoder)
    write_vae(parts, vae)
    clip = make_clip(config.clip, tokenizer, vocabulary_size)
    write_text_encoder(parts, clip.text_model)
    write_image_encoder(parts, clip.vision_model)
    width = config.clip.text_width
    size = config.portrait_size // compression(vae)
    unet = make_unet(config.diffusion, config.autoencoder.latent_channels, size, width)
    if config.idadapter.aligned:
        prefer_nearby(unet, IdentityLayout(config.clip.patches, config.idadapter.face_tokens))
    write_unet(parts, unet)
    mixed = MixedFeatures(
        patch_width=config.clip.vision_width,
        face_width=FaceRecognizer.embedding_size,
        width=width,
        text_width=width,
        face_tokens=config.idadapter.face_tokens,
    )
    write_mixed_features(parts, mixed)
