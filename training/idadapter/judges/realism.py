"""Realism: how far a set of faces lies from a set of real ones (`../shared/data/README.md`)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def kernel_distance(real: np.ndarray, made: np.ndarray, scale: np.ndarray | None = None) -> float:
    """Unbiased squared maximum mean discrepancy with k(x, y) = (x.y / d + 1)^3 (KID, Binkowski et al. 2018).

    Args:
        real: [n, d] features of real photos.
        made: [m, d] features of the pictures to judge.
        scale: [k, d] photos that features are standardised by; `real` by default.
    """
    base = real if scale is None else scale
    mean, deviation = base.mean(0), base.std(0) + 1e-6
    x, y = (real - mean) / deviation, (made - mean) / deviation

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1) ** 3

    xx, yy = kernel(x, x), kernel(y, y)
    n, m = len(x), len(y)
    within = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    return float(within - 2 * kernel(x, y).mean())


def kernel_distance_interval(
    real: np.ndarray, made: np.ndarray, people: Sequence[Hashable] | None = None, seed: int = 0
) -> tuple[float, float]:
    """A 95 % interval of the kernel distance, from its scatter over seeded halves of the people in `made`.

    A bootstrap would draw pictures twice, and a picture's kernel with itself is what the unbiased estimate leaves out.

    Args:
        real, made: as above.
        people: whom each of `made` shows, for pictures of one person are alike; of somebody else each by default.
        seed: of the halves.
    """
    value, random = kernel_distance(real, made), np.random.default_rng(seed)
    pictures: dict[Hashable, list[int]] = {}
    for index, person in enumerate(range(len(made)) if people is None else people):
        pictures.setdefault(person, []).append(index)
    groups = list(pictures.values())
    half = max(2, len(groups) // 2)
    drawn = (random.choice(len(groups), half, replace=False) for _ in range(40))
    halves = [kernel_distance(real, made[[index for group in some for index in groups[group]]]) for some in drawn]
    # A half drawn without replacement scatters about the whole by sqrt((1 - 1/2) / half): as much as the whole about
    # the truth.
    margin = 1.96 * float(np.std(halves))
    return value - margin, value + margin
