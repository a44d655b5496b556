"""A discriminator that tells rollouts from photos: what it is shown, whom it teaches, and that a run keeps it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed
import torch.multiprocessing
from safetensors.torch import load_file

from idadapter.config import Config
from idadapter.loop import Stage, StepRandom, latest_checkpoint, mean_over_processes, train
from idadapter.models.latent_discriminator import LatentDiscriminator, looks_drawn, told_apart
from idadapter.stages import idadapter
from idadapter.stages.idadapter import IdAdapterStage
from idadapter.tokenizer import encode_prompts

MakeStage = Callable[..., Stage]


def adversarial(config: Config, **settings: object) -> Config:
    """With two rollouts a step of everybody known, judged by a discriminator alone."""
    alone = {"identity_weight": 0.0, "condition_dropout": 0.0, "words_alone_share": 0.0, "rendition_share": 0.0}
    settings = {"rollout_rows": 2, "rollout_steps": 2, "adversarial_weight": 1.0, **alone, **settings}
    return replace(config, idadapter=replace(config.idadapter, **settings))


@pytest.fixture
def discriminator(config: Config, run: Path, make_tiny_stage: MakeStage) -> LatentDiscriminator:
    torch.manual_seed(0)
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    return LatentDiscriminator(stage.module.unet, stage.module.text_encoder)


def test_it_learns_to_tell_latents_apart(discriminator: LatentDiscriminator):
    random = torch.Generator().manual_seed(1)
    real = torch.randn(8, 4, 16, 16, generator=random)
    drawn = 0.5 * torch.randn(8, 4, 16, 16, generator=random)
    timesteps, ids = torch.full((8,), 100), torch.ones(8, 5, dtype=torch.int64)
    with torch.no_grad():
        features = [discriminator.features(one, timesteps, ids) for one in (drawn, real)]
    optimizer = torch.optim.AdamW(discriminator.heads.parameters(), lr=3e-3)
    losses = []
    for _ in range(40):
        loss = told_apart(*(discriminator(one) for one in features))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    # It begins by knowing nothing: 2 log 2.
    assert losses[0] == pytest.approx(2 * np.log(2), abs=0.1) and losses[-1] < 0.7 * losses[0]
    scores = [discriminator(one) for one in features]
    assert all((a < 0).float().mean() > 0.5 for a in scores[0]) and all((b > 0).float().mean() > 0.5 for b in scores[1])
    # Whose latents go where its gradient says look less drawn to it.
    drawn.requires_grad_(True)
    before = looks_drawn(discriminator(discriminator.features(drawn, timesteps, ids)))
    [gradient] = torch.autograd.grad(before, drawn)
    assert looks_drawn(discriminator(discriminator.features(drawn - 0.1 * gradient.sign(), timesteps, ids))) < before


def test_it_is_told_the_words_and_the_timestep(discriminator: LatentDiscriminator):
    latents = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    ids = torch.tensor([[1, 2, 3]])
    seen = discriminator.features(latents, torch.tensor([100]), ids)
    assert len(seen) == len(discriminator.heads)
    other_words = discriminator.features(latents, torch.tensor([100]), ids + 1)
    other_time = discriminator.features(latents, torch.tensor([600]), ids)
    assert any(not torch.equal(a, b) for a, b in zip(seen, other_words, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(seen, other_time, strict=True))
    again = discriminator.features(latents, torch.tensor([100]), ids)
    assert all(torch.equal(a, b) for a, b in zip(seen, again, strict=True))


def test_only_rollouts_are_held_to_it_and_only_its_heads_learn(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run, adversarial(config))
    assert isinstance(stage, IdAdapterStage) and stage.discriminator is not None
    gradients: list[torch.Tensor] = []
    forward = stage.module.forward

    def watched(*given: torch.Tensor) -> torch.Tensor:
        predicted = forward(*given)
        predicted.register_hook(gradients.append)
        return predicted

    monkeypatch.setattr(stage.module, "forward", watched)
    before = {name: value.clone() for name, value in stage.discriminator.state_dict().items()}
    random = StepRandom(0, 0, 0)
    batch = stage.draw(random, 0)
    loss, scalars = stage.loss(stage.module, random, 0, batch)
    loss.backward()
    assert scalars["adversarial"] > 0 and loss.item() == pytest.approx(
        float(scalars["diffusion"] + scalars["adversarial"]), rel=1e-5
    )
    # A rollout has no diffusion loss, so what reaches it comes from the discriminator.
    assert gradients[0][batch.rolled].flatten(1).any(1).all()
    assert stage.after_step(random, 0)["discriminator"] > 0
    after = stage.discriminator.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {name for name in before if name.startswith("heads.")}
    # It learns from each step once.
    stage.after_step(random, 0)
    assert stage.after_step(random, 0)["discriminator"] == 0


def test_it_learns_alone_at_first(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run, adversarial(config, adversarial_after=1))
    for step, share in enumerate((0, 1)):
        loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), step)
        wanted = scalars["diffusion"] + share * scalars["adversarial"]
        assert loss.item() == pytest.approx(float(wanted), rel=1e-5)


def test_rollouts_are_compared_with_photos_of_what_they_are_told(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run, adversarial(config, itself_share=0.0, rollout_rows=6))
    assert isinstance(stage, IdAdapterStage)
    stage.batch.facts = [replace(fact, glasses=row % 2 == 0) for row, fact in enumerate(stage.batch.facts)]
    monkeypatch.setattr(idadapter, "caption", lambda facts, *_: "with glasses" if facts.glasses else "no")
    told = set()
    for step in range(4):
        batch = stage.draw(StepRandom(0, step, 0), step)
        words = encode_prompts(stage.tokenizer, ["with glasses", "no"])
        for ids, row in zip(batch.rolled_words, batch.real_rows, strict=True):
            assert torch.equal(ids, words[row % 2])
            told.add(int(row % 2))
        assert (batch.real_variants == 0).all() and np.isin(batch.real_rows, stage.portraits.train).all()
    assert told == {0, 1}


def test_renditions_are_rolled_out_too_and_no_recogniser_looks_at_them(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    settings = {"rendition_share": 0.5, "rollout_renditions": 1, "rollout_rows": 1, "identity_weight": 0.1}
    stage = make_tiny_stage("idadapter", run, adversarial(config, **settings))
    assert isinstance(stage, IdAdapterStage)
    renditions = 0
    for step in range(6):
        batch = stage.draw(StepRandom(0, step, 0), step)
        of = batch.variants[batch.rolled.numpy()]
        photos = int((of != 2).sum())
        assert photos <= 1 and (of != 2).tolist() == sorted(of != 2, reverse=True) and len(of) - photos <= 1
        assert batch.judged[:photos].tolist() == batch.rolled[:photos].tolist() and len(batch.emotions) == photos
        assert (batch.variants[batch.judged.numpy()] != 2).all()
        assert not np.isin(batch.rolled.numpy(), batch.drawn.numpy()).any()
        more = batch.rolled[photos:], batch.real_rows[photos:], batch.real_variants[photos:]
        for row, real, variant in zip(*more, strict=True):
            assert real == batch.rows[row] and variant == 2
            renditions += 1
    assert renditions
    loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert torch.isfinite(loss) and "adversarial" in scalars


def test_without_rollouts_there_is_nothing_for_it_to_judge(config: Config, run: Path, make_tiny_stage: MakeStage):
    settings = {"rendition_share": 1.0, "rollout_renditions": 2, "rollout_rows": 0}
    stage = make_tiny_stage("idadapter", run, adversarial(config, **settings))
    assert isinstance(stage, IdAdapterStage) and stage.discriminator is None and not stage.kept()
    assert not len(stage.draw(StepRandom(0, 0, 0), 0).rolled)


def test_a_resumed_run_has_the_discriminator_of_an_uninterrupted_one(
    config: Config, parts: Path, make_tiny_stage: MakeStage, tmp_path: Path
):
    both, runs = adversarial(config, joint=True), []
    for kind, stops in {"whole": [None], "resumed": [2, None]}.items():
        run = tmp_path / kind
        shutil.copytree(parts, run / "parts")
        for stop_at in stops:
            # Parts change as soon as a run stops; what the discriminator looks through may not.
            stage = make_tiny_stage("idadapter", run, both)
            train(stage, both.idadapter.loop, run / "idadapter", run / "parts", stop_at)
        assert isinstance(stage, IdAdapterStage) and stage.discriminator is not None
        checkpoint = latest_checkpoint(run / "idadapter")
        assert checkpoint is not None
        runs.append((load_file(checkpoint / "model.safetensors"), stage.discriminator.state_dict()))
    for whole, resumed in zip(*runs, strict=True):
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items())


def mean_in_process(rank: int, rendezvous: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=2)
    gradients = [torch.full((2,), float(rank)), torch.tensor([4.0 * rank])]
    mean_over_processes(gradients)
    assert gradients[0].tolist() == [0.5, 0.5] and gradients[1].tolist() == [2.0]
    torch.distributed.destroy_process_group()


def test_processes_train_it_by_the_mean_of_their_gradients(tmp_path: Path):
    torch.multiprocessing.spawn(mean_in_process, (f"file://{tmp_path / 'rendezvous'}",), nprocs=2)
    alone = [torch.ones(2)]
    mean_over_processes(alone)
    assert alone[0].tolist() == [1, 1]
