"""The decoder's stage: latents that the model redraws, and a decoder that learns from them and from nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idadapter import redrawn
from idadapter.config import Config
from idadapter.data.renditions import RENDITIONS
from idadapter.data.templates import portrait_template
from idadapter.faces.recognizer import WIDTHS
from idadapter.loop import Stage, StepRandom, train
from idadapter.models.face_discriminator import STAGES_SEEN
from idadapter.models.latent_discriminator import told_apart
from idadapter.noise_schedule import Diffusion, make_noise_schedule
from idadapter.parts import read_unet, read_vae, write_unet, write_vae
from idadapter.redrawn import STARTS
from idadapter.stages.decoder import OIL_PAINTING, DecoderStage

MakeStage = Callable[..., Stage]


@pytest.fixture
def stage(run: Path, make_tiny_stage: MakeStage) -> DecoderStage:
    found = make_tiny_stage("decoder", run)
    assert isinstance(found, DecoderStage)
    return found


def test_redrawn_latents_are_of_training_people_and_the_nearer_to_them_the_later_they_begin(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    many = replace(config, decoder=replace(config.decoder, redrawn=96))
    stage = make_tiny_stage("decoder", run, many)
    found = stage.redrawn
    assert len(found.latents) == len(found.rows) == len(found.timesteps) == 96
    assert np.isin(found.rows, stage.portraits.train).all()
    assert set(found.variants) == {0, 1, 2}
    kinds = np.bincount(stage.portraits.rendition_class[found.rows[found.variants == 2]], minlength=len(RENDITIONS))
    assert np.argmax(kinds) == RENDITIONS.index("oil_painting")
    assert len(set(found.timesteps)) > 1 and len(set(found.timesteps)) <= len(STARTS)
    assert found.timesteps.min() >= 300 and found.timesteps.max() <= 920
    assert np.isfinite(found.latents.astype(np.float32)).all()
    clean = stage.latents(found.rows, found.variants).numpy()
    strangers = np.roll(clean, 7, axis=0)

    def distance(one: np.ndarray, which: np.ndarray) -> float:
        return float(np.square(found.latents.astype(np.float32) - one)[which].mean())

    late, early = found.timesteps < 450, found.timesteps > 550
    assert distance(clean, late) < distance(strangers, late)
    assert distance(clean, late) < distance(clean, early)


def test_redrawn_latents_are_kept_for_the_same_model_and_made_again_for_another(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    first = make_tiny_stage("decoder", run).redrawn
    made = []
    redraw = redrawn.redraw
    monkeypatch.setattr(redrawn, "redraw", lambda *rest: made.append(1) or redraw(*rest))
    again = make_tiny_stage("decoder", run).redrawn
    assert not made and np.array_equal(first.latents, again.latents)
    unet = read_unet(run / "parts")
    with torch.no_grad():
        unet.conv_in.weight += 0.1
    write_unet(run / "parts", unet)
    other = make_tiny_stage("decoder", run).redrawn
    assert made and not np.array_equal(first.latents, other.latents)
    assert np.array_equal(first.rows, other.rows)


@pytest.mark.parametrize(
    "change", [{"rollout_negative_prompt": "hat"}, {"rollout_guidance_rescale": 0.5}, {"references": 2}, None]
)
def test_what_would_be_drawn_otherwise_is_redrawn(
    change: dict[str, object] | None,
    config: Config,
    run: Path,
    make_tiny_stage: MakeStage,
    monkeypatch: pytest.MonkeyPatch,
):
    guided = replace(config, idadapter=replace(config.idadapter, rollout_guidance_scale=3.0))
    first = make_tiny_stage("decoder", run, guided).redrawn
    made = []
    redraw = redrawn.redraw
    monkeypatch.setattr(redrawn, "redraw", lambda *rest: made.append(1) or redraw(*rest))
    if change is None:
        vae = read_vae(run / "parts")
        with torch.no_grad():
            vae.encoder.conv_out.weight.mul_(1.1)
        write_vae(run / "parts", vae)
    else:
        guided = replace(guided, idadapter=replace(guided.idadapter, **change))
    other = make_tiny_stage("decoder", run, guided).redrawn
    assert made and not np.array_equal(first.latents, other.latents)


def test_it_needs_a_whole_model(run: Path, make_tiny_stage: MakeStage):
    shutil.rmtree(run / "parts" / "mixed_features")
    with pytest.raises(FileNotFoundError, match="mixed_features"):
        make_tiny_stage("decoder", run)


def test_only_the_decoder_changes(config: Config, stage: DecoderStage, run: Path):
    before = {path: path.read_bytes() for path in (run / "parts").rglob("*") if path.is_file()}
    train(stage, config.decoder.loop, run / "decoder", run / "parts")
    changed = {path.parent.name for path, content in before.items() if path.read_bytes() != content}
    assert changed == {"vae_decoder"}


def test_a_batch_holds_redrawn_latents_and_some_of_the_encoders(stage: DecoderStage):
    stage.config = replace(stage.config, encoded_share=0.5)
    batch = stage.batch(StepRandom(0, 0, 0))
    drawn, encoded = batch.timesteps > 0, batch.timesteps == 0
    assert drawn.sum() == encoded.sum() == len(batch.latents) // 2
    kept = torch.from_numpy(stage.redrawn.latents.astype(np.float32))
    for one in batch.latents[drawn]:
        assert (kept == one).flatten(1).all(1).any()
    for one, photo in zip(batch.latents[encoded], batch.photos[encoded], strict=True):
        # The photo asked for is the one that was encoded.
        found = [
            row
            for row in stage.portraits.train
            for variant in (0, 1, 2)
            if torch.equal(stage.latents(np.array([row]), np.array([variant]))[0], one)
            and np.array_equal(stage.latents.pictures(np.array([row]), np.array([variant]))[0], photo.numpy())
        ]
        assert found


def test_it_learns_to_decode_what_the_model_redraws(config: Config, run: Path, make_tiny_stage: MakeStage):
    plain = replace(config.decoder, adversarial_weight=0.0, encoded_share=0.0)
    stage = make_tiny_stage("decoder", run, replace(config, decoder=plain))
    everything = StepRandom(0, 0, 0)
    batch = stage.batch(everything)

    def pixel() -> float:
        _, scalars = stage.loss(stage.module, StepRandom(0, 1, 0), 1, batch)
        return float(scalars["pixel"])

    first = pixel()
    optimizer = torch.optim.AdamW([p for p in stage.module.parameters() if p.requires_grad], lr=2e-3)
    for step in range(30):
        loss, _ = stage.loss(stage.module, StepRandom(0, step, 0), step, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert pixel() < 0.8 * first


def test_discriminators_learn_and_then_teach(stage: DecoderStage):
    stage.config = replace(stage.config, adversarial_after=3, adversarial_weight=1.0)
    batch = stage.batch(StepRandom(0, 0, 0))
    losses, before = [], [parameter.clone() for parameter in stage.discriminators.parameters()]
    for step in range(3):
        loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), step, batch)
        losses.append(float(loss.detach()))
        told = stage.after_step(StepRandom(0, 0, 0), step)
        assert set(told) == {"face_discriminator", "window_discriminator", "eyes_discriminator"}
    # The decoder has not moved, and they do not count yet.
    assert losses[0] == losses[1] == losses[2]
    assert all(not torch.equal(a, b) for a, b in zip(before, stage.discriminators.parameters(), strict=True))
    loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 3, batch)
    adversarial = sum(float(scalars[f"{name}_adversarial"]) for name in ("face", "window", "eyes"))
    assert float(loss.detach()) == pytest.approx(losses[0] + adversarial, rel=1e-4)


def test_discriminators_are_told_which_rendition_it_is(stage: DecoderStage):
    """Two kinds whose drawn pictures are the other's real ones: nobody can tell them apart who is not told."""
    stage.config = replace(stage.config, encoded_share=0.5)
    batch = stage.batch(StepRandom(0, 0, 0))
    renditions = 0
    for kind, photo in zip(batch.kinds, batch.photos, strict=True):
        # What is asked for of a kind is of that kind.
        drawn = [
            row
            for row in stage.portraits.train
            if np.array_equal(stage.portraits.renditions[row], photo.numpy())
            and kind == 1 + stage.portraits.rendition_class[row]
        ]
        renditions += bool(drawn)
        assert bool(drawn) == (kind > 0)
    assert 0 < renditions < len(batch.kinds)
    torch.manual_seed(0)
    network = stage.discriminators["face"]
    maps = [torch.rand(2, width, 6, 6) for width in WIDTHS[:STAGES_SEEN]]
    real, drawn = maps, [one.flip(0) for one in maps]
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    kinds = torch.tensor([0, 3])
    assert float(told_apart(network(drawn, kinds), network(real, kinds)).detach()) == pytest.approx(
        2 * np.log(2), abs=0.1
    )
    for _ in range(60):
        loss = told_apart(network(drawn, kinds), network(real, kinds))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.7
    alike = torch.tensor([0, 0])
    assert float(told_apart(network(drawn, alike), network(real, alike)).detach()) > 1.3


def test_the_eyes_are_looked_at_from_near_wherever_the_window_stands(stage: DecoderStage):
    size, wanted = stage.portraits.size, stage.recognizer.input_size
    across, down = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="xy")
    places = torch.stack([across, down, across]).float()[None]
    eyes = torch.tensor(portrait_template(size)[:2]).float()
    corners = []
    for step in range(20):
        seen = stage.eyes(StepRandom(0, step, 0))(places)
        assert seen.shape == (1, 3, wanted, wanted)
        least, most = seen[0, :2].amin((1, 2)), seen[0, :2].amax((1, 2))
        assert (least < eyes).all() and (eyes < most).all()
        assert ((most - least) < 0.65 * size).all()
        corners.append(tuple(least.tolist()))
    assert len(set(corners)) > 10


def test_eyes_and_mouth_may_count_more_than_the_rest_of_the_face(config: Config, run: Path, make_tiny_stage: MakeStage):
    weighted = replace(config, decoder=replace(config.decoder, face_weight=1.0, eyes_and_mouth_weight=3.0))
    weight = make_tiny_stage("decoder", run, weighted).weight[0, 0]
    for x, y in portrait_template(len(weight)).round().astype(int)[[0, 1, 3, 4]]:
        assert weight[y, x] == pytest.approx(4.0, abs=0.3)
    assert weight[0, 0] == pytest.approx(1.0, abs=0.01)


def test_oil_paintings_get_as_much_brushwork_as_asked_and_drawings_none(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    others = ("pixel", "colour", "feature", "identity", "adversarial")
    alone = replace(config.decoder, brushwork_weight=1.0, **{f"{name}_weight": 0.0 for name in others})
    stage = make_tiny_stage("decoder", run, replace(config, decoder=alone))
    batch = stage.batch(StepRandom(0, 0, 0))

    def asked(rendition: str) -> torch.Tensor:
        kinds = torch.full_like(batch.kinds, 1 + RENDITIONS.index(rendition))
        return stage.loss(stage.module, StepRandom(0, 1, 0), 1, batch._replace(kinds=kinds))[0]

    assert float(asked("pencil_sketch").detach()) == 0
    first = float(asked("oil_painting").detach())
    optimizer = torch.optim.AdamW([p for p in stage.module.parameters() if p.requires_grad], lr=2e-3)
    for _ in range(10):
        optimizer.zero_grad()
        asked("oil_painting").backward()
        optimizer.step()
    assert float(asked("oil_painting").detach()) < 0.9 * first


def test_oil_paintings_may_come_more_often(config: Config, run: Path, make_tiny_stage: MakeStage):
    def share(often: float) -> float:
        settings = replace(config.decoder, redrawn=64, oil_paintings=often, encoded_share=0.0)
        stage = make_tiny_stage("decoder", run, replace(config, decoder=settings))
        kinds = torch.cat([stage.batch(StepRandom(0, step, 0)).kinds for step in range(50)])
        return float((kinds == OIL_PAINTING).float().mean())

    assert share(4.0) > 2 * share(1.0) > 0


def test_of_what_was_hidden_less_is_asked(stage: DecoderStage):
    stage.config = replace(stage.config, encoded_share=0.0, adversarial_weight=0.0)
    batch = stage.batch(StepRandom(0, 0, 0))
    losses = []
    for timestep in (100, 600):
        asked = batch._replace(timesteps=torch.full_like(batch.timesteps, timestep))
        losses.append(float(stage.loss(stage.module, StepRandom(0, 0, 0), 0, asked)[0].detach()))
    visible = Diffusion(make_noise_schedule()).visible(torch.tensor([100, 600]))
    assert losses[1] / losses[0] == pytest.approx(float(visible[1] / visible[0]), rel=1e-3)


def test_a_second_recognizer_is_asked_who_it_is(config: Config, run: Path, make_tiny_stage: MakeStage):
    asked = replace(config.decoder, second_identity_weight=0.5, adversarial_weight=0.0)
    stage = make_tiny_stage("decoder", run, replace(config, decoder=asked))
    assert not any(parameter.requires_grad for parameter in stage.second.parameters())
    batch = stage.batch(StepRandom(0, 0, 0))
    loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0, batch)
    assert -1 <= float(scalars["second_cosine"]) <= 1
    seen = stage.second
    stage.second = None
    (rest, without) = stage.loss(stage.module, StepRandom(0, 0, 0), 0, batch)
    assert "second_cosine" not in without
    gradient = torch.autograd.grad(loss - rest, next(stage.module.vae.decoder.parameters()))[0]
    assert float((loss - rest).detach()) > 0 and gradient.abs().max() > 0
    # The photo itself is who it is to be.
    photos = batch.photos.permute(0, 3, 1, 2) / 255
    themselves = seen(photos, seen.embed(photos), StepRandom(0, 0, 0), 0.0)
    assert torch.allclose(themselves, torch.ones(len(photos)), atol=1e-4)
