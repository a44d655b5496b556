"""What a step of the IDAdapter stage takes from the data."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor


class DrawnPeople(NamedTuple):
    """What a step of the stage takes from the data, b rows of it; the first of `judged` are the first of `rolled`.

    Attributes:
        rows: [b], which portraits.
        variants: [b], which of `data.latents.VARIANTS`.
        timesteps: [b] int64.
        crops: [k, s, s, 3] uint8, the references, each picture once.
        index: [b, K] which of them are whose.
        faces: f_a [b, K, d_a].
        counts: [b, K], how many of the N references each is.
        ids: [b, L] token ids.
        positions: [b], the identifier's place, -1 for none.
        anonymous: [b] bool, who has no E_r.
        quiet: [b, places] bool, of whose references a place counts less, for words tell what is to be there
            (`models.quiet_patches.PLACES`).
        drawn: rows that carry the diffusion loss.
        rolled: [r] rows that are rolled out: those that are `judged`, then renditions.
        rolled_crops: which of `crops` are theirs, and
        rolled_index: [r, K] which of these are whose.
        rolled_ids: [g r, L] token ids of every row of the guidance, kind by kind (`GuidanceSchedule.kinds`), and
        rolled_positions: [g r], the identifier's places.
        rolled_times: [S + 1, r] timesteps of their denoising, from the schedule's end to their own in `timesteps`.
        rolled_needed: S times which of the g r rows count there, ascending; known without waiting for a GPU.
        rolled_words: [r, L] token ids of their words alone.
        real_rows: [r], portraits that show what they are told, and
        real_variants: [r], which variants of them.
        judged: [j] rows that the recogniser sees.
        told: [j, 6] what their captions tell (`told_values`), and, where they do not say where to look, the yaw of a
            turned reference.
        emotions: int64, of those rolled out and judged: which of `faces.emotion.CLASSES` their captions tell, -1 for
            none.
        alike: [j] bool, whose references show the photo, with nothing told.
        photos: [j, h, w, 3] uint8, what was to be predicted.
        means: [j, d_a], the identities' mean embeddings.
        second_means: [j, d], the same of a second recogniser's; d is 0 where none looks.
    """

    rows: np.ndarray
    variants: np.ndarray
    timesteps: Tensor
    crops: Tensor
    index: Tensor
    faces: Tensor
    counts: Tensor
    ids: Tensor
    positions: Tensor
    anonymous: Tensor
    quiet: Tensor
    drawn: Tensor
    rolled: Tensor
    rolled_crops: Tensor
    rolled_index: Tensor
    rolled_ids: Tensor
    rolled_positions: Tensor
    rolled_times: Tensor
    rolled_needed: list[Tensor]
    rolled_words: Tensor
    real_rows: np.ndarray
    real_variants: np.ndarray
    judged: Tensor
    told: Tensor
    emotions: Tensor
    alike: Tensor
    photos: Tensor
    means: Tensor
    second_means: Tensor

    def to(self, device: torch.device) -> DrawnPeople:
        """The same with its tensors on a device."""

        def moved(value: Any) -> Any:
            if isinstance(value, list):
                return [moved(one) for one in value]
            return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value

        return DrawnPeople(*map(moved, self))
