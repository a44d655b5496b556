"""Which tokens tell a mouth, and what it changes when they count less."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from idadapter.config import Config
from idadapter.data.templates import portrait_template
from idadapter.data.told import tells_expression
from idadapter.data.vision_crops import to_tensor
from idadapter.loop import Stage, StepRandom
from idadapter.models.mouth_tokens import MOUTH_BIAS, mouth_bias, mouth_patches
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


def test_the_bias_is_on_the_mouth_of_every_photo():
    bias = mouth_bias(face_tokens=3, photos=2, patches=64)
    assert bias.shape == (3 + 2 * 64,)
    assert not bias[:3].any()
    first, second = bias[3:].view(2, 64)
    assert torch.equal(first, second)
    assert first.nonzero().flatten().tolist() == mouth_patches(64).tolist()
    assert first.min() == MOUTH_BIAS < 0


def test_who_is_told_an_expression_has_a_quiet_mouth(config: Config, run: Path, make_tiny_stage: Callable[..., Stage]):
    idadapter = replace(config.idadapter, expressive_share=1.0)
    stage = make_tiny_stage("idadapter", run, replace(config, idadapter=idadapter))
    assert isinstance(stage, IdAdapterStage)
    batches = [stage.draw(StepRandom(0, step, 0), step) for step in range(8)]
    found = set()
    for batch in batches:
        words = stage.tokenizer.batch_decode(batch.ids, skip_special_tokens=True)
        expected = [tells_expression(one) for one in words]
        assert batch.expressive.tolist() == [
            one and not nobody for one, nobody in zip(expected, batch.anonymous.tolist(), strict=True)
        ]
        found |= set(batch.expressive.tolist())
    assert found == {True, False}
    stage.config = replace(idadapter, expressive_share=0.0)
    assert not any(stage.draw(StepRandom(0, step, 0), step).expressive.any() for step in range(8))


def test_a_quiet_mouth_changes_what_is_predicted_of_that_row_alone(
    config: Config, open_parts: Path, run: Path, make_tiny_stage: Callable[..., Stage]
):
    shutil.rmtree(run / "parts")
    shutil.copytree(open_parts, run / "parts")
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    model, batch = stage.module.eval(), stage.draw(StepRandom(0, 0, 0), 0)
    features = seen(stage, batch)
    latents = stage.latents(batch.rows, batch.variants)
    anonymous = torch.zeros_like(batch.anonymous)

    def predicted(expressive: Tensor) -> Tensor:
        with torch.no_grad():
            return model(
                latents, batch.timesteps, batch.ids, batch.positions, features, batch.counts, anonymous, expressive
            )

    first = torch.arange(len(anonymous)) == 0
    plain, quiet = predicted(torch.zeros_like(first)), predicted(first)
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
    stage.batch.rendition_share = 0.0
    batch = stage.draw(StepRandom(0, 0, 0), 0)
    assert len(batch.rolled) == 2
    noise = torch.randn(1, 2, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def drawn(who: list[int]) -> Tensor:
        expressive = torch.isin(torch.arange(len(batch.anonymous)), batch.rolled[who])
        asked = batch._replace(expressive=expressive)
        return roll_out(idadapter, stage.module, stage.diffusion, asked, noise, seen(stage, batch))

    plain, quiet = drawn([]), drawn([1])
    assert torch.allclose(plain[0], quiet[0], atol=1e-5)
    assert not torch.allclose(plain[1], quiet[1], atol=1e-5)
