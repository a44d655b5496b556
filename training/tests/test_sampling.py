"""Sample grids: as many pictures at a time as fit, the same whatever that is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from idadapter.loop import Stage
from idadapter.noise_schedule import make_noise_schedule
from idadapter.sampling import pictures_at_once, sample_latents


@pytest.mark.parametrize("name", ["autoencoder", "diffusion", "idadapter", "decoder"])
@torch.no_grad()
def test_no_more_pictures_are_made_at_once_than_fit(
    name: str, run: Path, make_tiny_stage: Callable[..., Stage], monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage(name, run)
    stage.module.eval()
    whole = stage.sample(0)
    vae = stage.vae if hasattr(stage, "vae") else stage.module.vae
    # Guidance asks for each picture twice.
    fitting = {vae.encoder: 5, vae.decoder: 5}
    if hasattr(stage.module, "unet"):
        fitting[stage.module.unet] = 10
    seen: dict[nn.Module, list[int]] = {network: [] for network in fitting}
    for network in fitting:
        network.register_forward_pre_hook(lambda network, inputs: seen[network].append(len(inputs[0])))
    monkeypatch.setattr(f"idadapter.stages.{name}.pictures_at_once", lambda size: 5)
    some = stage.sample(0)
    assert seen[vae.decoder]
    for network, sizes in seen.items():
        assert max(sizes, default=0) <= fitting[network]
    assert some.shape == whole.shape and np.abs(some.astype(int) - whole).max() <= 1


def test_larger_pictures_are_fewer_at_once():
    assert [pictures_at_once(size) for size in (64, 128, 512, 4096)] == [256, 64, 4, 1]


def test_the_timestep_is_where_the_model_is():
    seen: list[torch.device] = []

    def model(noisy: Tensor, timestep: Tensor) -> Tensor:
        seen.extend((noisy.device, timestep.device))
        return noisy

    latents = sample_latents(model, (2, 4, 8, 8), 3, seed=0, schedule=make_noise_schedule(), device="meta")
    assert latents.shape == (2, 4, 8, 8) and {device.type for device in seen} == {"meta"}
