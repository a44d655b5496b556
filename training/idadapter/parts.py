"""The model's parts on disk: a folder each with `config.json` and `model.safetensors`, as in a bundle.

A run's `parts/` and a bundle (docs/bundle.md) have the same layout, so training starts from either.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from .models.autoencoder import Autoencoder, side_state
from .models.identity_adapter import IdentityLayout, add_identity_adapters, prefer_nearby
from .models.mixed_features import MixedFeatures
from .noise_schedule import SCHEDULER_FILE

TRAINED_PARTS = ("vae_encoder", "vae_decoder", "image_encoder", "text_encoder", "mixed_features", "unet")
"""Folders of what training makes; a bundle has the converted face models beside them."""


def has_part(root: Path, name: str) -> bool:
    """Whether a part's weights are there."""
    return (root / name / "model.safetensors").exists()


def copy_parts(bundle: Path, parts: Path, names: Iterable[str] = TRAINED_PARTS) -> None:
    """Copies the trained parts, the tokenizer and the schedule of a bundle into a new run's folder of parts.

    The folder is there when it is whole. Of processes that copy at once one does, and the others wait for it.

    Args:
        bundle: folder of a bundle, or of another run's parts.
        parts: folder to write; must not exist yet.
        names: which parts, all by default.

    Raises:
        FileExistsError: there are parts already.
        FileNotFoundError: `bundle` lacks one of them; nothing is written then.
    """
    names = list(names)
    if parts.exists():
        raise FileExistsError(f"{parts} is there already; copied parts begin a new run")
    missing = [name for name in names if not has_part(bundle, name)]
    missing += [] if (bundle / "tokenizer").is_dir() else ["tokenizer"]
    if missing:
        raise FileNotFoundError(
            f"{bundle} lacks {', '.join(missing)}; name a bundle, or parts of a run whose stages made them"
        )
    parts.parent.mkdir(parents=True, exist_ok=True)
    # The lock goes with the process, so that a killed one leaves nothing that others would wait for.
    lock = os.open(parts.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not parts.exists():
            _copy_whole(bundle, parts, names)
    finally:
        os.close(lock)


def _copy_whole(bundle: Path, parts: Path, names: list[str]) -> None:
    building = parts.with_name(f"{parts.name}.building")
    shutil.rmtree(building, ignore_errors=True)
    for name in names:
        state, config = read_part(bundle, name)
        write_part(building, name, state, config)
    shutil.copytree(bundle / "tokenizer", building / "tokenizer")
    if (bundle / SCHEDULER_FILE).exists():
        (building / SCHEDULER_FILE).parent.mkdir()
        shutil.copy(bundle / SCHEDULER_FILE, building / SCHEDULER_FILE)
    building.rename(parts)


def write_part(root: Path, name: str, state: dict[str, Tensor], config: dict[str, Any]) -> None:
    """Writes one part in fp32."""
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True, default=str) + "\n")
    partial = folder / "model.partial.safetensors"
    save_file({key: value.detach().cpu().float().contiguous() for key, value in state.items()}, partial)
    partial.rename(folder / "model.safetensors")


def read_part(root: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A part's weights, in fp32, and its configuration.

    Raises:
        FileNotFoundError: the part is missing.
    """
    folder = root / name
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(f"{folder}/model.safetensors is missing; run the stage that makes it first")
    state = {key: value.float() for key, value in load_file(folder / "model.safetensors").items()}
    return state, json.loads((folder / "config.json").read_text())


def _load(module: nn.Module, state: dict[str, Tensor], assign: bool = False) -> None:
    missing, unexpected = module.load_state_dict(state, strict=False, assign=assign)
    # Buffers that follow from the configuration (position ids) are not stored.
    missing = [name for name in missing if not name.endswith("position_ids")]
    if missing or unexpected:
        raise ValueError(f"weights do not fit: missing {missing[:3]}, unexpected {unexpected[:3]}")


def write_vae(root: Path, vae: Autoencoder) -> None:
    """Writes the autoencoder as `vae_encoder` and `vae_decoder`."""
    # Of what diffusers lists as left at its defaults it would read the defaults again, though the scaling factor has
    # been measured since.
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    config["_class_name"] = type(vae).__name__
    for side in ("encoder", "decoder"):
        write_part(root, f"vae_{side}", side_state(vae, side)[0], config)


def read_vae(root: Path) -> Autoencoder:
    """The autoencoder, frozen."""
    sides = {side: read_part(root, f"vae_{side}") for side in ("encoder", "decoder")}
    config = sides["encoder"][1]
    kind = AutoencoderKL if config.get("_class_name") == "AutoencoderKL" else AutoencoderDC
    vae = kind.from_config(config)
    _load(
        vae, {f"{side_state(vae, side)[1]}{name}": x for side, (state, _) in sides.items() for name, x in state.items()}
    )
    return vae.eval().requires_grad_(False)


def write_unet(root: Path, unet: UNet2DConditionModel) -> None:
    """Writes the UNet with its adapters."""
    write_part(root, "unet", unet.state_dict(), dict(unet.config))


def read_unet(root: Path) -> UNet2DConditionModel:
    """The UNet with identity adapters; every parameter takes gradients."""
    state, config = read_part(root, "unet")
    layout = config.pop("identity_layout", None)
    # Without memory for weights that are replaced at once: Stable Diffusion's are 4 GB.
    with torch.device("meta"):
        unet = add_identity_adapters(UNet2DConditionModel.from_config(config))
    _load(unet, state, assign=True)
    if layout is not None:
        prefer_nearby(unet, IdentityLayout(*layout))
    return unet


def write_text_encoder(root: Path, text_encoder: CLIPTextModel) -> None:
    """Writes the text encoder."""
    write_part(root, "text_encoder", text_encoder.state_dict(), text_encoder.config.to_dict())


def read_text_encoder(root: Path) -> CLIPTextModel:
    """The text encoder; every parameter takes gradients."""
    state, config = read_part(root, "text_encoder")
    model = CLIPTextModel(CLIPTextConfig.from_dict(config))
    _load(model, state)
    return model


def write_image_encoder(root: Path, image_encoder: CLIPVisionModel) -> None:
    """Writes the image encoder."""
    write_part(root, "image_encoder", image_encoder.state_dict(), image_encoder.config.to_dict())


def read_image_encoder(root: Path) -> CLIPVisionModel:
    """The image encoder, frozen."""
    state, config = read_part(root, "image_encoder")
    model = CLIPVisionModel(CLIPVisionConfig.from_dict(config))
    _load(model, state)
    return model.eval().requires_grad_(False)


def write_mixed_features(root: Path, module: MixedFeatures) -> None:
    """Writes MFF and P_textual."""
    write_part(root, "mixed_features", module.state_dict(), module.config)


def read_mixed_features(root: Path) -> MixedFeatures:
    """MFF and P_textual; every parameter takes gradients."""
    state, config = read_part(root, "mixed_features")
    # Parts written before there was a choice have it not.
    module = MixedFeatures(**{"face_in_patches": False, **config})
    _load(module, state)
    return module


def seeded(seed: int) -> None:
    """Seeds the initial weights of what is made next."""
    torch.manual_seed(seed)
