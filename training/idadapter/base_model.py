"""Reads a Stable Diffusion 1.x or 2.x base model in diffusers' layout into a run's folder of parts."""

from __future__ import annotations

import shutil
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer, CLIPVisionModel

from .models.autoencoder import compression
from .models.identity_adapter import add_identity_adapters
from .noise_schedule import SCHEDULER_FILE, read_noise_schedule
from .parts import write_image_encoder, write_text_encoder, write_unet, write_vae
from .tokenizer import IDENTIFIER

FOLDERS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


def read_base_model(base: Path, image_encoder: Path, parts: Path, portrait_size: int) -> None:
    """Writes every part but `mixed_features`, which the stage `idadapter` makes.

    Args:
        base: folder in diffusers' layout: `unet/`, `vae/`, `text_encoder/`, `tokenizer/` and `scheduler/`.
        image_encoder: folder of a CLIP model of transformers, for example clip-vit-large-patch14.
        parts: where to; must not exist yet.
        portrait_size: the configuration's.

    Raises:
        FileExistsError: there are parts already.
        FileNotFoundError: the base lacks a folder, or there is no image encoder.
        ValueError: the base makes pictures of another size, predicts what is not supported, or has no token for the
            identifier.
    """
    if parts.exists():
        raise FileExistsError(f"{parts} is there already; a base model begins a new run")
    missing = [name for name in FOLDERS if not (base / name).is_dir()]
    if missing:
        raise FileNotFoundError(
            f"{base} lacks {', '.join(missing)}; it must be a Stable Diffusion in diffusers' layout"
        )
    if not (image_encoder / "config.json").exists():
        raise FileNotFoundError(f"{image_encoder} is no CLIP model: it has no config.json")
    building = parts.with_name(f"{parts.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    (building / SCHEDULER_FILE).parent.mkdir(parents=True)
    shutil.copy(base / SCHEDULER_FILE, building / SCHEDULER_FILE)
    read_noise_schedule(building)
    tokenizer = CLIPTokenizer.from_pretrained(str(base / "tokenizer"))
    if tokenizer.convert_tokens_to_ids(f"{IDENTIFIER}</w>") in (None, tokenizer.unk_token_id):
        raise ValueError(f"the tokenizer of {base} has no token for the identifier {IDENTIFIER}")
    tokenizer.save_pretrained(str(building / "tokenizer"))
    vae = AutoencoderKL.from_pretrained(str(base / "vae"))
    write_vae(building, vae)
    unet = with_closed_adapters(UNet2DConditionModel.from_pretrained(str(base / "unet")))
    size = unet.config.sample_size * compression(vae)
    if size != portrait_size:
        raise ValueError(f"{base} makes pictures of {size} pixels; set portrait_size = {size} in the configuration")
    write_unet(building, unet)
    del unet
    write_text_encoder(building, CLIPTextModel.from_pretrained(str(base / "text_encoder")).float())
    write_image_encoder(building, CLIPVisionModel.from_pretrained(str(image_encoder)).float())
    building.rename(parts)


def with_closed_adapters(base: UNet2DConditionModel) -> UNet2DConditionModel:
    """A copy of a UNet with identity adapters, which are closed and so change nothing yet.

    diffusers' own `from_pretrained(attention_type="gated")` would leave their weights uninitialised.

    Raises:
        ValueError: the UNet has adapters already, or something else than Stable Diffusion's has not.
    """
    # Without diffusers' own notes: what they say was left at its default stays there, and published Stable Diffusions
    # say nothing of `attention_type`.
    config = {name: value for name, value in base.config.items() if not name.startswith("_")}
    unet = add_identity_adapters(UNet2DConditionModel.from_config({**config, "attention_type": "gated"}))
    missing, unexpected = unet.load_state_dict(base.state_dict(), strict=False)
    strange = [*unexpected, *(name for name in missing if ".fuser." not in name)]
    if strange or not missing:
        raise ValueError(f"this UNet is not Stable Diffusion's: {strange[:3] or 'it has adapters already'}")
    return unet
