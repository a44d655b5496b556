"""Latents are encoded when they are first asked for, are the picture's, and are kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idadapter.config import Config
from idadapter.data.latents import Latents, fingerprint
from idadapter.data.portraits import Portraits
from idadapter.data.vision_crops import to_tensor
from idadapter.models.autoencoder import encode, make_autoencoder
from idadapter.parts import read_vae


def test_latents_are_those_of_the_photo_its_mirror_image_and_its_rendition(
    parts: Path, portraits: Portraits, tmp_path: Path
):
    latents = Latents(tmp_path, read_vae(parts), portraits)
    rows, variants = np.array([5, 2, 2, 2, 5]), np.array([0, 0, 1, 2, 0])
    given = latents(rows, variants)
    pictures = [portraits.photos[5], portraits.photos[2], portraits.photos[2][:, ::-1], portraits.renditions[2]]
    with torch.no_grad():
        wanted = encode(latents.vae, to_tensor([np.ascontiguousarray(p) for p in pictures]))
    # Kept in half precision, and on some processors encoded in bfloat16.
    assert (given[:4] - wanted).abs().max() < 0.05 and torch.equal(given[4], given[0])
    assert not torch.equal(given[1], given[2])


def test_latents_are_kept_for_the_next_process_and_nothing_else_is_encoded(
    parts: Path, portraits: Portraits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    first = Latents(tmp_path, read_vae(parts), portraits)
    rows = np.array([1, 3])
    given = first(rows, np.array([0, 1]))
    assert first.kept["known"].sum() == 2 and len(list(tmp_path.iterdir())) == 1
    second = Latents(tmp_path, read_vae(parts), portraits)
    encoded = []
    monkeypatch.setattr(
        "idadapter.data.latents.encode", lambda vae, images: (encoded.append(len(images)), encode(vae, images))[1]
    )
    assert torch.equal(second(rows, np.array([0, 1])), given) and encoded == []
    # One place of three is new, asked for twice.
    second(np.array([1, 3, 3]), np.array([0, 0, 0]))
    assert encoded == [1]
    assert first.kept["known"].sum() == 3, "both have the same file open"


def test_other_weights_have_other_latents(parts: Path, portraits: Portraits, tmp_path: Path):
    vae = read_vae(parts)
    Latents(tmp_path, vae, portraits)(np.array([0]), np.array([0]))
    with torch.no_grad():
        next(vae.encoder.parameters()).add_(0.1)
    assert not Latents(tmp_path, vae, portraits).kept["known"].any()


@pytest.mark.parametrize("kind", ["dc", "kl"])
@torch.no_grad()
def test_whatever_makes_latents_changes_their_name_and_nothing_else_does(config: Config, kind: str):
    torch.manual_seed(0)
    vae = make_autoencoder(replace(config.autoencoder, kind=kind, encoder_layers=[1, 1, 1, 1]))
    images = torch.rand(1, 3, 64, 64)
    for name, parameter in vae.named_parameters():
        latents, key = encode(vae, images), fingerprint(vae)
        parameter.add_(0.1)
        makes_them = name.startswith(("encoder.", "quant_conv."))
        assert (fingerprint(vae) != key) == makes_them, name
        assert makes_them or torch.equal(encode(vae, images), latents), name
