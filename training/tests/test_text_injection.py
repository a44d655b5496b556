"""Textual injection (section 3.2): E_c replaces one token embedding, and nothing else changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import CLIPTextModel

from idadapter.models.text_encoder import encode_text, identifier_positions
from idadapter.parts import read_text_encoder
from idadapter.tokenizer import IDENTIFIER, encode_prompts, load_tokenizer


@pytest.fixture(scope="module")
def text_encoder(parts: Path) -> CLIPTextModel:
    return read_text_encoder(parts).eval().requires_grad_(False)


def prompts(parts: Path) -> tuple[Tensor, Tensor]:
    tokenizer = load_tokenizer(parts / "tokenizer")
    ids = encode_prompts(tokenizer, ["a photo, woman is sks", "a photo", "sks, man is sks"])
    return ids, identifier_positions(ids, tokenizer.convert_tokens_to_ids(IDENTIFIER + "</w>"))


def first_layer_input(model: CLIPTextModel, ids: Tensor, identity: Tensor, position: Tensor) -> Tensor:
    """What the first transformer layer sees."""
    seen: list[Tensor] = []
    transformer = getattr(model, "text_model", model)
    hook = transformer.encoder.layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    encode_text(model, ids, identity, position)
    hook.remove()
    return seen[0]


def test_the_identifiers_last_place_is_found(parts: Path):
    ids, position = prompts(parts)
    assert position[1] == -1
    for row in (0, 2):
        last = ids[row].tolist().index(ids[row, -1]) - 1
        assert position[row] == last
    assert (ids[2] == ids[2, position[2]]).sum() == 2


def test_exactly_one_token_embedding_is_replaced(parts: Path, text_encoder: CLIPTextModel):
    ids, position = prompts(parts)
    identity = torch.randn(3, 48, generator=torch.Generator().manual_seed(0))
    plain = first_layer_input(text_encoder, ids, identity, torch.full_like(position, -1))
    injected = first_layer_input(text_encoder, ids, identity, position)
    differs = (plain != injected).any(-1)
    expected = torch.zeros_like(differs)
    expected[[0, 2], position[[0, 2]]] = True
    assert torch.equal(differs, expected)
    # Before positions are added: E_c itself plus the place's position embedding.
    transformer = getattr(text_encoder, "text_model", text_encoder)
    places = transformer.embeddings.position_embedding.weight[position[[0, 2]]]
    torch.testing.assert_close(injected[[0, 2], position[[0, 2]]], identity[[0, 2]] + places, rtol=0, atol=0)


def test_without_identity_it_is_transformers_own_encoder(parts: Path, text_encoder: CLIPTextModel):
    ids, position = prompts(parts)
    found = encode_text(text_encoder, ids, torch.randn(3, 48), torch.full_like(position, -1))
    torch.testing.assert_close(found, text_encoder(input_ids=ids).last_hidden_state, rtol=0, atol=2e-6)


def test_the_identity_reaches_its_place_and_later_ones_alone(parts: Path, text_encoder: CLIPTextModel):
    ids, position = prompts(parts)
    one, other = (torch.full((3, 48), value) for value in (0.5, -0.5))
    difference = (encode_text(text_encoder, ids, one, position) - encode_text(text_encoder, ids, other, position)).abs()
    place = int(position[0])
    assert difference[0, :place].max() == 0
    assert difference[0, place:].amax(-1).min() > 0
    assert difference[1].max() == 0
