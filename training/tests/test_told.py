"""What captions tell, and how it is read from pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from idadapter.data.captions import caption
from idadapter.data.facts import Facts, read_facts
from idadapter.data.portraits import Portraits
from idadapter.data.told import TOLD, fact_values, told_emotion, told_values, told_view
from idadapter.faces.fact_reader import FactReader, fact_losses, fit, open_fact_reader
from idadapter.faces.recognizer import FaceRecognizer

KNOWN = replace(
    Facts("man", *[None] * 16, yaw=-0.2), smiling=True, mouth_open=False, glasses=True, hat=False, beard=None
)
NAN = np.nan


def test_facts_become_numbers_and_nothing_where_nothing_is_known():
    assert TOLD == ("smiling", "mouth_open", "glasses", "hat", "beard", "yaw")
    np.testing.assert_array_equal(fact_values(KNOWN), np.float32([1, 0, 1, 0, NAN, -0.2]))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("man", [NAN] * 6),
        ("a man is smiling", [1, NAN, NAN, NAN, NAN, NAN]),
        ("a photo of a man, serious", [1, NAN, NAN, NAN, NAN, NAN]),
        ("man with glasses, bareheaded", [NAN, NAN, 1, 0, NAN, NAN]),
        ("man, side view", [NAN, NAN, NAN, NAN, NAN, -0.2]),
        ("a man, grinning, facing left", [1, 0, NAN, NAN, NAN, -0.2]),
        # Of what nothing is known nothing can be asked, whatever the caption says.
        ("man with a beard", [NAN] * 6),
        ("man, man is sks", [NAN] * 6),
    ],
)
def test_only_what_a_caption_tells_is_asked_of_its_picture(text: str, wanted: list[float]):
    np.testing.assert_array_equal(told_values(text, KNOWN), np.float32(wanted))


def test_what_captions_are_made_of_is_found_in_them():
    facts = replace(KNOWN, mouth_open=True, hat=True, beard=True)
    told = np.stack([~np.isnan(told_values(caption(facts, np.random.default_rng(i)), facts)) for i in range(300)])
    share = dict(zip(TOLD, told.mean(0), strict=True))
    assert all(0.25 < value < 0.9 for value in share.values()), share


def test_losses_are_of_what_was_told_alone():
    read = torch.tensor([[3.0, -3.0, 0.0, 0.0, 0.0, 1.0]] * 2, requires_grad=True)
    wanted = torch.tensor([[1.0, NAN, NAN, NAN, NAN, NAN], [0.0, NAN, NAN, NAN, NAN, 0.15]])
    losses = fact_losses(read, wanted)
    assert losses[0, 0] < 0.1 < 2 < losses[1, 0] and losses[1, 5] < 1e-6
    assert not losses[:, 1:5].any() and losses[0, 5] == 0
    losses.sum().backward()
    assert torch.isfinite(read.grad).all() and not read.grad[:, 1:5].any()


def test_a_reader_learns_what_the_features_tell():
    generator = torch.Generator().manual_seed(0)
    width = FactReader().linear.in_features
    inputs = torch.randn(200, width, generator=generator) * 0.1
    wanted = torch.stack([(inputs[:, i] > 0).float() for i in range(5)] + [inputs[:, 5]], dim=1)
    wanted[::3, 0] = NAN
    reader = FactReader()
    fit(reader, inputs, wanted)
    with torch.no_grad():
        read = reader.linear(inputs)
    known = ~wanted[:, :5].isnan()
    assert float(((read[:, :5] > 0) == wanted[:, :5].bool())[known].float().mean()) > 0.97
    assert float(torch.corrcoef(torch.stack([read[:, 5], wanted[:, 5]]))[0, 1]) > 0.97


def test_a_reader_is_fitted_once_and_its_gradient_reaches_the_picture(portraits: Portraits, tmp_path: Path):
    recognizer = FaceRecognizer.from_package()
    facts = read_facts(portraits.records)
    reader = open_fact_reader(tmp_path, portraits, facts, recognizer, photos=16)
    [path] = tmp_path.glob("fact-reader-*.pt")
    before = path.stat().st_mtime_ns
    again = open_fact_reader(tmp_path, portraits, facts, recognizer, photos=16)
    assert path.stat().st_mtime_ns == before
    assert all(torch.equal(a, b) for a, b in zip(reader.parameters(), again.parameters(), strict=True))
    faces = torch.rand(2, 3, 150, 150, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    wanted = torch.tensor([[1.0, NAN, NAN, NAN, NAN, 0.3], [NAN] * 6])
    reader.losses(recognizer.features(faces), wanted).sum().backward()
    assert faces.grad[0].abs().max() > 0 and not faces.grad[1].any()


def test_an_emotion_is_told_where_the_words_for_it_stand():
    facts = replace(KNOWN, smiling=False, emotion="sad")
    assert told_emotion("a man, unhappy", facts) == "sad"
    assert told_emotion("a man with glasses", facts) is None
    assert told_emotion("a man, neutral", replace(facts, emotion=None)) == "neutral"
    assert told_emotion("a man, unsmiling", replace(facts, emotion=None)) is None
    assert told_emotion("a man, grinning", replace(facts, smiling=True)) == "smiling"
    assert told_emotion("a man, with glasses", replace(facts, smiling=True)) is None


def test_a_prompt_tells_a_view_unless_what_follows_has_a_side_itself():
    words = {"left": ["left"], "right": ["right"], "other": ["facing", "camera"], "sided": ["hand", "cheek"]}
    views = {
        "a woman, Facing right": "right",
        "facing right, then left": "other",
        "left hand up, facing right": "right",
        "a mole on her LEFT cheek": None,
        "facing the camera": "other",
        "": None,
    }
    assert {prompt: told_view(prompt, words) for prompt in views} == views
    assert told_view("facing left", {}) is None
