"""Which tokens of E_r tell a reference's mouth: where words tell an expression these count less.

Patch features say where everything in the reference is, its mouth too, and adapters draw it there whatever the words
say. With less of it in the adapters' attention the words decide what the mouth does, while the other patches and f_a
still tell whose it is.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..data.templates import portrait_template

MOUTH_BIAS = -4.0
"""Added to these tokens' logits in training: each counts a fiftieth of what it did."""

REACH = 0.5
"""How far beyond the mouth's corners patches' centres may lie, in eyes' distances, and"""
ABOVE, BELOW = 0.3, 0.7
"""how far above and below them."""


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


def mouth_bias(face_tokens: int, photos: int, patches: int) -> Tensor:
    """What is added to the bias of each token of E_r where words tell an expression.

    Args:
        face_tokens: tokens of f_a, which come first.
        photos: N.
        patches: P.

    Returns:
        [face_tokens + N * P], `MOUTH_BIAS` or 0.
    """
    bias = torch.zeros(photos, patches)
    bias[:, torch.from_numpy(mouth_patches(patches))] = MOUTH_BIAS
    return torch.cat([torch.zeros(face_tokens), bias.flatten()])
