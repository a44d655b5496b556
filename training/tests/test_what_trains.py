"""The IDAdapter stage trains what the paper trains, and nothing else."""

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
from torch import nn

from idadapter.__main__ import make_stage
from idadapter.config import Config
from idadapter.data.captions import CLASS_NOUNS
from idadapter.data.told import TOLD
from idadapter.data.vision_crops import to_tensor
from idadapter.faces.fact_reader import FactReader
from idadapter.loop import Stage, StepRandom, parameter_groups, train
from idadapter.models.autoencoder import decode, make_autoencoder
from idadapter.models.idadapter import IdAdapterModel
from idadapter.models.text_encoder import encode_text
from idadapter.models.unet import make_unet, pooled_text_parameters
from idadapter.parts import read_text_encoder, write_unet, write_vae
from idadapter.stages import clip, diffusion, recognition
from idadapter.stages.idadapter import IdAdapterStage
from idadapter.tokenizer import encode_prompts, with_identifier

MakeStage = Callable[..., Stage]


def snapshot(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def changed(before: dict[str, torch.Tensor], module: nn.Module) -> set[str]:
    return {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}


def papers_choice(model: IdAdapterModel) -> set[str]:
    """MFF, P_textual, adapters, and keys and values of every cross-attention, by their names alone."""
    return {
        name
        for name, _ in model.named_parameters()
        if name.startswith("mixed_features.") or ".fuser." in name or ".attn2.to_k." in name or ".attn2.to_v." in name
    }


@pytest.mark.parametrize("threshold", [recognition.SCORE_THRESHOLD, -1.0], ids=["gate_closed", "gate_open"])
def test_exactly_the_papers_parameters_change(
    threshold: float, config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recognition, "SCORE_THRESHOLD", threshold)
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    judges = (stage.vae, stage.image_encoder, *stage.recognition.networks())
    before, judges_before = snapshot(stage.module), [snapshot(judge) for judge in judges]
    # No weight decay: what changes has had a gradient.
    assert config.idadapter.loop.weight_decay == 0
    train(stage, config.idadapter.loop, run / "idadapter")
    expected = papers_choice(stage.module)
    assert {name for name, p in stage.module.named_parameters() if p.requires_grad} == expected
    assert changed(before, stage.module) == expected
    assert not any(changed(old, judge) for old, judge in zip(judges_before, judges, strict=True))
    assert all(parameter.grad is None for judge in judges for parameter in judge.parameters())


def test_joint_training_trains_everything_but_the_text_encoder(config: Config, run: Path, make_tiny_stage: MakeStage):
    model = make_tiny_stage("idadapter", run).module
    joint = IdAdapterModel(model.unet, model.text_encoder, model.mixed_features, joint=True)
    assert {name for name, parameter in joint.named_parameters() if not parameter.requires_grad} == {
        f"text_encoder.{name}" for name, _ in model.text_encoder.named_parameters()
    }


def test_the_diffusion_stage_trains_the_unet_without_its_adapters(
    config: Config, run: Path, make_tiny_stage: MakeStage
):
    stage = make_tiny_stage("diffusion", run)
    before = snapshot(stage.module)
    train(stage, config.diffusion.loop, run / "diffusion")
    still = {name for name in before if name not in changed(before, stage.module)}
    assert still == {name for name in before if ".fuser." in name or name.startswith("text_encoder.")}


def test_identity_loss_is_gated_by_the_detector(run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    configure(stage, identity_weight=1.0)
    latents = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0))

    def gradient(threshold: float) -> tuple[float, torch.Tensor, dict]:
        monkeypatch.setattr(recognition, "SCORE_THRESHOLD", threshold)
        clean = latents.clone().requires_grad_(True)
        seen = judged(stage, clean, [10, 300, 900])
        loss, scalars = stage.recognition(stage.config, seen, StepRandom(0, 0, 0))
        loss.backward()
        return loss.item(), clean.grad, scalars

    # What a random decoder makes of noise is no face.
    loss, closed, scalars = gradient(recognition.SCORE_THRESHOLD)
    assert loss == 0 and scalars["faces"] == 0
    assert not closed.any()
    loss, opened, scalars = gradient(-1.0)
    assert 0 < loss < 2 and scalars["faces"] == 1
    assert opened.abs().amax((1, 2, 3)).min() > 0
    with torch.no_grad():
        scores = stage.recognition.detector.portrait_scores(decode(stage.vae, latents).clamp(0, 1))
    highest = int(scores.argmax())
    _, one, _ = gradient(float(scores.sort().values[1]))
    assert [bool(row.any()) for row in one] == [row == highest for row in range(3)]


def test_a_second_recognizer_is_pleased_by_the_person_and_by_nobody_else(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recognition, "SCORE_THRESHOLD", -1.0)
    chosen = replace(config.idadapter, identity_weight=0.0, second_identity_weight=1.0, jitter=0.0)
    stage = make_tiny_stage("idadapter", run, replace(config, idadapter=chosen))
    assert isinstance(stage, IdAdapterStage)
    np.testing.assert_allclose(np.linalg.norm(stage.people.second_means, axis=1), 1, atol=1e-5)
    drawn = stage.draw(StepRandom(0, 0, 0), 0)
    rows = drawn.rows[drawn.judged.numpy()]
    assert torch.equal(drawn.second_means, torch.from_numpy(stage.people.second_means[rows]))
    photos = to_tensor(stage.portraits.photos[:3])

    def loss(second_means: np.ndarray) -> float:
        seen = judged(stage, torch.zeros(3, 4, 16, 16), [10, 300, 900])
        seen = seen._replace(second_means=torch.from_numpy(np.ascontiguousarray(second_means)))
        found, scalars = stage.recognition(stage.config, seen, StepRandom(0, 0, 0))
        assert found.item() == pytest.approx(1 - scalars["second_cosine"].item(), abs=1e-5)
        return found.item()

    with monkeypatch.context() as patch:
        # What is judged are the photos themselves.
        patch.setattr(stage.recognition, "pictures", lambda latents: photos)
        assert loss(stage.people.second_means[:3]) < loss(-stage.people.second_means[:3]) - 0.1
    clean = torch.randn(3, 4, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    stage.recognition(stage.config, judged(stage, clean, [10, 300, 900]), StepRandom(0, 0, 0))[0].backward()
    assert clean.grad.abs().amax((1, 2, 3)).min() > 0


def test_features_are_compared_through_a_closed_gate_as_far_as_the_picture_is_visible(
    run: Path, make_tiny_stage: MakeStage
):
    stage = make_tiny_stage("idadapter", run)
    configure(stage, identity_weight=1.0, feature_weight=1.0, jitter=1.0)
    latents = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        own = decode(stage.vae, latents).clamp(0, 1)

    def gradient(photos: torch.Tensor) -> tuple[float, torch.Tensor]:
        clean = latents.clone().requires_grad_(True)
        seen = judged(stage, clean, [10, 999], photos=photos)
        loss, scalars = stage.recognition(stage.config, seen, StepRandom(0, 0, 0))
        assert scalars["faces"] == 0
        loss.backward()
        return loss.item(), clean.grad.abs().amax((1, 2, 3))

    loss, (visible, drowned) = gradient(to_tensor(stage.portraits.photos[:2]))
    assert loss > 0.05 and visible > 1e-4 and drowned < 1e-6 * visible
    # Seen through the same turn and blur, a picture is like itself.
    assert gradient(own)[0] < 0.05 * loss


def test_the_face_counts_more_and_the_whole_as_much(run: Path, make_tiny_stage: MakeStage, config: Config):
    plain = make_tiny_stage("idadapter", run)
    assert torch.equal(plain.place_weight, torch.ones_like(plain.place_weight))
    weighed = replace(config, idadapter=replace(config.idadapter, face_weight=3.0))
    stage = make_stage("idadapter", weighed, run, run / "cache")[0]
    assert stage.place_weight.mean().item() == pytest.approx(1)
    assert stage.place_weight[0, 0, 9, 8] > 2 * stage.place_weight[0, 0, 0, 0]
    random = StepRandom(0, 0, 0)
    _, scalars = stage.loss(stage.module, random, 0)
    stage.place_weight = torch.zeros_like(stage.place_weight)
    _, nothing = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert scalars["diffusion"] > 0 and nothing["diffusion"] == 0 and nothing["error"] == scalars["error"]


def test_a_batch_without_anybody_to_judge_has_a_finite_loss(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    # All rows are dropped to "nothing known".
    configure(stage, condition_dropout=1.0)
    loss, scalars = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    loss.backward()
    assert torch.isfinite(loss) and "faces" not in scalars


def test_each_unconditional_kind_has_its_share(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    configure(stage, condition_dropout=0.1, words_alone_share=0.5)
    empty, kinds = stage.tokenizer("")["input_ids"][:2], np.zeros(4)
    nouns = {tuple(stage.tokenizer(with_identifier(noun, noun))["input_ids"]) for noun in ("man", "woman", "person")}

    def count(_, inputs: tuple) -> None:
        for ids, anonymous in zip(inputs[2].tolist(), inputs[6].tolist(), strict=True):
            wordless = ids[:2] == empty if anonymous else any(ids[: len(noun)] == list(noun) for noun in nouns)
            kinds[2 * anonymous + wordless] += 1

    stage.module.register_forward_pre_hook(count)
    with torch.no_grad():
        for step in range(120):
            stage.loss(stage.module, StepRandom(0, step, 0), step)
    everything, person, words, nothing = kinds / kinds.sum()
    assert kinds.sum() == 120 * config.idadapter.loop.batch_size
    # Captions that say no more than the noun count as the person alone.
    assert abs(words - 0.5) < 0.08 and abs(nothing - 0.1) < 0.05 and 0.05 < person < 0.25 and everything > 0.15


def test_who_is_shown_the_very_picture_may_be_told_the_noun_alone(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run)
    configure(
        stage,
        itself_share=1.0,
        itself_share_low_noise=0.0,
        itself_wordless_share=1.0,
        condition_dropout=0.0,
        words_alone_share=0.0,
    )
    stage.people.captioned.rendition_share = 0.0
    monkeypatch.setattr(diffusion, "caption", lambda *_: "wearing a hat")
    nouns = encode_prompts(stage.tokenizer, [with_identifier(noun, noun) for noun in CLASS_NOUNS])
    described = []

    def look(_, inputs: tuple) -> None:
        noun_alone = (inputs[2][:, None] == nouns).all(2).any(1)
        described.extend(zip(inputs[1].tolist(), (~noun_alone).tolist(), strict=True))

    stage.module.register_forward_pre_hook(look)
    with torch.no_grad():
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert {timestep >= 500 for timestep, _ in described} == {True, False}
    assert all(words == (timestep < 500) for timestep, words in described)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_rendition_is_asked_for_by_its_caption_and_has_its_photo_for_a_reference_as_often_as_is_set(
    share: float, config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run)
    configure(
        stage,
        itself_share=1.0,
        itself_share_low_noise=1.0,
        itself_wordless_share=1.0,
        rendition_itself_share=share,
        condition_dropout=0.0,
        words_alone_share=0.0,
    )
    stage.people.captioned.rendition_share = 0.5
    references, variants, itself, described = stage.people.references, [], [], []
    draw_batch = stage.people.captioned

    def batch(*inputs: object, **named: object) -> tuple:
        drawn = draw_batch(*inputs, **named)
        variants.extend(drawn[1].tolist())
        return drawn

    def recorded(*inputs: object) -> tuple:
        itself.extend(inputs[3].tolist())
        return references(*inputs)

    monkeypatch.setattr(diffusion, "caption", lambda *_: "wearing a hat")
    monkeypatch.setattr(stage.people, "captioned", batch)
    monkeypatch.setattr(batch, "facts", draw_batch.facts, raising=False)
    monkeypatch.setattr(stage.people, "references", recorded)
    nouns = encode_prompts(stage.tokenizer, [with_identifier(noun, noun) for noun in CLASS_NOUNS])
    stage.module.register_forward_pre_hook(
        lambda _, inputs: described.extend((~(inputs[2][:, None] == nouns).all(2).any(1)).tolist())
    )
    with torch.no_grad():
        for step in range(4):
            stage.loss(stage.module, StepRandom(0, step, 0), step)
    drawings = [variant == 2 for variant in variants]
    assert {True, False} == set(drawings) and described == drawings
    assert itself == [not drawn or share == 1 for drawn in drawings]


def test_a_frozen_base_gets_nothing_new_that_nobody_trains(config: Config, run: Path, make_tiny_stage: MakeStage):
    plain = make_unet(replace(config.diffusion, pooled_text=False), 4, 16, config.clip.text_width)
    write_unet(run / "parts", plain)
    assert not pooled_text_parameters(make_tiny_stage("idadapter", run).module.unet)
    joint = replace(config, idadapter=replace(config.idadapter, joint=True))
    assert pooled_text_parameters(make_tiny_stage("idadapter", run, joint).module.unet)


def test_captions_too_long_for_the_model_end_no_training(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    long = ", ".join(["a woman", *["with an open mouth and more"] * 40])
    for name, module in (("clip", clip), ("diffusion", diffusion), ("idadapter", diffusion)):
        monkeypatch.setattr(module, "caption", lambda *_: long)
        stage = make_tiny_stage(name, run)
        loss, _ = stage.loss(stage.module, StepRandom(0, 0, 0), 0)
        assert torch.isfinite(loss), name


def test_rows_are_drawn_though_nobody_is_alone_or_nobody_has_several(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    several, alone = stage.people.several, stage.people.alone
    assert len(several) and len(alone) and not np.intersect1d(several, alone).size
    for stage.people.several, stage.people.alone in ((several, alone[:0]), (several[:0], alone)):
        assert np.isin(stage.people.rows(np.random.default_rng(0)), [*stage.people.several, *stage.people.alone]).all()


def test_the_identifier_is_appended_as_the_paper_says():
    assert with_identifier("a portrait", "woman") == "a portrait, woman is sks"


@pytest.mark.parametrize("name", ["diffusion", "idadapter"])
def test_a_unet_for_other_latents_is_refused(name: str, config: Config, run: Path, make_tiny_stage: MakeStage):
    write_vae(run / "parts", make_autoencoder(replace(config.autoencoder, latent_channels=3)))
    with pytest.raises(ValueError, match="remove parts/unet"):
        make_tiny_stage(name, run)


def test_what_was_trained_before_can_learn_more_slowly(config: Config, run: Path, make_tiny_stage: MakeStage):
    joint = replace(config.idadapter, joint=True, base_learning_rate=0.25)
    stage = make_tiny_stage("idadapter", run, replace(config, idadapter=joint))
    slow, fast = sorted(parameter_groups(stage, 4e-3), key=lambda group: group["lr"])
    assert (slow["lr"], fast["lr"]) == (1e-3, 4e-3)
    names = {parameter: name for name, parameter in stage.module.named_parameters()}
    pooled = {name for name in names.values() if name.startswith("unet.add_embedding.")}
    assert pooled and {names[p] for p in fast["params"]} == papers_choice(stage.module) | pooled
    assert {names[p].partition(".")[0] for p in slow["params"]} == {"unet"}
    assert len(slow["params"]) + len(fast["params"]) == sum(not n.startswith("text_encoder.") for n in names.values())


@pytest.mark.parametrize("name", ["diffusion", "idadapter"])
def test_a_run_without_a_text_encoder_gets_a_new_one(name: str, config: Config, run: Path, make_tiny_stage: MakeStage):
    old = read_text_encoder(run / "parts")
    shutil.rmtree(run / "parts" / "text_encoder")
    stage = make_tiny_stage(name, run)
    new = stage.module.text_encoder
    assert new.config.vocab_size == len(stage.tokenizer) and new.config.hidden_size == old.config.hidden_size
    # Its tokens are far from one another, whatever stands before them.
    ids = encode_prompts(stage.tokenizer, ["a man is smiling", "a woman, facing left"])
    hidden = encode_text(new, ids, torch.zeros(2, new.config.hidden_size), torch.full((2,), -1))
    words = torch.cat([hidden[0, :5], hidden[1, 2:6]])
    distance = (words[:, None] - words).square().mean(-1) / words.square().mean()
    assert distance[~torch.eye(9, dtype=torch.bool)].min() > 0.3
    stage.write_parts(run / "parts")
    written = read_text_encoder(run / "parts")
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), written.parameters(), strict=True))
    again = make_tiny_stage(name, run).module.text_encoder
    assert all(torch.equal(a, b) for a, b in zip(new.parameters(), again.parameters(), strict=True))


def test_the_model_is_not_told_of_added_noise(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    seen, wanted = [], []
    stage.module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].clone()))
    add_noise = stage.diffusion.add_noise
    stage.diffusion.add_noise = lambda *inputs: wanted.append(add_noise(*inputs)) or wanted[-1]
    for perturbation in (0.0, 0.1):
        configure(stage, input_perturbation=perturbation)
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    # Both times the first of `add_noise`'s answers is what shall be predicted, and it is the same.
    (plain, target, _), (_, same_target, _), _ = wanted
    assert torch.equal(seen[0], plain) and torch.equal(target, same_target)
    more = seen[1] - seen[0]
    assert 0.02 < float(more.std()) < 0.1


def test_eyes_and_mouth_can_count_more_than_the_face(config: Config, run: Path, make_tiny_stage: MakeStage):
    weighed = replace(config, idadapter=replace(config.idadapter, eyes_and_mouth_weight=3.0))
    weight = make_tiny_stage("idadapter", run, weighed).place_weight[0, 0]
    assert weight.mean().item() == pytest.approx(1)
    # On 16 x 16 places: the eyes stand in the eighth row, the mouth in the twelfth; forehead and cheek count as before.
    eyes, mouth, forehead, cheek = weight[7, [5, 10]].mean(), weight[11, 7:9].mean(), weight[4, 7], weight[10, 3]
    assert eyes > 2 * forehead and mouth > 2 * forehead and forehead < 1 and cheek < 1


def test_who_is_told_more_may_be_shown_the_photos_mirror_image(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run)
    stage.people.captioned.rendition_share = 0.0
    drawn = []
    draw_batch, references = stage.people.captioned, stage.people.references

    def batch(*inputs: object, **named: object) -> tuple:
        drawn.append([draw_batch(*inputs, **named)])
        return drawn[-1][0]

    def recorded(rows: np.ndarray, shown_mirrored: np.ndarray, *rest: object) -> tuple:
        drawn[-1].append(shown_mirrored)
        return references(rows, shown_mirrored, *rest)

    monkeypatch.setattr(batch, "facts", draw_batch.facts, raising=False)
    monkeypatch.setattr(stage.people, "captioned", batch)
    monkeypatch.setattr(stage.people, "references", recorded)
    always = {"itself_share": 1.0, "itself_share_low_noise": 1.0, "itself_mirrored_share": 1.0}
    for wordless, turned in ((0.0, True), (1.0, False)):
        configure(stage, **always, itself_wordless_share=wordless)
        with torch.no_grad():
            stage.loss(stage.module, StepRandom(0, 0, 0), 0)
        (_, variants), shown = drawn[-1]
        # Mirrored where the picture is not, and the other way round; who is told the noun alone sees the very photo.
        assert ((shown != (variants == 1)) == turned).all()


def test_who_is_told_more_may_have_a_reference_that_looks_elsewhere(
    run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run)
    stage.people.captioned.rendition_share = 0.0
    turned, references = [], stage.people.references

    def recorded(rows: np.ndarray, mirrored: np.ndarray, random: object, itself: object, turns: np.ndarray) -> tuple:
        turned.append(turns)
        return references(rows, mirrored, random, itself, turns)

    recorded.yaw = references.yaw  # type: ignore[attr-defined]
    monkeypatch.setattr(stage.people, "references", recorded)
    always = {"itself_share": 1.0, "itself_share_low_noise": 1.0}
    for wordless, share, expected in ((0.0, 1.0, True), (1.0, 1.0, False), (0.0, 0.0, False)):
        settings = {**always, "itself_wordless_share": wordless, "itself_turned_share": share}
        configure(stage, **settings)
        stage.draw(StepRandom(0, 0, 0), 0)
        # Who is told the noun alone sees the very photo.
        assert ((turned[-1] != 0) == expected).all()


def test_rows_that_are_told_more_are_judged_first(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    stage = make_tiny_stage("idadapter", run)
    stage.people.captioned.rendition_share = 0.0
    monkeypatch.setattr(diffusion, "caption", lambda *_: "wearing a hat")
    told_something = []
    monkeypatch.setattr(
        stage,
        "recognition",
        lambda _, seen, *__: (told_something.append((~seen.told.isnan().all(1)).numpy()) or seen.clean.sum() * 0, {}),
    )
    prompts = []
    stage.module.register_forward_pre_hook(lambda _, inputs: prompts.append(inputs[2].clone()))
    nouns = encode_prompts(stage.tokenizer, [with_identifier(noun, noun) for noun in CLASS_NOUNS])
    hats = [replace(facts, hat=True) for facts in stage.people.captioned.facts]
    monkeypatch.setattr(stage.people.captioned, "facts", hats)
    for first in (0, 2):
        told_something.clear(), prompts.clear()
        configure(
            stage,
            itself_share=0.5,
            itself_share_low_noise=0.5,
            itself_wordless_share=1.0,
            condition_dropout=0.0,
            words_alone_share=0.0,
            recognized=2,
            recognized_told=first,
        )
        with torch.no_grad():
            for step in range(12):
                stage.loss(stage.module, StepRandom(0, step, 0), step)
        told = [int((~(ids[:, None] == nouns).all(2).any(1)).sum()) for ids in prompts]
        count = [int(rows.sum()) for rows in told_something]
        assert all(len(rows) == 2 for rows in told_something)
        if first:
            assert count == [min(2, rows) for rows in told]
        else:
            assert sum(count) < sum(min(2, rows) for rows in told)


def test_what_a_caption_tells_moves_the_picture(run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recognition, "SCORE_THRESHOLD", -1.0)
    stage = make_tiny_stage("idadapter", run)
    stage.recognition.reader = FactReader()
    torch.nn.init.normal_(stage.recognition.reader.linear.weight, generator=torch.Generator().manual_seed(0))
    configure(stage, identity_weight=0.0, caption_weight=1.0)
    clean = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    told = torch.full((2, len(TOLD)), torch.nan)
    told[0, 0] = 1
    loss, scalars = stage.recognition(stage.config, judged(stage, clean, [900, 900], told=told), StepRandom(0, 0, 0))
    loss.backward()
    assert loss > 0 and scalars["told_wrong_high_noise"] > 0 and scalars["told_wrong_low_noise"] == 0
    # Of whom nothing is told nothing is asked.
    assert clean.grad[0].abs().max() > 0 and not clean.grad[1].any()
