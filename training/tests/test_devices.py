"""What a GPU does not forgive, shown by PyTorch's `meta` device: what meets there has to be there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from idadapter import redrawn
from idadapter.config import Config
from idadapter.data.latents import VARIANTS, Latents
from idadapter.data.portraits import Portraits
from idadapter.loop import Ema, Stage, StepRandom, draws
from idadapter.parts import read_vae
from idadapter.rollouts import roll_out
from idadapter.tokenizer import load_tokenizer

MakeStage = Callable[..., Stage]
META = torch.device("meta")

EVERYTHING = {
    "joint": True,
    "train_image_encoder": True,
    "second_identity_weight": 0.1,
    "feature_weight": 1.0,
    "caption_weight": 0.1,
    "jitter": 1.0,
    "rollout_rows": 2,
    "rollout_renditions": 1,
    "rollout_steps": 2,
    "rollout_ancestral": True,
    "rollout_guidance_scale": 3.0,
    "rollout_identity_guidance_scale": 2.0,
    "rollout_guidance_rescale": 0.5,
    "rollout_colour_weight": 1.0,
    "emotion_weight": 0.1,
    "adversarial_weight": 0.1,
    "face_adversarial_weight": 0.1,
    "input_perturbation": 0.1,
    "expressive_share": 0.5,
    "rendition_share": 0.3,
    "condition_dropout": 0.0,
    "words_alone_share": 0.0,
}
"""Of the IDAdapter stage's losses."""


def know_latents(latents: Latents) -> None:
    """Encodes all there is, for the autoencoder cannot on `meta`."""
    rows = np.arange(len(latents.portraits.records))
    for variant in range(len(VARIANTS)):
        latents(rows, np.full(len(rows), variant))


@pytest.fixture
def placed(make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch) -> MakeStage:
    """Makes a stage and places it as `train` places it on a GPU."""

    def normal(_: StepRandom, *shape: int, device: torch.device | None = None) -> Tensor:
        return torch.randn(shape, device=device)

    # Neither generators nor autocast are there.
    monkeypatch.setattr(StepRandom, "normal", normal)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)

    def make(*given: Any) -> Stage:
        stage = make_tiny_stage(*given)
        if hasattr(stage, "latents"):
            know_latents(stage.latents)
        stage.place(META)
        stage.module.to(META)
        return stage

    return make


def kinds_of(drawn: Any) -> Any:
    """Which types a draw is made of."""
    return (type(drawn), *map(kinds_of, drawn)) if isinstance(drawn, (tuple, list)) else type(drawn)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("name", ["patches", "diffusion", "idadapter"])
def test_what_is_drawn_reaches_the_loss_as_it_was_drawn(name: str, workers: int, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage(name, run)
    [found] = draws(stage, 0, 0, range(1), workers)
    assert kinds_of(found) == kinds_of(stage.draw(StepRandom(0, 0, 0), 0))
    # They index memory maps, which tensors on a GPU do not.
    assert any(isinstance(one, np.ndarray) for one in found)


@pytest.mark.parametrize("name", ["autoencoder", "clip", "patches", "diffusion", "idadapter", "decoder"])
def test_a_step_runs_where_the_stage_is(name: str, config: Config, run: Path, placed: MakeStage):
    stage = placed(name, run, replace(config, idadapter=replace(config.idadapter, **EVERYTHING)))
    [drawn] = draws(stage, 0, 0, range(1), 0)
    random = StepRandom(0, 0, 0)
    loss, scalars = stage.loss(stage.module, random, 0, drawn)
    loss.backward()
    scalars |= stage.after_step(random, 0)
    assert loss.device == META
    if name == "idadapter":
        assert {"rollout_second_cosine", "rollout_told_wrong", "rollout_emotion_wrong", "rollout_colour_off"} <= set(
            scalars
        )


@pytest.mark.parametrize("name", ["autoencoder", "diffusion", "idadapter", "decoder"])
def test_samples_are_drawn_where_the_stage_is(
    name: str, config: Config, run: Path, placed: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    def to_pictures(images: Tensor) -> np.ndarray:
        assert images.device == META
        return np.zeros((len(images), *images.shape[2:], 3), np.uint8)

    for module in ("sampling", "stages.autoencoder", "stages.idadapter", "stages.decoder"):
        monkeypatch.setattr(f"idadapter.{module}.to_pictures", to_pictures)
    stage = placed(name, run)
    with torch.no_grad():
        assert stage.sample(0).dtype == np.uint8


def test_averages_stay_where_they_are_when_a_checkpoint_is_read():
    parameters = [nn.Parameter(torch.ones(3))]
    saved = Ema(parameters, decay=0.9).state_dict()
    ema = Ema(parameters, decay=0.5)
    ema.to(META)
    ema.load_state_dict(saved)
    assert ema.decay == 0.9 and [one.device for one in ema.shadow_params] == [META]


def test_latents_are_redrawn_where_the_stage_will_train(
    config: Config,
    parts: Path,
    portraits: Portraits,
    data: Path,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("IDADAPTER_DATA", str(data))
    latents = Latents(tmp_path, read_vae(parts), portraits)
    know_latents(latents)
    moved: list[torch.device] = []

    def rolled_out(*given: Any) -> Tensor:
        drawn = roll_out(*given)
        assert moved == [META] and drawn.device == META
        return torch.zeros(drawn.shape)

    monkeypatch.setattr(redrawn, "training_device", lambda: META)
    monkeypatch.setattr(redrawn, "roll_out", rolled_out)
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    # It could not come back from there.
    monkeypatch.setattr(latents.vae, "to", moved.append)
    tokenizer = load_tokenizer(parts / "tokenizer")
    found = redrawn.redraw(parts, config.idadapter, tokenizer, portraits, latents, cache, 3)
    assert len(found.latents) == 3 and moved == [META, torch.device("cpu")]
