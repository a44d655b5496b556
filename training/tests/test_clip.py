"""The image encoder: what its patches know, at which size, and which of the two encoders trains."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from idadapter.config import Config
from idadapter.loop import Stage, StepRandom, train
from idadapter.models.clip import PatchDecoder, resized_positions
from idadapter.parts import read_image_encoder, read_text_encoder
from idadapter.stages.clip import ClipStage

MakeStage = Callable[..., Stage]


def test_positions_of_a_larger_picture_are_interpolated():
    name = "embeddings.position_embedding.weight"
    ramp = torch.arange(2.0).repeat_interleave(2)[:, None]
    state = {name: torch.cat([torch.tensor([[9.0]]), ramp]), "other": torch.ones(1)}
    resized = resized_positions(state, 16)
    assert resized[name].shape == (17, 1) and resized[name][0] == 9 and resized["other"] is state["other"]
    rows = resized[name][1:].reshape(4, 4)
    assert torch.equal(rows, rows[:, :1].expand(-1, 4)) and (rows[:, 0].diff() > 0).all()
    assert resized_positions(state, 4)[name] is state[name]


def test_a_decoded_patch_stands_at_its_place():
    decoder = PatchDecoder(width=5, patch_size=4)
    features = torch.zeros(1, 9, 5)
    features[0, 5] = 1
    empty, drawn = decoder(torch.zeros(1, 9, 5)), decoder(features)
    changed = (drawn != empty)[0].any(0)
    assert drawn.shape == (1, 3, 12, 12)
    assert changed[4:8, 8:12].all() and changed.sum() == 16


def test_patches_learn_to_tell_their_pixels(config: Config, run: Path, make_tiny_stage: MakeStage):
    clip = replace(config.clip, reconstruction_weight=5.0, loop=replace(config.clip.loop, steps=60, learning_rate=3e-3))
    stage = make_tiny_stage("clip", run, replace(config, clip=clip))

    def error() -> float:
        with torch.no_grad():
            return float(stage.loss(stage.module, StepRandom(7, 0, 0), 0)[1]["reconstruction"])

    before = error()
    train(stage, clip.loop, run / "clip")
    assert error() < 0.5 * before


def test_a_frozen_text_encoder_stays_and_the_image_encoder_takes_its_new_size(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    text, image = read_text_encoder(run / "parts").state_dict(), read_image_encoder(run / "parts").state_dict()
    clip = replace(config.clip, freeze_text=True, image_size=64)
    stage = make_tiny_stage("clip", run, replace(config, clip=clip))
    train(stage, clip.loop, run / "clip", run / "parts")
    kept, encoder = read_text_encoder(run / "parts").state_dict(), read_image_encoder(run / "parts")
    assert all(torch.equal(kept[name], value) for name, value in text.items())
    assert encoder.config.image_size == 64
    patch = next(name for name in image if name.endswith("patch_embedding.weight"))
    assert not torch.equal(encoder.state_dict()[patch], image[patch])


def test_a_run_without_a_text_encoder_freezes_a_random_one_that_its_unet_reads(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    shutil.rmtree(run / "parts" / "text_encoder")
    frozen = replace(config, clip=replace(config.clip, freeze_text=True))
    made = make_tiny_stage("diffusion", run, frozen).module.text_encoder.state_dict()
    train(make_tiny_stage("clip", run, frozen), config.clip.loop, run / "clip", run / "parts")
    kept = read_text_encoder(run / "parts").state_dict()
    assert all(torch.equal(kept[name], value) for name, value in made.items())


def test_a_text_encoder_trains_against_the_runs_image_encoder_and_stays_readable(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    text, image = read_text_encoder(run / "parts"), read_image_encoder(run / "parts").state_dict()
    loop = replace(config.clip.loop, steps=30, learning_rate=3e-3)

    def drift(weight: float) -> float:
        clip = replace(config.clip, freeze_image=True, drift_weight=weight, loop=loop)
        stage = make_tiny_stage("clip", run, replace(config, clip=clip))
        assert isinstance(stage, ClipStage)
        scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)[1]
        assert scalars["drift"] == 0
        contrast = float(scalars["contrast"])
        train(stage, loop, run / f"clip-{weight}")
        trained = stage.loss(stage.module, StepRandom(0, 0, 0), 0)[1]
        assert float(trained["contrast"]) < contrast
        after = stage.module.clip.vision_model.state_dict()
        assert all(torch.equal(after[name], value) for name, value in image.items())
        now = stage.module.clip.text_model.state_dict()
        assert not all(torch.equal(now[name], value) for name, value in text.state_dict().items())
        return float(trained["drift"])

    assert drift(300.0) < 0.2 * drift(1e-6)


def test_an_image_encoder_that_is_to_be_kept_must_be_there(config: Config, run: Path, make_tiny_stage: MakeStage):
    shutil.rmtree(run / "parts" / "image_encoder")
    with pytest.raises(ValueError, match="image_encoder"):
        make_tiny_stage("clip", run, replace(config, clip=replace(config.clip, freeze_image=True)))


def test_in_a_new_run_the_text_encoder_trains_near_its_random_start(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    shutil.rmtree(run / "parts" / "text_encoder")
    start = make_tiny_stage("diffusion", run, config).module.text_encoder.state_dict()
    stage = make_tiny_stage("clip", run, replace(config, clip=replace(config.clip, drift_weight=20.0)))
    assert isinstance(stage, ClipStage)
    assert stage.loss(stage.module, StepRandom(0, 0, 0), 0)[1]["drift"] == 0
    train(stage, config.clip.loop, run / "clip", run / "parts")
    held = stage.module.first_text.state_dict()
    assert all(torch.equal(held[name], value) for name, value in start.items())
    trained = read_text_encoder(run / "parts").state_dict()
    assert not all(torch.equal(trained[name], value) for name, value in start.items())
