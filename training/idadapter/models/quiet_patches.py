"""Which tokens of E_r tell a place of the references: where words tell what is to be there these count less.

Patch features say where everything in the reference is, and adapters draw it there whatever the words say: a mouth,
the hair where a hat is to be. With less of it in the adapters' attention the words decide, while the other patches and
f_a still tell whose it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.templates import portrait_template

QUIET_BIAS = -4.0
"""Added to these tokens' logits in training: each counts a fiftieth of what it did."""

REACH = 0.5
"""How far beyond the mouth's corners patches' centres may lie, in eyes' distances, and"""
ABOVE, BELOW = 0.3, 0.7
"""how far above and below them."""
BROW = 0.7
"""How far above the eyes a hat begins, in eyes' distances."""


def mouth_patches(patches: int) -> np.ndarray:
    """Indices, ascending, of the patches of an aligned face whose centres lie about the mouth.

    Args:
        patches: P, a square number; row by row.
    """
    side = round(patches**0.5)
    centres = np.arange(side)
    right_eye, left_eye, _, right, left = portrait_template(side)
    unit = float(np.linalg.norm(left_eye - right_eye))
    y = (right[1] + left[1]) / 2
    across = (centres >= right[0] - REACH * unit) & (centres <= left[0] + REACH * unit)
    down = (centres >= y - ABOVE * unit) & (centres <= y + BELOW * unit)
    return np.flatnonzero((down[:, None] & across[None]).flatten())


def hat_patches(patches: int) -> np.ndarray:
    """Indices, ascending, of the patches of an aligned face whose centres lie where a hat would be.

    Args:
        patches: P, a square number; row by row.
    """
    side = round(patches**0.5)
    right_eye, left_eye, *_ = portrait_template(side)
    brow = (right_eye[1] + left_eye[1]) / 2 - BROW * float(np.linalg.norm(left_eye - right_eye))
    return np.flatnonzero(np.repeat(np.arange(side) <= brow, side))


PLACES = {"mouth": mouth_patches, "hat": hat_patches}
"""The places that may count less, and the patches that show them."""


def quiet_bias(face_tokens: int, photos: int, patches: int) -> Tensor:
    """What is added to the bias of each token of E_r where words tell what is to be in a place.

    Args:
        face_tokens: tokens of f_a, which come first.
        photos: N.
        patches: P.

    Returns:
        [places, face_tokens + N * P], `QUIET_BIAS` or 0, in the order of `PLACES`.
    """
    bias = torch.zeros(len(PLACES), photos, patches)
    for place, find in enumerate(PLACES.values()):
        bias[place, :, torch.from_numpy(find(patches))] = QUIET_BIAS
    return torch.cat([torch.zeros(len(PLACES), face_tokens), bias.flatten(1)], 1)
