"""A discriminator that tells rollouts from photos: what it is shown, whom it teaches, and that a run keeps it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configured import configure
from predictions import judged
from safetensors.torch import load_file

from idadapter.config import Config
from idadapter.loop import Stage, StepRandom, latest_checkpoint, train
from idadapter.models.latent_discriminator import LatentDiscriminator, looks_drawn, told_apart
from idadapter.stages import people_draw
from idadapter.stages.idadapter import IdAdapterStage
from idadapter.tokenizer import encode_prompts

MakeStage = Callable[..., Stage]


def adversarial(config: Config, **settings: object) -> Config:
    """With two rollouts a step of everybody known, judged by a discriminator alone."""
    alone = {"identity_weight": 0.0, "condition_dropout": 0.0, "words_alone_share": 0.0, "rendition_share": 0.0}
    settings = {"rollout_rows": 2, "rollout_steps": 2, "adversarial_weight": 1.0, **alone, **settings}
    return replace(config, idadapter=replace(config.idadapter, **settings))


def watched_gradients(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """Gets the gradient of each of the module's predictions."""
    gradients: list[torch.Tensor] = []
    forward = stage.module.forward

    def watched(*given: torch.Tensor) -> torch.Tensor:
        predicted = forward(*given)
        predicted.register_hook(gradients.append)
        return predicted

    monkeypatch.setattr(stage.module, "forward", watched)
    return gradients


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
    assert isinstance(stage, IdAdapterStage) and stage.discriminators.latent is not None
    gradients = watched_gradients(stage, monkeypatch)
    before = {name: value.clone() for name, value in stage.discriminators.latent.state_dict().items()}
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
    after = stage.discriminators.latent.state_dict()
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    assert moved == {name for name in before if name.startswith("heads.")}
    # It learns from each step once.
    stage.after_step(random, 0)
    assert stage.after_step(random, 0)["discriminator"] == 0


def face_adversarial(config: Config, **settings: object) -> Config:
    """The same with the discriminator of faces alone."""
    return adversarial(config, adversarial_weight=0.0, face_adversarial_weight=1.0, **settings)


def test_faces_of_rollouts_are_held_to_photos_and_only_heads_learn(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run, face_adversarial(config))
    assert isinstance(stage, IdAdapterStage) and stage.discriminators.latent is None
    assert stage.discriminators.face is not None and stage.kept()[0] is stage.discriminators.face
    gradients = watched_gradients(stage, monkeypatch)
    before = {name: value.clone() for name, value in stage.discriminators.face.state_dict().items()}
    random = StepRandom(0, 0, 0)
    batch = stage.draw(random, 0)
    loss, scalars = stage.loss(stage.module, random, 0, batch)
    loss.backward()
    # A mean over all that are judged, of whom only those rolled out are told apart.
    share = len(batch.emotions) / len(batch.judged)
    assert loss.item() == pytest.approx(float(scalars["diffusion"] + share * scalars["face_adversarial"]), rel=1e-5)
    assert gradients[0][batch.rolled].flatten(1).any(1).all()
    assert stage.after_step(random, 0)["face_discriminator"] > 0
    after = stage.discriminators.face.state_dict()
    assert all(not torch.equal(value, after[name]) for name, value in before.items() if name.endswith("weight"))
    assert stage.after_step(random, 0)["face_discriminator"] == 0


def test_it_learns_what_photos_and_rollouts_look_like_by_how_much_is_visible(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run, face_adversarial(config))
    assert isinstance(stage, IdAdapterStage) and stage.discriminators.face is not None
    random = torch.Generator().manual_seed(0)
    clean, real = torch.randn(2, 3, 4, 16, 16, generator=random)
    seen: list[torch.Tensor] = []
    recognizer = stage.recognition.recognizer
    features = recognizer.features
    monkeypatch.setattr(recognizer, "features", lambda faces: seen.append(faces) or features(faces))

    def gradients(timesteps: list[int], held: bool = True) -> torch.Tensor:
        leaf = clean.clone().requires_grad_(True)
        rolled = judged(stage, leaf, timesteps, 2, real=real[:2])
        loss, _ = stage.recognition(stage.config, rolled, StepRandom(0, 0, 0), held)
        loss.backward()
        return leaf.grad

    configure(stage, identity_weight=0.0)
    both = gradients([100, 100, 100])
    drawn, photographed = seen[0], seen[-1]
    assert len(drawn) == 3 and len(photographed) == 2
    learned = stage.discriminators.seen["face_discriminator"]
    assert torch.equal(learned.real[0], features(photographed)[0])
    assert torch.equal(learned.share, stage.diffusion.visible(torch.tensor([100, 100])))
    # Whom no rollout made is not told apart, and what noise hides counts less.
    assert both[:2].flatten(1).any(1).all() and not both[2].any()
    hidden = gradients([900, 100, 100])
    assert hidden[0].norm() < 0.5 * both[0].norm() and torch.allclose(hidden[1], both[1])
    assert not gradients([100, 100, 100], held=False).any()


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
    stage.people.captioned.facts = [
        replace(fact, glasses=row % 2 == 0) for row, fact in enumerate(stage.people.captioned.facts)
    ]
    monkeypatch.setattr(people_draw, "caption", lambda facts, *_: "with glasses" if facts.glasses else "no")
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
    assert isinstance(stage, IdAdapterStage) and stage.discriminators.latent is None and not stage.kept()
    assert not len(stage.draw(StepRandom(0, 0, 0), 0).rolled)


def test_a_batch_of_nobody_known_teaches_neither_the_model_nor_discriminators(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    nobody = {"condition_dropout": 1.0, "identity_weight": 0.1}
    stage = make_tiny_stage("idadapter", run, adversarial(config, face_adversarial_weight=1.0, **nobody))
    assert isinstance(stage, IdAdapterStage)
    loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert loss.item() == pytest.approx(float(scalars["diffusion"])) and not stage.discriminators.seen
    assert stage.after_step(StepRandom(0, 0, 0), 0) == {"discriminator": 0, "face_discriminator": 0}


def test_a_resumed_run_has_the_discriminators_of_an_uninterrupted_one(
    config: Config, parts: Path, make_tiny_stage: MakeStage, tmp_path: Path
):
    both, runs = adversarial(config, joint=True, face_adversarial_weight=1.0), []
    for kind, stops in {"whole": [None], "resumed": [2, None]}.items():
        run = tmp_path / kind
        shutil.copytree(parts, run / "parts")
        for stop_at in stops:
            # Parts change as soon as a run stops; what the discriminator looks through may not.
            stage = make_tiny_stage("idadapter", run, both)
            train(stage, both.idadapter.loop, run / "idadapter", run / "parts", stop_at)
        assert isinstance(stage, IdAdapterStage)
        checkpoint = latest_checkpoint(run / "idadapter")
        assert checkpoint is not None
        kept = [one.state_dict() for one in stage.discriminators.networks().values()]
        assert len(kept) == 2
        runs.append((load_file(checkpoint / "model.safetensors"), *kept))
    for whole, resumed in zip(*runs, strict=True):
        assert whole.keys() == resumed.keys()
        assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
