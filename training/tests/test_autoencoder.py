"""The latent space that the autoencoder's stage hands on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from idadapter.config import Config
from idadapter.data.vision_crops import to_tensor
from idadapter.loop import Stage
from idadapter.models.autoencoder import decode, encode
from idadapter.parts import read_vae


def test_latents_have_the_wanted_deviation_when_they_are_read_back(
    config: Config, run: Path, make_tiny_stage: Callable[..., Stage]
):
    stage = make_tiny_stage("autoencoder", run)
    stage.write_parts(run / "written")
    vae = read_vae(run / "written")
    photos = to_tensor(stage.portraits.photos[stage.portraits.train])
    with torch.no_grad():
        latents = encode(vae, photos)
        assert abs(float(latents.std()) - config.autoencoder.latent_deviation) < 0.01
        assert torch.allclose(
            decode(vae, latents), decode(stage.module.vae, encode(stage.module.vae, photos)), atol=1e-5
        )
