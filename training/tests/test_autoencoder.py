"""The latent space that the autoencoder's stage hands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from idadapter.data.vision_crops import to_tensor
from idadapter.loop import Stage
from idadapter.models.autoencoder import decode, encode
from idadapter.parts import read_vae


def test_latents_have_unit_variance_when_they_are_read_back(run: Path, make_tiny_stage: Callable[..., Stage]):
    stage = make_tiny_stage("autoencoder", run)
    stage.write_parts(run / "written")
    vae = read_vae(run / "written")
    photos = to_tensor(stage.portraits.photos[stage.portraits.train])
    with torch.no_grad():
        latents = encode(vae, photos)
        assert abs(float(latents.std()) - 1) < 0.01
        assert torch.allclose(
            decode(vae, latents), decode(stage.module.vae, encode(stage.module.vae, photos)), atol=1e-5
        )
