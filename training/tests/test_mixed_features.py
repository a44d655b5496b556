"""Mixed facial features (equations 3 to 6), and the references training draws for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import open_adapters

from idadapter.config import Config
from idadapter.data.vision_crops import crop
from idadapter.loop import Stage, StepRandom
from idadapter.models.mixed_features import MixedFeatures
from idadapter.parts import read_mixed_features, write_part
from idadapter.stages.idadapter import IdAdapterStage

MakeStage = Callable[..., Stage]


def module() -> MixedFeatures:
    torch.manual_seed(0)
    return MixedFeatures(patch_width=16, face_width=12, width=32, text_width=24, face_tokens=3).eval()


def features(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    patch, classes, faces = (torch.randn(1, count, *shape, generator=random) for shape in ((5, 16), (16,), (12,)))
    return patch, classes, torch.nn.functional.normalize(faces, dim=-1)


@torch.no_grad()
def test_tokens_of_every_photo_and_of_the_face():
    tokens, embedding = module()(*features(4))
    assert tokens.shape == (1, 4 * 5 + 3, 32) and embedding.shape == (1, 24)


@torch.no_grad()
def test_the_face_reaches_the_patches_before_any_attention():
    mixed, (patch, classes, faces) = module(), features(1)
    for block in mixed.blocks:
        for layer in (block.attention.to_out[0], block.feed_forward.net[2]):
            layer.weight.zero_()
    tokens, other = mixed(patch, classes, faces)[0], mixed(patch, classes, faces.flip(-1))[0]
    assert (tokens - other).abs().amax(2).min() > 1e-3


@torch.no_grad()
def test_parts_from_before_the_face_stood_beside_the_patches_are_read(tmp_path: Path):
    old = MixedFeatures(patch_width=16, face_width=12, width=32, text_width=24, face_tokens=3, face_in_patches=False)
    config = {name: value for name, value in old.config.items() if name != "face_in_patches"}
    write_part(tmp_path, "mixed_features", old.state_dict(), config)
    for given, known in zip(old(*features(2)), read_mixed_features(tmp_path)(*features(2)), strict=True):
        torch.testing.assert_close(given, known, rtol=0, atol=0)


@torch.no_grad()
def test_copies_of_one_photo_are_one_photo():
    mixed, (patch, classes, faces) = module(), features(1)
    tokens, embedding = mixed(patch.expand(-1, 4, -1, -1), classes.expand(-1, 4, -1), faces.expand(-1, 4, -1))
    copies = tokens[:, 3:].reshape(1, 4, 5, 32)
    torch.testing.assert_close(copies, copies[:, :1].expand_as(copies), rtol=0, atol=1e-5)
    # E_c is a mean, so that it does not know how often a photo stood there.
    torch.testing.assert_close(embedding, mixed(patch, classes, faces)[1], rtol=0, atol=1e-6)


@torch.no_grad()
def test_a_count_stands_for_copies():
    mixed, (patch, classes, faces) = module(), features(2)
    order = [0, 1, 0, 0]
    tokens, embedding = mixed(patch[:, order], classes[:, order], faces[:, order])
    counts = torch.tensor([[3.0, 1.0]])
    few, same = mixed(patch, classes, faces, counts)
    torch.testing.assert_close(same, embedding, rtol=0, atol=1e-6)
    torch.testing.assert_close(few, tokens[:, : 3 + 10], rtol=0, atol=1e-5)
    assert (mixed(patch, classes, faces)[0] - few).abs().max() > 1e-3
    torch.testing.assert_close(mixed.token_bias(counts, 5).exp(), torch.tensor([[1.0] * 3 + [3.0] * 5 + [1.0] * 5]))


@torch.no_grad()
def test_the_order_of_the_photos_does_not_matter():
    mixed, inputs = module(), features(4)
    order = torch.tensor([2, 0, 3, 1])
    tokens, embedding = mixed(*inputs)
    shuffled, same = mixed(*(value[:, order] for value in inputs))
    torch.testing.assert_close(same, embedding, rtol=0, atol=1e-6)
    expected = tokens[:, 3:].reshape(1, 4, 5, 32)[:, order].reshape(1, 20, 32)
    torch.testing.assert_close(shuffled[:, 3:], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(shuffled[:, :3], tokens[:, :3], rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_feature_counts():
    mixed, inputs = module(), features(2)
    tokens, embedding = mixed(*inputs)
    for index in range(3):
        changed = list(inputs)
        changed[index] = inputs[index] + torch.tensor([1.0, 0.0]).view(1, 2, *[1] * (inputs[index].ndim - 2))
        other, other_embedding = mixed(*changed)
        # f_c makes E_c alone, f_v and f_a make E_r alone.
        assert torch.equal(other, tokens) == (index == 1)
        assert torch.equal(other_embedding, embedding) == (index != 1)


@torch.no_grad()
def test_a_new_mff_begins_with_the_principal_components_of_the_patches():
    torch.manual_seed(0)
    mixed = module()
    width = mixed.config["patch_width"]
    # Variances from 1 down to a thousandth, turned, about a mean of their own.
    spread = torch.logspace(0, -3, width).sqrt()
    patches = (torch.randn(400, 5, width) * spread) @ torch.linalg.qr(torch.randn(width, width))[0] + torch.randn(width)
    mixed.begin_with(patches)
    count = min(width, mixed.config["width"])
    components = mixed.patch_in(patches)[..., :count].flatten(0, 1)
    covariance = components.T.cov()
    torch.testing.assert_close(components.mean(0), torch.zeros(count), rtol=0, atol=1e-3)
    assert covariance.diagonal().min() > 0.5 and covariance.diagonal().max() < 1.01
    assert (covariance - covariance.diagonal().diag()).abs().max() < 1e-3
    tokens = torch.randn(1, 3, mixed.config["width"])
    assert all(torch.equal(block(tokens), tokens) for block in mixed.blocks)


def test_references_are_other_photos_of_the_person(run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    assert isinstance(stage, IdAdapterStage)
    references = stage.people.references
    rows = np.concatenate([stage.people.several[:4], stage.people.alone[:2]])
    singles = 0
    for seed in range(30):
        crops, index, faces, counts = references(rows, seed % 2 == rows % 2, np.random.default_rng(seed))
        assert index.shape == counts.shape == (len(rows), 3) and faces.shape == (len(rows), 3, 128)
        # Every crop is used, by one person alone, and each person has N photos.
        assert sorted({int(i) for i in index.ravel()}) == list(range(len(crops)))
        assert torch.equal(counts.sum(1), torch.full((len(rows),), 3.0))
        for row, places, embedded, each in zip(rows, index, faces.numpy(), counts.tolist(), strict=True):
            identity = references.identity[row]
            sources = [stage.embeddings[other, flip] for other in references.groups[identity] for flip in (0, 1)]
            own = [stage.embeddings[row, flip] for flip in (0, 1)]
            for face in embedded:
                assert any(np.array_equal(face, source) for source in sources)
                if row in stage.people.several:
                    assert not any(np.array_equal(face, source) for source in own)
            assert each in ([1.0, 1.0, 1.0], [3.0, 0.0, 0.0])
            if len(set(places.tolist())) == 1:
                singles += 1
                assert each == [3.0, 0.0, 0.0]
                assert all(np.array_equal(face, embedded[0]) for face in embedded)
            else:
                # K < N photos: the rest are altered copies, each a picture of its own.
                assert len(set(places.tolist())) == 3
    assert 0.2 < singles / (30 * len(rows)) < 0.6


def test_a_reference_that_is_the_photo_itself_is_unaltered(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    stage.people.references.single_share = 1.0
    rows, mirrored = stage.people.several[:4], np.array([False, True, False, True])
    crops, index, faces, counts = stage.people.references(rows, mirrored, np.random.default_rng(0), np.ones(4, bool))
    assert index[:, 0].tolist() == [0, 1, 2, 3] and counts.tolist() == [[3.0, 0.0, 0.0]] * 4
    for row, flip, shown, face in zip(rows, mirrored, crops, faces[:, 0].numpy(), strict=True):
        photo = np.ascontiguousarray(stage.portraits.photos[row][:, :: -1 if flip else 1])
        assert np.array_equal(shown.numpy(), crop(photo, stage.people.references.size))
        assert np.array_equal(face, stage.embeddings[row, int(flip)])
    some = np.array([True, False, True, False])
    _, _, faces, _ = stage.people.references(rows, mirrored, np.random.default_rng(0), some)
    own = stage.embeddings[rows, mirrored.astype(int)]
    assert np.array_equal((faces[:, 0].numpy() == own).all(1), some)


def test_the_photo_itself_stands_among_others(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    stage.people.references.single_share = 0.0
    rows, mirrored = (
        np.concatenate([stage.people.several[:3], stage.people.alone[:1]]),
        np.array([False, True, False, True]),
    )
    crops, index, faces, counts = stage.people.references(rows, mirrored, np.random.default_rng(0), np.ones(4, bool))
    assert counts.tolist() == [[1.0, 1.0, 1.0]] * 4 and sorted(index.ravel().tolist()) == list(range(12))
    for row, flip, places, embedded in zip(rows, mirrored, index, faces.numpy(), strict=True):
        photo = np.ascontiguousarray(stage.portraits.photos[row][:, :: -1 if flip else 1])
        itself = torch.from_numpy(crop(photo, stage.people.references.size))
        assert torch.equal(crops[places[0]], itself) and np.array_equal(embedded[0], stage.embeddings[row, int(flip)])
        own = [stage.embeddings[row, side] for side in (0, 1)]
        others = [not any(np.array_equal(face, side) for side in own) for face in embedded[1:]]
        # As many others as the person has; altered copies of what there is where there are too few.
        more = len(stage.people.references.groups[stage.people.references.identity[row]]) - 1
        assert others[: min(more, 2)] == [True] * min(more, 2)
        assert all(not torch.equal(crops[place], itself) for place in places[1:])


def test_how_often_the_reference_is_the_photo_itself_depends_on_the_noise(
    config: Config, run: Path, make_tiny_stage: MakeStage, monkeypatch: pytest.MonkeyPatch
):
    shares = replace(config.idadapter, itself_share=0.0, itself_share_low_noise=1.0)
    stage = make_tiny_stage("idadapter", run, replace(config, idadapter=shares))
    references, drawn, told = stage.people.references, [], []

    def recorded(*given):
        drawn.append(given[3])
        return references(*given)

    monkeypatch.setattr(stage.people, "references", recorded)
    stage.module.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))
    with torch.no_grad():
        stage.loss(stage.module, StepRandom(0, 0, 0), 0)
    assert drawn[0].tolist() == (told[0] < 500).tolist() and 0 < drawn[0].sum() < len(drawn[0])


def test_training_can_leave_small_noise_out(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run, replace(config, idadapter=replace(config.idadapter, least_timestep=900)))
    seen = []
    add_noise = stage.diffusion.add_noise
    stage.diffusion.add_noise = lambda latents, noise, timesteps: (
        seen.extend(timesteps.tolist()),
        add_noise(latents, noise, timesteps),
    )[1]
    for step in range(4):
        stage.loss(stage.module, StepRandom(0, step, 0), step)
    assert min(seen) >= 900 and max(seen) <= 999 and len(set(seen)) > 10


def test_fewer_different_photos_stand_for_n(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    references = stage.people.references
    references.different = 2
    _, index, faces, counts = references(stage.people.several[:6], np.zeros(6, bool), np.random.default_rng(0))
    assert index.shape == counts.shape == (6, 2) and faces.shape == (6, 2, 128)
    assert {tuple(each) for each in counts.tolist()} == {(1.5, 1.5), (3.0, 0.0)}


def test_a_photo_that_counts_nothing_changes_nothing(config: Config, run: Path, make_tiny_stage: MakeStage):
    stage = make_tiny_stage("idadapter", run)
    model = stage.module.eval()
    open_adapters(model.unet, 0.5)
    generator = torch.Generator().manual_seed(0)
    width, patches = model.mixed_features.config["patch_width"], 4
    patch = torch.randn(1, 2, patches, width, generator=generator)
    classes = torch.randn(1, 2, width, generator=generator)
    faces = torch.nn.functional.normalize(torch.randn(1, 2, 128, generator=generator), dim=-1)
    noisy = torch.randn(1, 4, 16, 16, generator=generator)
    ids = torch.zeros(1, 77, dtype=torch.int64)

    def predicted(count: int, photo_counts: list[float]) -> torch.Tensor:
        features = (patch[:, :count], classes[:, :count], faces[:, :count])
        counts, nobody = torch.tensor([photo_counts]), torch.tensor([False])
        with torch.no_grad():
            return model(noisy, torch.tensor([500]), ids, torch.tensor([3]), features, counts, nobody)

    assert torch.allclose(predicted(2, [3.0, 0.0]), predicted(1, [3.0]), atol=1e-5)
    assert (predicted(2, [2.0, 1.0]) - predicted(1, [3.0])).abs().max() > 1e-3
