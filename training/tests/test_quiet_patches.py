"""Which tokens tell a mouth or a hat, and what it changes when they count less."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configured import configure
from torch import Tensor

from idadapter.config import Config
from idadapter.data.templates import portrait_template
from idadapter.data.told import tells_expression, tells_hat
from idadapter.data.vision_crops import to_tensor
from idadapter.loop import Stage, StepRandom
from idadapter.models.quiet_patches import QUIET_BIAS, hat_patches, mouth_patches, quiet_bias
from idadapter.rollouts import roll_out
from idadapter.stages.drawn_people import DrawnPeople
from idadapter.stages.idadapter import IdAdapterStage


def seen(stage: IdAdapterStage, batch: DrawnPeople) -> tuple[Tensor, Tensor, Tensor]:
    """The references' features, as the model takes them."""
    crops = to_tensor(batch.crops)
    if stage.module.image_encoder is None:
        return (*stage.features(crops, batch.index), batch.faces)
    return crops, batch.index, batch.faces


@pytest.mark.parametrize("side", [8, 16])
def test_mouth_patches_cover_the_mouth_and_neither_eyes_nor_nose(side: int):
    rows, columns = np.divmod(mouth_patches(side * side), side)
    template = portrait_template(side)
    for x, y in template[3:]:
        assert ((np.abs(rows - y) <= 0.5) & (np.abs(columns - x) <= 0.5)).any()
    for x, y in template[:3]:
        assert not ((np.abs(rows - y) <= 0.5) & (np.abs(columns - x) <= 0.5)).any()
    assert len(rows) < side * side / 6


@pytest.mark.parametrize("side", [8, 16])
def test_hat_patches_are_the_whole_rows_above_the_brows(side: int):
    patches = hat_patches(side * side)
    count, rest = divmod(len(patches), side)
    assert rest == 0 and patches.tolist() == list(range(count * side))
    eyes = portrait_template(side)[:2, 1].min()
    assert side / 8 <= eyes - count <= side / 4


def test_the_bias_is_on_its_place_of_every_photo():
    biases = quiet_bias(face_tokens=3, photos=2, patches=64)
    assert biases.shape == (2, 3 + 2 * 64)
    for bias, patches in zip(biases, (mouth_patches(64), hat_patches(64)), strict=True):
        assert not bias[:3].any()
        first, second = bias[3:].view(2, 64)
        assert torch.equal(first, second)
        assert first.nonzero().flatten().tolist() == patches.tolist()
        assert first.min() == QUIET_BIAS < 0


def test_what_is_told_of_a_mouth_or_a_hat_quietens_it(config: Config, run: Path, make_tiny_stage: Callable[..., Stage]):
    idadapter = replace(config.idadapter, expressive_share=1.0, hat_share=1.0)
    stage = make_tiny_stage("idadapter", run, replace(config, idadapter=idadapter))
    assert isinstance(stage, IdAdapterStage)
    stage.people.captioned.facts = [replace(facts, hat=True) for facts in stage.people.captioned.facts]
    batches = [stage.draw(StepRandom(0, step, 0), step) for step in range(8)]
    found = set()
    for batch in batches:
        words = stage.tokenizer.batch_decode(batch.ids, skip_special_tokens=True)
        expected = torch.tensor([(tells_expression(one), tells_hat(one)) for one in words])
        assert torch.equal(batch.quiet, expected & ~batch.anonymous[:, None])
        found |= {tuple(one) for one in batch.quiet.tolist()}
    assert {(True, False), (False, True), (False, False)} <= found
    for places, shares in enumerate(((0.0, 1.0), (1.0, 0.0))):
        configure(stage, expressive_share=shares[0], hat_share=shares[1])
        quiet = torch.cat([stage.draw(StepRandom(0, step, 0), step).quiet for step in range(8)])
        assert not quiet[:, places].any() and quiet[:, 1 - places].any()


@pytest.mark.parametrize("place", [0, 1])
def test_a_quiet_place_changes_what_is_predicted_of_that_row_alone(
    place: int, config: Config, open_parts: Path, run: Path, make_tiny_stage: Callable[..., Stage]
):
    shutil.rmtree(run / "parts")
    shutil.copytree(open_parts, run / "parts")
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    model, batch = stage.module.eval(), stage.draw(StepRandom(0, 0, 0), 0)
    features = seen(stage, batch)
    latents = stage.latents(batch.rows, batch.variants)
    anonymous = torch.zeros_like(batch.anonymous)

    def predicted(quiet: Tensor) -> Tensor:
        with torch.no_grad():
            return model(latents, batch.timesteps, batch.ids, batch.positions, features, batch.counts, anonymous, quiet)

    nobody = torch.zeros_like(batch.quiet)
    first = nobody.clone()
    first[0, place] = True
    plain, quiet = predicted(nobody), predicted(first)
    assert not torch.allclose(plain[0], quiet[0], atol=1e-6)
    assert torch.allclose(plain[1:], quiet[1:], atol=1e-6)


def test_a_rollout_has_the_quiet_mouth_too(
    config: Config, open_parts: Path, run: Path, make_tiny_stage: Callable[..., Stage]
):
    shutil.rmtree(run / "parts")
    shutil.copytree(open_parts, run / "parts")
    idadapter = replace(config.idadapter, rollout_rows=2, rollout_steps=3)
    stage = make_tiny_stage("idadapter", run, replace(config, idadapter=idadapter))
    assert isinstance(stage, IdAdapterStage)
    stage.people.captioned.rendition_share = 0.0
    batch = stage.draw(StepRandom(0, 0, 0), 0)
    assert len(batch.rolled) == 2
    noise = torch.randn(1, 2, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def drawn(who: list[int]) -> Tensor:
        quiet = torch.zeros_like(batch.quiet)
        quiet[batch.rolled[who], 0] = True
        asked = batch._replace(quiet=quiet)
        return roll_out(idadapter, stage.module, stage.diffusion, asked, noise, seen(stage, batch))

    plain, quiet = drawn([]), drawn([1])
    assert torch.allclose(plain[0], quiet[0], atol=1e-5)
    assert not torch.allclose(plain[1], quiet[1], atol=1e-5)
