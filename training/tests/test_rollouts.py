"""Rollouts: what the model draws out of noise itself, and what it is held to there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from configured import configure
from predictions import judged

from idadapter.config import Config
from idadapter.data.told import TOLD
from idadapter.data.turned_heads import APPARENT, LARGEST_TURN, yaw_offset_at
from idadapter.data.vision_crops import to_tensor
from idadapter.faces.colours import region_colours
from idadapter.faces.emotion import CLASSES, EmotionClassifier
from idadapter.faces.fact_reader import FactReader
from idadapter.loop import Stage, StepRandom
from idadapter.models.autoencoder import decode
from idadapter.rollouts import guided_prompts, roll_out
from idadapter.stages import people_draw, recognition
from idadapter.stages.idadapter import IdAdapterStage
from idadapter.tokenizer import encode_prompts, with_identifier

MakeStage = Callable[..., Stage]


def rolling(stage: IdAdapterStage, rows: int) -> None:
    """Has the stage roll out so many rows of every batch, and everybody known in all of them."""
    configure(
        stage,
        rollout_rows=rows,
        rollout_steps=3,
        condition_dropout=0.0,
        words_alone_share=0.0,
        caption_weight=1.0,
    )
    stage.recognition.reader = FactReader()
    stage.people.captioned.rendition_share = 0.0


def test_a_rollout_starts_from_noise_alone_and_has_no_diffusion_loss(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    rolling(stage, 2)
    inputs: list[tuple] = []
    stage.module.register_forward_pre_hook(lambda _, given: inputs.append(given))
    latents = stage.latents
    _, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)

    class Others:
        pictures = staticmethod(latents.pictures)

        def __call__(self, *which: np.ndarray) -> torch.Tensor:
            return latents(*which) + 1

    stage.latents = stage.people.latents = Others()
    _, others = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    (noisy, timesteps, *_), (noisy_of_others, *_) = inputs
    same = (noisy == noisy_of_others).flatten(1).all(1)
    assert same.tolist() == [True, True, *[False] * (len(noisy) - 2)]
    low, high = people_draw.ROLLOUT_TIMESTEPS
    assert ((timesteps[:2] >= low) & (timesteps[:2] < high)).all()
    assert "rollout_cosine" in scalars and others["diffusion"] != scalars["diffusion"]
    # With all rows rolled out there is nothing else to be learned from the photos' latents.
    rolling(stage, len(noisy))
    loss, _ = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    stage.latents = stage.people.latents = latents
    assert stage.loss(stage.module, StepRandom(0, 0, 0), 0)[0] == loss


def test_a_rollout_runs_only_the_predictions_that_count(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    rolling(stage, 2)
    guided = {"rollout_guidance_scale": 2.0, "rollout_identity_guidance_scale": 2.0, "rollout_guidance_rescale": 0.5}
    early = {"rollout_early_guidance_scale": 5.0, "rollout_early_identity_guidance_scale": 1.0}
    configure(stage, **guided, **early)
    batch = stage.draw(StepRandom(0, 0, 0), 0)
    noise = torch.randn(1, 2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    features = (to_tensor(batch.crops), batch.index, batch.faces)
    if stage.module.image_encoder is None:
        features = (*stage.features(features[0], batch.index), batch.faces)
    sizes: list[int] = []
    denoise = stage.module.denoise
    monkeypatch.setattr(stage.module, "denoise", lambda noisy, *rest: sizes.append(len(noisy)) or denoise(noisy, *rest))
    drawn = roll_out(stage.config, stage.module, stage.diffusion, batch, noise, features)
    needed = [len(rows) for rows in batch.rolled_needed]
    # The words alone count in the first steps, until timestep 800: at least in the first, and not in the last.
    assert sizes == needed and needed[0] == 6 and needed[-1] < 6
    everything = torch.arange(6)
    whole = batch._replace(rolled_needed=[everything] * 3)
    again = roll_out(stage.config, stage.module, stage.diffusion, whole, noise, features)
    assert torch.allclose(again, drawn, atol=1e-5)
    times = batch.rolled_times
    assert (times[0] == 999).all() and torch.equal(times[-1], batch.timesteps[batch.rolled])


def test_a_rollouts_steps_add_noise_where_that_is_set(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    rolling(stage, 2)
    step, added = stage.diffusion.step, []

    def watched(*given: torch.Tensor | None) -> torch.Tensor:
        added.append(given[-1])
        return step(*given)

    stage.diffusion.step = watched
    with torch.no_grad():
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
        assert added == [None] * 3
        configure(stage, rollout_ancestral=True)
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    fresh = torch.stack(added[3:])
    assert fresh.shape == (3, 2, 4, 16, 16) and abs(float(fresh.std()) - 1) < 0.05
    assert not torch.equal(fresh[0], fresh[1]) and not torch.equal(fresh[0, 0], fresh[0, 1])


def test_a_rollout_is_told_what_no_photo_of_the_person_need_show(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run)
    rolling(stage, 2)
    facts = [replace(fact, glasses=False, hat=False) for fact in stage.people.captioned.facts]
    stage.people.captioned.facts = facts
    wanted = []
    monkeypatch.setattr(
        stage.recognition.reader, "losses", lambda features, told: wanted.append(told) or told.new_zeros(len(told))
    )
    monkeypatch.setattr(people_draw, "caption", lambda facts, *_: "a man with glasses" if facts.glasses else "a man")
    with torch.no_grad():
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
        train_rows = stage.portraits.train
        stage.people.captioned.facts = [replace(fact, glasses=row in train_rows) for row, fact in enumerate(facts)]
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    glasses = [told[:2, TOLD.index("glasses")] for told in wanted]
    assert torch.isnan(glasses[0]).all() and (glasses[1] == 1).all()


def test_rollouts_count_as_much_as_they_are_set_to(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recognition, "SCORE_THRESHOLD", -1.0)
    stage = make_tiny_stage("idadapter", run)
    configure(stage, identity_weight=1.0, feature_weight=1.0, rollout_weight=3.0)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def gradients(rolled: int, alike: bool) -> torch.Tensor:
        clean = latents.clone().requires_grad_(True)
        seen = judged(stage, clean, [10, 10], rolled, alike=torch.full((2,), alike))
        loss, _ = stage.recognition(stage.config, seen, StepRandom(0, 0, 0))
        return torch.autograd.grad(loss, clean)[0]

    none, one, one_alike = gradients(0, False), gradients(1, False), gradients(1, True)
    assert torch.allclose(one_alike[0], 3 * none[0], rtol=1e-3, atol=1e-7)
    assert torch.equal(one[1], none[1]) and torch.equal(one_alike[1], none[1])
    # Who was told something else is not held to the photo's features, but to the person.
    configure(stage, feature_weight=0.0)
    assert torch.allclose(one[0], gradients(1, False)[0], rtol=1e-3, atol=1e-7)


def test_a_rollout_is_guided_as_the_service_guides(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    rolling(stage, 2)
    configure(
        stage,
        rollout_guidance_scale=4.0,
        rollout_identity_guidance_scale=1.5,
        rollout_early_guidance_scale=2.0,
        rollout_early_identity_guidance_scale=1.0,
    )
    nothing = encode_prompts(stage.tokenizer, [""])[0]
    kinds: list[torch.Tensor] = []

    def denoise(
        noisy: torch.Tensor, timesteps: torch.Tensor, ids: torch.Tensor, positions: torch.Tensor, who: tuple, _
    ):
        known = who[0].flatten(1).any(1)
        assert ((positions >= 0) == known).all() and (who[1].flatten(1).any(1) == known).all()
        kind = torch.where(known, 1.0, torch.where((ids == nothing).all(1), 100.0, 10.0))
        kinds.append(kind)
        return kind[:, None, None, None].expand_as(noisy)

    stage.module.denoise = denoise
    steps: list[torch.Tensor] = []
    step = stage.diffusion.step
    stage.diffusion.step = lambda noisy, predicted, now, then, fresh: (
        steps.append(torch.cat([predicted[:, 0, 0, 0], now, then])) or step(noisy, predicted, now, then, fresh)
    )
    with torch.no_grad():
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert len(steps) == 3 and steps[0][2:4].tolist() == [999, 999]
    for earlier, later in zip(steps, steps[1:], strict=False):
        assert torch.equal(earlier[4:], later[2:4]) and (later[4:] < later[2:4]).all()
    # e(0, 0) + 4 (e(w, 0) - e(0, 0)) + 1.5 (e(w, p) - e(w, 0))
    # and with 2 and 1 from timestep 800 on
    early, late = -1 * 100 + 1 * 10 + 1.0, -3 * 100 + 2.5 * 10 + 1.5
    for x in steps:
        assert x[:2].tolist() == [early if now >= 800 else late for now in x[2:4].tolist()]
    assert steps[0][:2].tolist() == [early] * 2 and steps[-1][:2].tolist() == [late] * 2


def test_a_rollouts_guidance_is_rescaled_as_far_as_is_set(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    rolling(stage, 2)
    configure(stage, rollout_guidance_scale=4.0, rollout_identity_guidance_scale=1.5)
    random = torch.Generator().manual_seed(0)
    kinds = torch.randn(3, 2, 4, 16, 16, generator=random)
    stage.module.denoise = lambda noisy, *_: kinds.flatten(0, 1)
    step, steps = stage.diffusion.step, []

    def spreads(phi: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
        configure(stage, rollout_guidance_rescale=phi)
        steps.clear()
        with torch.no_grad():
            stage.loss(stage.module, StepRandom(0, 0, 0), 0)
        return list(steps)

    def watched(
        noisy: torch.Tensor, predicted: torch.Tensor, now: torch.Tensor, then: torch.Tensor, fresh: torch.Tensor | None
    ) -> torch.Tensor:
        clean = [stage.diffusion.clean(noisy, one, now).std((1, 2, 3)) for one in (predicted, kinds[-1])]
        steps.append(tuple(clean))
        return step(noisy, predicted, now, then, fresh)

    stage.diffusion.step = watched
    assert all((guided > 1.5 * conditional).all() for guided, conditional in spreads(0.0)[:1])
    rescaled = spreads(1.0)
    assert len(rescaled) == 3 and all(torch.allclose(a, b, rtol=1e-3) for a, b in rescaled)


def test_rollouts_are_led_away_from_what_is_set_but_where_a_drawing_is_asked_for(config: Config):
    guided = {
        "rollout_guidance_scale": 2.0,
        "rollout_early_guidance_scale": 3.0,
        "rollout_negative_prompt": "a cartoon",
    }
    prompts = [with_identifier(words, "man") for words in ("a man", "a man, comic style")]
    told = guided_prompts(replace(config.idadapter, **guided), prompts, ["man", "man"])
    assert told == ["a cartoon", "", "a man", "a man, comic style", *prompts]


def test_rollouts_are_told_of_turned_heads_and_emotions_as_often_as_is_set(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    train = stage.portraits.train
    stage.people.turned, stage.people.emotional = train[:2], [train[2:3], train[3:6]]
    configure(stage, rollout_turned_share=0.3, rollout_emotion_share=0.4)
    draw = np.random.default_rng(0)
    rows = np.array([stage.people.told_of(draw) for _ in range(2000)])
    others = 0.3 / len(train)
    assert np.isin(rows, stage.people.turned).mean() == pytest.approx(0.3 + 2 * others, abs=0.03)
    # Each emotion as often as any other, however many photos show it.
    assert (rows == train[2]).mean() == pytest.approx(0.2 + others, abs=0.03)
    assert np.isin(rows, train[3:6]).mean() == pytest.approx(0.2 + 3 * others, abs=0.03)
    configure(stage, rollout_turned_share=0.0, rollout_emotion_share=0.0)
    assert len({stage.people.told_of(draw) for _ in range(500)}) > 0.8 * len(train)


def test_rollouts_of_turned_references_are_to_look_where_these_do(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    rolling(stage, 4)
    itself = {"itself_share": 1.0, "itself_share_low_noise": 1.0, "itself_wordless_share": 1.0, "recognized": 0}
    yaw = TOLD.index("yaw")
    for share in (0.0, 1.0):
        configure(stage, **itself, rollout_turned_reference_share=share)
        batch = stage.draw(StepRandom(3, 0, 0), 0)
        looks = batch.told[:, yaw]
        # The noun alone tells no view: a turned reference does, and another does not, but is to be looked like.
        assert len(looks) == len(batch.rolled) > 0
        assert bool(looks.isfinite().all()) == (share == 1.0) and bool(looks.isnan().all()) == (share == 0.0)
        assert bool(batch.alike.any()) == (share == 0.0)
    spread = np.concatenate([stage.draw(StepRandom(seed, 0, 0), 0).told[:, yaw].numpy() for seed in range(20)])
    # To either side, as far as turned heads look turned.
    assert spread.min() < -0.1 and spread.max() > 0.1 and np.abs(spread).max() <= yaw_offset_at(LARGEST_TURN) + 1e-6
    stage.people.references.yaw = lambda *_: 0.0  # type: ignore[method-assign]
    straight = np.concatenate([stage.draw(StepRandom(seed, 0, 0), 0).told[:, yaw].numpy() for seed in range(20)])
    assert 0.15 < np.abs(straight).max() <= yaw_offset_at(APPARENT * LARGEST_TURN) + 1e-6


def test_a_rollout_is_to_show_the_emotion_it_is_told(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recognition, "SCORE_THRESHOLD", -1.0)
    stage = make_tiny_stage("idadapter", run)
    stage.recognition.emotion = EmotionClassifier.from_package()
    configure(stage, identity_weight=0.0, caption_weight=0.0, emotion_weight=1.0, jitter=0.0)
    clean = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(True)

    def wrong(emotions: list[int]) -> tuple[torch.Tensor, dict]:
        seen = judged(stage, clean, [10, 10, 10], emotions=torch.tensor(emotions))
        return stage.recognition(stage.config, seen, StepRandom(0, 0, 0))

    loss, scalars = wrong([CLASSES.index("sad"), -1])
    assert loss.item() == pytest.approx(
        float(scalars["rollout_emotion_wrong"]) * stage.config.rollout_weight / 3, rel=1e-4
    )
    [gradient] = torch.autograd.grad(loss, clean)
    # Who is told nothing, or is not rolled out, is asked nothing.
    assert gradient[0].any() and not gradient[1:].any()
    with torch.no_grad():
        clean -= 0.05 * gradient.sign()
    assert wrong([CLASSES.index("sad"), -1])[0] < loss


def test_a_rollout_has_the_colours_of_its_reference(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recognition, "SCORE_THRESHOLD", -1.0)
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    configure(stage, identity_weight=0.0, caption_weight=0.0, rollout_colour_weight=1.0)
    clean = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    told = torch.full((3, len(TOLD)), torch.nan)
    with torch.no_grad():
        drawn = region_colours(decode(stage.vae, clean).clamp(-0.1, 1.1), stage.recognition.regions)[:2]

    def off(colours: torch.Tensor) -> torch.Tensor:
        seen = judged(stage, clean, [10, 10, 10], 2, told=told, colours=colours)
        return stage.recognition(stage.config, seen, StepRandom(0, 0, 0))[0]

    assert off(drawn) < 1e-6
    other = drawn + torch.tensor([[[0.3], [0.0]], [[0.0], [0.3]]])
    loss = off(other)
    assert loss.item() == pytest.approx((0.15 + 0.15) * stage.config.rollout_weight / 3, rel=1e-3)
    [gradient] = torch.autograd.grad(loss, clean)
    # Who is not rolled out may look as its photo does.
    assert gradient[0].any() and gradient[1].any() and not gradient[2].any()
    # A hat may have any colour, and who is told of none may have another under it; the skin stays.
    told[:, TOLD.index("hat")] = torch.tensor([1.0, 0.0, 1.0])
    assert off(other).item() == pytest.approx(0.3 * stage.config.rollout_weight / 3, rel=1e-3)


def test_colours_count_where_they_alone_are_set_to(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    rolling(stage, 2)
    stage.recognition.reader = None
    configure(stage, identity_weight=0.0, caption_weight=0.0)
    assert "rollout_colour_off" not in stage.loss(stage.module, StepRandom(0, 0, 0), 0)[1]
    configure(stage, rollout_colour_weight=1.0)
    _, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    stage.reference_colours = lambda crops, batch: torch.full((2, 2, 3), 5.0)
    _, others = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert 0 < scalars["rollout_colour_off"] < 2 < others["rollout_colour_off"]


def test_a_rollouts_colours_are_those_of_all_its_references(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    rolling(stage, 2)
    batch = stage.draw(StepRandom(0, 0, 0), 0)
    shades = torch.linspace(0, 1, len(batch.crops))
    crops = shades[:, None, None, None].expand(-1, *to_tensor(batch.crops).shape[1:])
    rows = batch.judged[:2]
    wanted = (shades[batch.index[rows]] * batch.counts[rows]).sum(1) / stage.config.references
    colours = stage.reference_colours(crops, batch)
    assert colours.shape == (2, 2, 3)
    assert torch.allclose(colours, wanted[:, None, None].expand(-1, 2, 3), atol=1e-5)
