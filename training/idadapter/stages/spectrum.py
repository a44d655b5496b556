"""How much detail of which size pictures have, which means of pixels and of features hardly tell, and an eye does."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

EXCESS = 3.0
"""How many times a photo's energy a frequency may have before it counts: single batches scatter as much."""

NEIGHBOURS = 7
"""Frequencies a side over which energy is averaged."""

PATCH, PATCH_NEIGHBOURS = 32, 5
"""The same of a picture's places, and how large these are in pixels."""

SCATTER = 1.5
"""How many times the energy may differ before it counts: that of one place scatters as much."""


def spectrum_excess(images: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """How far pictures have more energy than others at single frequencies, as what convolutions weave into them has
    (Durall et al. 2020, "Watch your Up-Convolution"): a faint pattern all over the skin.

    Args:
        images: [b, 3, h, w], some at least: spectra are averaged over them.
        targets: the same of what they are to show.
        counted: [b] bool, which pictures count.

    Returns:
        the mean over frequencies of log(energy / (`EXCESS` targets' energy)) where that is above 0; 0 where none
        counts.
    """
    with torch.no_grad():
        around = functional.pad(_energy(targets, counted)[None, None], 4 * [NEIGHBOURS // 2], mode="reflect")
        usual = functional.avg_pool2d(around, NEIGHBOURS, stride=1)[0, 0]
    least = 1e-6 * usual.max() + 1e-9
    return (torch.log((_energy(images, counted) + least) / (usual + least)) - math.log(EXCESS)).clamp_min(0).mean()


def texture_difference(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How far pictures have less fine detail than others in the same places, and how far more: brushwork, whose strokes
    may lie otherwise, or specks. Detail is fine below eight pixels.

    Args:
        images: [b, 3, h, w] of `PATCH` pixels at least.
        targets: the same of what they are to show.

    Returns:
        the lack and the surplus, each [b]: means over places and frequencies, each with its neighbours, of how far the
        logarithm of the energies' ratio is below or above 0, beyond that of `SCATTER`.
    """
    frequencies = torch.fft.fftfreq(PATCH, device=images.device)
    fine = (torch.fft.fftshift(torch.hypot(frequencies[:, None], frequencies[None])) > 1 / 8).float()
    with torch.no_grad():
        usual = _energy_of_patches(targets)
        least = 1e-4 * usual.mean() + 1e-9
    ratio = torch.log((_energy_of_patches(images) + least) / (usual + least))
    beyond = [(sign * ratio - math.log(SCATTER)).clamp_min(0).mean(1) for sign in (-1, 1)]
    lack, surplus = ((each * fine).sum((1, 2)) / fine.sum() for each in beyond)
    return lack, surplus


def _energy_of_patches(images: Tensor) -> Tensor:
    """[b, n, `PATCH`, `PATCH`]: of every frequency with its neighbours, 0 in the middle, over the channels, in each of
    n places half a patch apart."""
    patches = images.float().unfold(2, PATCH, PATCH // 2).unfold(3, PATCH, PATCH // 2)
    patches = patches - patches.mean((-2, -1), keepdim=True)
    window = torch.hann_window(PATCH, False, device=images.device)
    energy = torch.fft.fft2(patches * torch.outer(window, window)).abs().square().sum(1)
    shifted = torch.fft.fftshift(energy, (-2, -1)).flatten(1, 2)
    padded = functional.pad(shifted, 4 * [PATCH_NEIGHBOURS // 2], mode="circular")
    return functional.avg_pool2d(padded, PATCH_NEIGHBOURS, stride=1)


def _energy(images: Tensor, counted: Tensor) -> Tensor:
    """[h, w]: of every frequency, 0 in the middle, the sum over the channels and over the pictures that count."""
    height, width = images.shape[-2:]
    window = torch.outer(torch.hann_window(height, False), torch.hann_window(width, False)).to(images.device)
    waves = torch.fft.fft2((images.float() - images.float().mean((2, 3), keepdim=True)) * window)
    return torch.fft.fftshift(torch.einsum("bchw,b->hw", waves.abs().square(), counted.float()))
