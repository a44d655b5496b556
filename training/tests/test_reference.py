"""The PyTorch reference pipeline: the bundle's graphs, diffusers' schedulers, the paper's identity path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from idadapter import fixture_reference
from idadapter.data.vision_crops import to_tensor
from idadapter.fixture_reference import BASE, CASES, read_photo, write_cases
from idadapter.reference import ReferencePipeline
from idadapter.samplers import SCHEDULERS
from idadapter.tokenizer import encode_prompts

PHOTO = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "face.png"
REQUEST = {**BASE, "num_inference_steps": 3}


@pytest.fixture(scope="module")
def pipeline(bundle: Path) -> ReferencePipeline:
    return ReferencePipeline(bundle)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return read_photo(PHOTO)


def pixels(face: np.ndarray) -> np.ndarray:
    """A face as graphs want it."""
    return to_tensor([face]).numpy()


@pytest.fixture(scope="module")
def plain(pipeline: ReferencePipeline, photo: np.ndarray) -> np.ndarray:
    return pipeline.generate(photo, **REQUEST)


def test_pictures_have_the_bundles_size(pipeline: ReferencePipeline, photo: np.ndarray, plain: np.ndarray):
    assert plain.shape == (1, 128, 128, 3) and plain.dtype == np.uint8
    assert plain.std() > 5
    np.testing.assert_array_equal(pipeline.generate(photo, **REQUEST), plain)


def test_picture_i_has_seed_plus_i(pipeline: ReferencePipeline, photo: np.ndarray, plain: np.ndarray):
    together = pipeline.generate(photo, **REQUEST, num_images=2)
    alone = pipeline.generate(photo, **{**REQUEST, "seed": REQUEST["seed"] + 1})
    for found, expected in ((together[:1], plain), (together[1:], alone)):
        assert np.abs(found.astype(int) - expected).max() <= 1
    assert np.abs(plain.astype(int) - alone).max() > 20


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "a pencil sketch"},
        {"class_noun": "man"},
        {"negative_prompt": "wearing a hat"},
        {"guidance_scale": 1.0},
        {"guidance_scale": 5.0},
        {"identity_guidance_scale": 1.0},
        {"identity_guidance_scale": 5.0},
        {"early_guidance_scale": 6.0},
        {"early_identity_guidance_scale": 0.0},
        {"early_guidance_scale": 6.0, "early_guidance_until": 300.0},
        {"guidance_rescale": 0.7},
        {"identity_strength": 0.0},
        {"pose_variation": 20.0},
        {"scheduler": "euler"},
        {"scheduler": "ddim"},
        {"scheduler": "euler_ancestral"},
        {"scheduler": "euler_restart"},
        {"scheduler": "dpmpp_2m_sde"},
        {"scheduler": "unipc"},
        {"num_inference_steps": 4},
    ],
)
def test_every_field_changes_the_picture(
    change: dict[str, Any], pipeline: ReferencePipeline, photo: np.ndarray, plain: np.ndarray
):
    assert (pipeline.generate(photo, **{**REQUEST, **change}) != plain).any()


def test_words_for_emotions_and_hats_quieten_their_places(pipeline: ReferencePipeline, photo: np.ndarray):
    mouth, hat = pipeline.manifest["quiet_patches"]
    assert mouth["bias"] != hat["bias"] and not set(mouth["patches"]) & set(hat["patches"])
    assert not pipeline.token_bias("a saddle, chatting").any()
    bias = pipeline.token_bias("is SAD!")
    assert bias.shape == (pipeline.manifest["identity_token_count"],)
    assert set(bias.tolist()) == {0.0, mouth["bias"]}
    assert set(pipeline.token_bias("is sad, in a Hat").tolist()) == {0.0, mouth["bias"], hat["bias"]}
    for place, prompt in ((mouth, "is sad"), (hat, "in a hat")):
        quiet, words = pipeline.generate(photo, **{**REQUEST, "prompt": prompt}), place["words"]
        place["words"] = []
        try:
            assert (pipeline.generate(photo, **{**REQUEST, "prompt": prompt}) != quiet).any()
        finally:
            place["words"] = words


def test_the_person_changes_the_picture(pipeline: ReferencePipeline, photo: np.ndarray, plain: np.ndarray):
    assert (pipeline.generate(photo[:, ::-1].copy(), **REQUEST) != plain).any()


@torch.no_grad()
def test_noise_is_that_of_torchs_cpu_generator(pipeline: ReferencePipeline):
    noise = pipeline.draw_noise([torch.Generator().manual_seed(seed) for seed in (5, 6)])
    expected = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(6))
    assert noise.shape == (2, 4, 16, 16) and torch.equal(noise[1:], expected)


def test_the_identity_is_what_the_graphs_give(pipeline: ReferencePipeline, bundle: Path, photo: np.ndarray):
    def graph(name: str, **inputs: np.ndarray) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(bundle / name / "model.onnx", providers=["CPUExecutionProvider"])
        return session.run(None, inputs)

    with torch.inference_mode():
        face = pipeline.find_face(photo)
        tokens, embedding = pipeline.encode_identity(photo, face)
    [face_embedding] = graph("face_recognizer", faces=pixels(pipeline.align(photo, face, "recognizer")))
    class_embedding, patch_features = graph("image_encoder", faces=pixels(pipeline.align(photo, face, "image_encoder")))
    expected = graph(
        "mixed_features",
        patch_features=patch_features.repeat(3, 0),
        class_embedding=class_embedding.repeat(3, 0),
        face_embedding=face_embedding.repeat(3, 0),
        photo_counts=np.ones(3, np.float32),
    )
    np.testing.assert_allclose(tokens, expected[0], atol=1e-4)
    np.testing.assert_allclose(embedding, expected[2], atol=1e-4)


@torch.inference_mode()
def test_the_unconditional_branch_knows_nobody(pipeline: ReferencePipeline):
    tokens, embedding = torch.ones(1, 14, 48), torch.ones(1, 48)
    zero = pipeline.encode_conditioning("a hat", "man", "", tokens, embedding)
    assert zero.hidden_states.shape == (2, 77, 48)
    ids = encode_prompts(pipeline.tokenizer, [""])
    torch.testing.assert_close(zero.hidden_states[:1], pipeline.text_encoder(input_ids=ids).last_hidden_state)
    assert not zero.identity_tokens[0].any() and torch.equal(zero.identity_tokens[1:], tokens)
    other = pipeline.encode_conditioning("a hat", "man", "", tokens, -embedding)
    assert torch.equal(other.hidden_states[0], zero.hidden_states[0])
    assert not torch.equal(other.hidden_states[1], zero.hidden_states[1])
    pipeline.manifest["unconditional_identity"] = "same"
    same = pipeline.encode_conditioning("a hat", "man", "", tokens, embedding)
    pipeline.manifest["unconditional_identity"] = "zero"
    assert torch.equal(same.identity_tokens[0], tokens[0])
    alone = pipeline.encode_conditioning("a hat", "man", None, tokens, embedding)
    assert torch.equal(alone.hidden_states, zero.hidden_states[1:]) and len(alone.identity_tokens) == 1


def test_bad_input_is_refused(pipeline: ReferencePipeline, photo: np.ndarray):
    with pytest.raises(ValueError, match="no face"):
        pipeline.generate(np.full((200, 160, 3), 128, np.uint8), **REQUEST)
    with pytest.raises(ValueError, match="tokens"):
        pipeline.generate(photo, **{**REQUEST, "prompt": "hat " * 100})


def test_fixtures_are_what_the_typescript_test_reads(
    bundle: Path, photo: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fixture_reference, "BASE", REQUEST)
    write_cases(bundle, photo, tmp_path, ["ddim", "no_guidance"])
    np.testing.assert_array_equal(read_photo(tmp_path / "photo.png"), photo)
    case = json.loads((tmp_path / "case_ddim.json").read_text())
    assert case.keys() == {*REQUEST, "photo", "expected"}
    request = {key: value for key, value in case.items() if key in REQUEST}
    picture = ReferencePipeline(bundle).generate(read_photo(tmp_path / case["photo"]), **request)[0]
    np.testing.assert_array_equal(read_photo(tmp_path / case["expected"]), picture)


def test_the_cases_cover_every_scheduler_and_branch():
    requests = [{**BASE, **case} for case in CASES.values()]
    assert {request["scheduler"] for request in requests} == set(SCHEDULERS)
    assert any(request["guidance_scale"] == 1 for request in requests)
    assert any(request["identity_strength"] not in (0, 1) for request in requests)
    assert any(request["negative_prompt"] for request in requests)
    assert sum(request["num_inference_steps"] >= 20 for request in requests) >= 3
