"""What tells a weave by its frequency, and a painting without brushwork by the detail it lacks, wherever it lies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from idadapter.data.portraits import Portraits
from idadapter.data.renditions import oil_painting
from idadapter.stages.spectrum import spectrum_excess, texture_difference

COUNT = 16


def as_tensor(pictures: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@pytest.fixture(scope="module")
def photos(portraits: Portraits) -> list[np.ndarray]:
    return [np.array(portraits.photos[row]) for row in portraits.train[:COUNT]]


def test_a_weave_is_told_by_its_energy(photos: list[np.ndarray]):
    shown, all_of_them = as_tensor(photos), torch.ones(COUNT, dtype=torch.bool)
    down, across = torch.meshgrid(*2 * [torch.arange(shown.shape[-1])], indexing="ij")
    weave = 0.02 * torch.cos(torch.pi / 2 * (down - across))
    plain, woven = (spectrum_excess(one, shown.flip(3), all_of_them) for one in (shown, shown + weave))
    assert float(plain) < 0.01 and float(woven) > float(plain) + 0.002
    strength = torch.tensor(1.0, requires_grad=True)
    spectrum_excess(shown + strength * weave, shown, all_of_them).backward()
    assert strength.grad > 0
    assert float(spectrum_excess(shown + weave, shown, ~all_of_them)) == 0
    half = torch.arange(COUNT) % 2 == 0
    beside = torch.where(half[:, None, None, None], shown, shown + weave)
    without, with_it = (float(spectrum_excess(beside, shown, some)) for some in (half, ~half))
    assert with_it > without + 0.002


def test_a_painting_without_brushwork_lacks_detail_and_one_with_strokes_elsewhere_hardly(photos: list[np.ndarray]):
    paintings = [oil_painting(photo) for photo in photos]
    painted, smooth = as_tensor(paintings), as_tensor([cv2.GaussianBlur(one, (0, 0), 1.5) for one in paintings])

    def difference(images: Tensor) -> tuple[float, float]:
        lack, surplus = texture_difference(images, painted)
        assert lack.shape == surplus.shape == (COUNT,)
        return float(lack.mean()), float(surplus.mean())

    assert difference(painted) == (0, 0)
    smoothed = difference(smooth)
    assert smoothed[0] > 0.5 and smoothed[1] == 0
    # Who paints does not know where the filter's noise lies.
    assert sum(difference(painted.roll((1, -1), (2, 3)))) < 0.2 * smoothed[0]
    rough = difference(painted + 2 * (painted - smooth))
    assert rough[0] < 0.01 and rough[1] > 0.2
    strength = torch.tensor(0.5, requires_grad=True)
    texture_difference(smooth + strength * (painted - smooth), painted)[0].mean().backward()
    assert strength.grad is not None and strength.grad < 0
