"""Command line: `python -m idadapter STAGE --config configs/mini.toml --run ../runs/mini`, then `export`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from transformers import CLIPTextModel, CLIPTokenizer

from .base_model import read_base_model
from .calibration import SAMPLE_PHOTO
from .config import Config, read_config
from .data.latents import Latents
from .data.portraits import open_portraits
from .export import export_bundle, replace_model_card
from .faces.detector import FaceDetector
from .faces.recognizer import FaceRecognizer
from .fixture_reference import read_photo
from .loop import LoopConfig, Stage, train
from .models.autoencoder import compression
from .models.clip import make_text_encoder, resized_positions
from .models.idadapter import IdAdapterModel
from .models.identity_adapter import IdentityLayout, open_gates, prefer_nearby, renew_adapters
from .models.mixed_features import MixedFeatures
from .models.second_recognizer import open_second_recognizer
from .models.unet import make_unet, require_latents, with_further_channels, with_pooled_text
from .noise_schedule import Diffusion, read_noise_schedule
from .parts import (
    copy_parts,
    has_part,
    read_image_encoder,
    read_mixed_features,
    read_text_encoder,
    read_unet,
    read_vae,
    seeded,
)
from .redrawn import open_redrawn
from .stages.autoencoder import AutoencoderStage
from .stages.clip import ClipStage, open_tokenizer
from .stages.decoder import DecoderStage
from .stages.diffusion import DiffusionStage, TextToImage
from .stages.idadapter import IdAdapterStage
from .stages.patches import PatchesStage
from .tokenizer import IDENTIFIER

STAGES = ("autoencoder", "clip", "patches", "diffusion", "idadapter", "decoder")


def main() -> None:
    """Parses the command line, and runs one stage or exports."""
    parser = argparse.ArgumentParser(prog="idadapter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in (*STAGES, "export"):
        command = commands.add_parser(name)
        command.add_argument("--config", type=Path, required=True)
        command.add_argument("--run", type=Path, required=True, help="folder where stages find each other's results")
        if name == "export":
            command.add_argument("--bundle", type=Path, required=True, help="folder to write, replaced as a whole")
            command.add_argument("--model-card", type=Path, help="becomes the bundle's README.md")
            command.add_argument(
                "--fp16", action="store_true", help="add the UNet in half precision, which the service runs on CUDA"
            )
            command.add_argument(
                "--calibration-photo", type=Path, default=SAMPLE_PHOTO, help="one face, for the 8-bit graph"
            )
        else:
            command.add_argument("--cache", type=Path, help="folder of derived data; default: cache beside the run")
            command.add_argument("--start-from", type=Path, help="bundle whose weights a run without parts starts from")
            command.add_argument("--minutes", type=float, help="stop with a checkpoint after so many minutes")
            command.add_argument("--stop-at", type=int, help="stop with a checkpoint at this step")
    base = commands.add_parser("base", help="read a Stable Diffusion base model into a new run's parts")
    base.add_argument("--config", type=Path, required=True)
    base.add_argument("--run", type=Path, required=True)
    base.add_argument("--base", type=Path, required=True, help="folder in diffusers' layout")
    base.add_argument("--image-encoder", type=Path, required=True, help="folder of a CLIP model of transformers")
    card = commands.add_parser("card", help="replace a bundle's model card")
    card.add_argument("--bundle", type=Path, required=True)
    card.add_argument("--model-card", type=Path, required=True)
    card.add_argument("--config", type=Path, help="take version, description and defaults from it too")
    arguments = parser.parse_args()
    if arguments.command == "card":
        settings = None if arguments.config is None else read_config(arguments.config).bundle
        replace_model_card(arguments.bundle, arguments.model_card, settings)
        return
    config = read_config(arguments.config)
    parts = arguments.run / "parts"
    if arguments.command == "base":
        read_base_model(arguments.base, arguments.image_encoder, parts, config.portrait_size)
        return
    if arguments.command == "export":
        photo = read_photo(arguments.calibration_photo)
        export_bundle(
            parts,
            arguments.bundle,
            config.bundle,
            config.idadapter.references,
            arguments.model_card,
            photo,
            arguments.fp16,
        )
        return
    if arguments.start_from is not None:
        start_parts(arguments.start_from, parts)
    stage, loop = make_stage(
        arguments.command, config, arguments.run, arguments.cache or arguments.run.parent / "cache"
    )
    train(stage, loop, arguments.run / stage.name, parts, arguments.stop_at, arguments.minutes)


def start_parts(bundle: Path, parts: Path) -> None:
    """Gives a run without parts a bundle's (`copy_parts`); one that has some goes on from these, and says so.

    Raises:
        FileNotFoundError: the bundle lacks a part.
    """
    try:
        copy_parts(bundle, parts)
    except FileExistsError:
        # Of torchrun's processes one.
        if os.environ.get("RANK", "0") == "0":
            print(f"{parts} is there already: the run goes on from it, --start-from {bundle} is ignored", flush=True)


def open_text_encoder(parts: Path, config: Config, tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """The run's text encoder; one with seeded random weights in a run that has none (`make_text_encoder`)."""
    if has_part(parts, "text_encoder"):
        return read_text_encoder(parts)
    seeded(config.clip.loop.seed)
    return make_text_encoder(config.clip, tokenizer)


def make_stage(name: str, config: Config, run: Path, cache: Path) -> tuple[Stage, LoopConfig]:
    """A stage with everything it needs from the stages before it, and its loop.

    Args:
        name: of the stage.
        config: of the run.
        run: the run's folder.
        cache: folder of derived data.

    Raises:
        FileNotFoundError: an earlier stage has not run.
        ValueError: what earlier stages made does not fit the configuration, or one another.
    """
    portraits = open_portraits(cache, config.portrait_size)
    parts = run / "parts"
    if name == "autoencoder":
        stage = AutoencoderStage(config.autoencoder, portraits, FaceRecognizer.from_package())
        if has_part(parts, "vae_encoder"):
            stage.start_from(read_vae(parts))
        elif config.autoencoder.freeze_encoder:
            raise ValueError(
                f"freeze_encoder keeps an encoder, but {parts} has none: name a bundle with --start-from, or "
                "train one without it"
            )
        return stage, config.autoencoder.loop
    tokenizer = open_tokenizer(run, config.clip, portraits)
    if name == "clip":
        if config.clip.freeze_image and not has_part(parts, "image_encoder"):
            raise ValueError(
                f"freeze_image keeps the run's image_encoder, but {parts} has none: name a bundle with --start-from"
            )
        stage = ClipStage(config.clip, portraits, tokenizer)
        if has_part(parts, "image_encoder"):
            vision = resized_positions(read_image_encoder(parts).state_dict(), config.clip.patches)
            stage.module.clip.vision_model.load_state_dict(vision)
        if has_part(parts, "text_encoder") or config.clip.freeze_text or config.clip.drift_weight:
            text_encoder = open_text_encoder(parts, config, tokenizer)
            stage.module.clip.text_model.load_state_dict(text_encoder.state_dict())
            if config.clip.drift_weight:
                stage.hold_text(text_encoder)
        return stage, config.clip.loop
    vae = read_vae(parts)
    if name == "patches":
        encoder, mixed_features = read_image_encoder(parts), read_mixed_features(parts)
        seeded(config.patches.loop.seed)
        latents = Latents(cache, vae, portraits)
        return PatchesStage(config.patches, encoder, mixed_features, portraits, latents), config.patches.loop
    if name == "decoder":
        settings, latents = config.decoder, Latents(cache, vae, portraits)
        redrawn = open_redrawn(cache, parts, config.idadapter, tokenizer, portraits, latents, settings.redrawn)
        diffusion = Diffusion(read_noise_schedule(parts))
        recognizer = FaceRecognizer.from_package()
        second = open_second_recognizer(cache, portraits)[0] if settings.second_identity_weight else None
        stage = DecoderStage(settings, vae, portraits, latents, redrawn, diffusion, recognizer, second)
        return stage, settings.loop
    text_encoder = open_text_encoder(parts, config, tokenizer)
    latent_size = config.portrait_size // compression(vae)
    if name == "diffusion":
        seeded(config.diffusion.loop.seed)
        text_width = text_encoder.config.hidden_size
        unet = (
            read_unet(parts)
            if has_part(parts, "unet")
            else make_unet(config.diffusion, vae.config.latent_channels, latent_size, text_width)
        )
        unet = with_further_channels(unet, vae.config.latent_channels)
        require_latents(unet, vae.config.latent_channels, latent_size)
        unet = with_pooled_text(unet) if config.diffusion.pooled_text else unet
        model = TextToImage(unet, text_encoder)
        latents = Latents(cache, vae, portraits)
        return DiffusionStage(config.diffusion, model, tokenizer, portraits, latents, parts), config.diffusion.loop
    recognizer = FaceRecognizer.from_package()
    seeded(config.idadapter.loop.seed)
    width = text_encoder.config.hidden_size
    vision = read_image_encoder(parts).config
    mixed_features = (
        read_mixed_features(parts)
        if has_part(parts, "mixed_features")
        else MixedFeatures(
            patch_width=vision.hidden_size,
            face_width=recognizer.head.out_features,
            width=width,
            text_width=width,
            face_tokens=config.idadapter.face_tokens,
            mixing=config.idadapter.mixing,
        )
    )
    if not config.idadapter.text_embedding:
        identifier = tokenizer.convert_tokens_to_ids(IDENTIFIER + "</w>")
        mixed_features.make_text_constant(text_encoder.get_input_embeddings().weight[identifier])
    unet = read_unet(parts)
    if config.idadapter.joint:
        unet = with_further_channels(unet, vae.config.latent_channels)
    require_latents(unet, vae.config.latent_channels, latent_size)
    # Where the base stays frozen, nothing would train what is new of it.
    unet = with_pooled_text(unet) if config.diffusion.pooled_text and config.idadapter.joint else unet
    if not has_part(parts, "mixed_features"):
        renew_adapters(unet)
    if config.idadapter.aligned:
        prefer_nearby(unet, IdentityLayout((vision.image_size // vision.patch_size) ** 2, mixed_features.face_tokens))
    if config.idadapter.gate_start:
        open_gates(unet, config.idadapter.gate_start)
    image_encoder = read_image_encoder(parts) if config.idadapter.train_image_encoder else None
    model = IdAdapterModel(unet, text_encoder, mixed_features, config.idadapter.joint, image_encoder)
    detector = FaceDetector.from_package()
    latents = Latents(cache, vae, portraits)
    stage = IdAdapterStage(config.idadapter, model, tokenizer, portraits, latents, parts, cache, recognizer, detector)
    if not has_part(parts, "mixed_features"):
        stage.fit_features()
    return stage, config.idadapter.loop


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()
