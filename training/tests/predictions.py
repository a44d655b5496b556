"""Predictions for the judges of the IDAdapter stage."""

from __future__ import annotations

from typing import Any

import torch

from idadapter.data.told import TOLD
from idadapter.data.vision_crops import to_tensor
from idadapter.stages.idadapter import IdAdapterStage
from idadapter.stages.recognition import Judged


def judged(stage: IdAdapterStage, clean: torch.Tensor, timesteps: list[int], rolled: int = 0, **others: Any) -> Judged:
    """Predictions of the first photos, of which nothing is told; the first `rolled` are rolled out."""
    count = len(clean)
    seen = Judged(
        clean,
        torch.tensor(timesteps),
        torch.from_numpy(stage.people.means[:count]),
        torch.from_numpy(stage.people.second_means[:count]),
        to_tensor(stage.portraits.photos[:count]),
        torch.full((count, len(TOLD)), torch.nan),
        torch.zeros(count, dtype=torch.bool),
        torch.full((rolled,), -1),
    )
    return seen._replace(**others)
