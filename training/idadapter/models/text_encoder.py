"""Textual injection (paper, section 3.2): E_c replaces the identifier's token embedding."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import CLIPTextModel


def identifier_positions(input_ids: Tensor, identifier_id: int) -> Tensor:
    """Where the identifier stands (its last occurrence), -1 where it does not.

    Args:
        input_ids: [b, L].
        identifier_id: token of "sks".

    Returns:
        [b] int64.
    """
    length = input_ids.shape[1]
    places = torch.where(input_ids == identifier_id, torch.arange(length, device=input_ids.device), -1)
    return places.amax(1)


def encode_text(
    text_model: CLIPTextModel, input_ids: Tensor, identity_embedding: Tensor, identifier_position: Tensor
) -> Tensor:
    """Runs the text encoder with E_c in place of one token embedding, before positions are added.

    Args:
        text_model: CLIP's text transformer.
        input_ids: [b, L] int64.
        identity_embedding: E_c [b, d_t].
        identifier_position: [b] int64; -1 replaces nothing.

    Returns:
        last hidden states after the final layer norm, [b, L, d_t].
    """
    transformer = getattr(text_model, "text_model", text_model)
    embeddings = transformer.embeddings.token_embedding(input_ids)
    here = torch.arange(input_ids.shape[1], device=input_ids.device) == identifier_position[:, None]
    embeddings = torch.where(here[..., None], identity_embedding[:, None].to(embeddings.dtype), embeddings)
    hidden = embeddings + transformer.embeddings.position_embedding.weight[: input_ids.shape[1]]
    length = input_ids.shape[1]
    mask = torch.full((length, length), torch.finfo(hidden.dtype).min, dtype=hidden.dtype, device=hidden.device)
    mask = mask.triu(1)[None, None]
    for layer in transformer.encoder.layers:
        output = layer(hidden, attention_mask=mask)
        hidden = output[0] if isinstance(output, tuple) else output
    return transformer.final_layer_norm(hidden)
