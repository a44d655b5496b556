"""What linear maps tell of latents from a reference's tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from idadapter.data.portraits import Portraits
from idadapter.readout import readout, with_neighbours


def test_neighbours_stand_around_a_token():
    tokens = torch.arange(1.0, 10.0).view(1, 9, 1)
    around = with_neighbours(tokens)
    assert around[0, 4].tolist() == list(range(1, 10))
    assert around[0, 0].tolist() == [0, 0, 0, 0, 1, 2, 0, 4, 5]


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
