"""What linear maps tell of latents from a reference's tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from idadapter.data.portraits import Portraits
from idadapter.readout import linear_map, pictured, places, readout, with_neighbours


def test_places_and_pictures_are_inverse():
    latents = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    by_patch = places(latents, 4)
    assert by_patch.shape == (2, 16, 12)
    assert torch.equal(by_patch[0, 5].view(3, 2, 2), latents[0, :, 2:4, 2:4])
    assert torch.equal(pictured(by_patch, 8), latents)


def test_neighbours_stand_around_a_token():
    tokens = torch.arange(1.0, 10.0).view(1, 9, 1)
    around = with_neighbours(tokens)
    assert around[0, 4].tolist() == list(range(1, 10))
    assert around[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 0, 4, 5]


def test_a_linear_map_is_found_again():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 6, generator=generator)
    weight = torch.randn(6, 4, generator=generator)
    told = linear_map(inputs, inputs @ weight + 2)
    unseen = torch.randn(10, 6, generator=generator)
    assert torch.allclose(told(unseen), unseen @ weight + 2, atol=1e-2)


def test_the_latents_themselves_leave_nothing_untold_and_tokens_something(open_parts: Path, portraits: Portraits):
    photos = np.ascontiguousarray(portraits.photos)

    def mean_colour(shown: np.ndarray) -> np.ndarray:
        colour = shown.mean((1, 2), dtype=np.float64)
        return colour / np.linalg.norm(colour, axis=1, keepdims=True)

    rows = {row.tokens: row for row in readout(open_parts, photos[:40], photos[40:], mean_colour)}
    assert list(rows) == ["the latents themselves", "f_v", "f_v, 3 x 3", "E_r"]
    assert rows["the latents themselves"].untold == 0 and rows["the latents themselves"].fine == 0
    assert rows["f_v"].untold > 0 and rows["E_r"].untold > 0
    seen = {row.tokens: row for row in readout(open_parts, photos[:40], photos[:40], mean_colour)}
    # What a map was fitted to it tells better, and better still with the neighbours.
    assert seen["f_v"].untold < rows["f_v"].untold
    assert seen["f_v, 3 x 3"].untold < seen["f_v"].untold
