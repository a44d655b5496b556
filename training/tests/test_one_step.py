"""The table of what one denoising step knows."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from idadapter.data.facts import read_facts
from idadapter.data.portraits import Portraits
from idadapter.faces.recognizer import FaceRecognizer
from idadapter.models.identity_adapter import IdentityAdapter
from idadapter.one_step import RATIOS, WORDS, changed_by_words, gates, one_step, split, to_markdown
from idadapter.parts import read_text_encoder, read_unet, write_text_encoder, write_unet

SIZE = FaceRecognizer.embedding_size


def brightness(portraits: np.ndarray) -> np.ndarray:
    """A recogniser of sorts: unit vectors that turn with a portrait's mean."""
    angle = portraits.mean((1, 2, 3), dtype=np.float64)[:, None] / 255 * math.pi
    return np.concatenate([np.cos(angle), np.sin(angle), np.zeros((len(portraits), SIZE - 2))], 1).astype(np.float32)


def test_every_noise_level_is_told_and_the_reference_counts(open_parts: Path, portraits: Portraits):
    photos = np.ascontiguousarray(portraits.photos[:4])
    facts = read_facts(portraits.records)[:4]
    targets = np.ascontiguousarray(photos[::-1])
    levels = one_step(open_parts, photos, targets, facts, brightness, brightness)
    assert [level.noise for level in levels] == list(RATIOS)
    assert [level.timestep for level in levels] == sorted({level.timestep for level in levels})
    # A model of random weights: the less noise, the more of the answer is the picture itself.
    assert levels[0].coarse < levels[-1].coarse and levels[0].fine < levels[-1].fine
    assert all(level.known == pytest.approx(level.unseen) for level in levels)
    other = one_step(open_parts, targets, targets, facts[::-1], brightness, brightness)
    assert levels[-1].coarse != other[-1].coarse
    lines = to_markdown(levels).splitlines()
    assert len(lines) == 2 + len(RATIOS) and lines[2].startswith("| 0.15 |")


def test_without_adapters_and_identifier_the_answer_is_the_same_for_all(parts: Path, portraits: Portraits):
    photos, facts = np.ascontiguousarray(portraits.photos[:3]), read_facts(portraits.records)[:3]
    seen = []

    def recorded(pictures: np.ndarray) -> np.ndarray:
        seen.append(pictures)
        return brightness(pictures)

    for references in (photos, np.ascontiguousarray(photos[::-1])):
        one_step(parts, references, photos, facts, brightness, recorded)
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    # References come first, then at every level the answers with and without the reference.
    assert all(np.array_equal(a, b) for a, b in zip(first[2::2], second[2::2], strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first[1::2], second[1::2], strict=True))


def test_what_words_change_is_told(parts: Path, tmp_path: Path):
    changed = changed_by_words(parts)
    assert list(changed) == [form.format("man") for form in WORDS]
    assert all(text > 0.01 and answer > 0 for text, answer in changed.values())
    for name in ("unet", "tokenizer"):
        shutil.copytree(parts / name, tmp_path / name)
    deaf = read_text_encoder(parts)
    torch.nn.init.zeros_(deaf.get_input_embeddings().weight)
    write_text_encoder(tmp_path, deaf)
    assert all(text < 1e-6 and answer < 1e-6 for text, answer in changed_by_words(tmp_path).values())


def test_gates_are_told_as_they_let_through_in_the_order_they_are_passed(open_parts: Path, parts: Path, tmp_path: Path):
    assert gates(open_parts) == pytest.approx([math.tanh(0.5)] * len(gates(parts)))
    assert not any(gates(parts))
    unet = read_unet(parts)
    middle = unet.mid_block.attentions[0].transformer_blocks[0].fuser
    torch.nn.init.constant_(middle.alpha_attn, -1.0)
    write_unet(tmp_path, unet)
    down = sum(isinstance(module, IdentityAdapter) for block in unet.down_blocks for module in block.modules())
    assert [place for place, gate in enumerate(gates(tmp_path)) if gate] == [down]


def test_what_two_by_two_means_leave_out_is_told_apart():
    smooth = torch.randn(2, 3, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    checkered = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(2, 3, 4, 4)
    assert split(smooth) == pytest.approx((float(smooth.square().mean()), 0))
    assert split(checkered) == pytest.approx((0, 1))
