"""The stage that has an image encoder's patches tell their latents."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from idadapter.config import Config
from idadapter.data.latents import VARIANTS
from idadapter.loop import Stage, StepRandom, train
from idadapter.models.clip import PatchDecoder
from idadapter.parts import read_image_encoder, read_mixed_features
from idadapter.stages.patches import PatchesStage

MakeStage = Callable[..., Stage]


def test_a_fitted_decoder_tells_what_a_linear_map_can():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(40, 9, 5, generator=generator)
    teacher, decoder = (PatchDecoder(width=5, patch_size=2, channels=3) for _ in range(2))
    with torch.no_grad():
        pictures = teacher(features)
        decoder.fit(features, pictures)
        assert pictures.shape == (40, 3, 6, 6)
        assert torch.allclose(decoder(features), pictures, atol=1e-3)


def test_tokens_learn_to_tell_their_latents_and_stay_readable(config: Config, run: Path, make_tiny_stage: MakeStage):
    loop = replace(config.patches.loop, steps=30, batch_size=8, learning_rate=3e-3, warmup_steps=1)

    def trained(weight: float) -> tuple[float, float]:
        changed = replace(config, patches=replace(config.patches, drift_weight=weight, fitted=16, loop=loop))
        stage = make_tiny_stage("patches", run, changed)
        assert isinstance(stage, PatchesStage)
        mixed = {name: value.clone() for name, value in stage.module.mixed_features.state_dict().items()}

        def scalars() -> dict[str, float]:
            with torch.no_grad():
                return {n: float(v) for n, v in stage.loss(stage.module, StepRandom(7, 0, 0), 0)[1].items()}

        before = scalars()
        assert before["drift"] == 0
        train(stage, loop, run / f"patches-{weight}")
        after = scalars()
        assert after["untold"] < before["untold"]
        assert all(torch.equal(stage.module.mixed_features.state_dict()[name], value) for name, value in mixed.items())
        return after["untold"], after["drift"]

    free, held = trained(1e-6), trained(30.0)
    assert held[1] < 0.2 * free[1] and free[0] < held[0]


def test_the_image_encoder_alone_is_written(config: Config, run: Path, make_tiny_stage: MakeStage):
    parts = run / "parts"
    image, mixed = read_image_encoder(parts).state_dict(), read_mixed_features(parts).state_dict()
    loop = replace(config.patches.loop, steps=2, batch_size=4)
    changed = replace(config, patches=replace(config.patches, fitted=16, loop=loop))
    train(make_tiny_stage("patches", run, changed), loop, run / "patches", parts)
    after = read_image_encoder(parts).state_dict()
    assert not all(torch.equal(after[name], value) for name, value in image.items())
    assert all(torch.equal(read_mixed_features(parts).state_dict()[name], value) for name, value in mixed.items())


def test_crops_show_what_the_latents_are_of(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("patches", run, replace(config, patches=replace(config.patches, fitted=16)))
    assert isinstance(stage, PatchesStage)
    rows = stage.portraits.train[:1].repeat(len(VARIANTS))
    photo, mirrored, rendition = stage.crops(rows, torch.arange(len(VARIANTS)).numpy())
    assert torch.equal(photo.flip(1), mirrored)
    assert not torch.equal(photo, rendition)
