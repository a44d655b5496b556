"""Sampling while training, for a look at what the weights do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor

from .data.templates import PORTRAIT_SIZE

GUIDANCE_SCALE = 2.5
"""Of the words in sample grids."""


def sample_latents(
    model: Callable[[Tensor, Tensor], Tensor],
    shape: tuple[int, ...],
    steps: int,
    seed: int,
    schedule: DDPMScheduler,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Denoises seeded noise with DPM-Solver++ 2M.

    Args:
        model: predicts from z_t [b, c, h, w] and one timestep, both where it is.
        shape: of the latents.
        steps: denoising steps.
        seed: of the noise, which is drawn on the CPU whatever the device.
        schedule: the model's own.
        device: where the model is.

    Returns:
        clean latents of that shape.
    """
    scheduler = DPMSolverMultistepScheduler.from_config(schedule.config)
    scheduler.set_timesteps(steps)
    latents = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * scheduler.init_noise_sigma
    latents = latents.to(device)
    for timestep in scheduler.timesteps:
        # The scheduler looks its own up on the processor.
        latents = scheduler.step(model(latents, timestep.to(device)).float(), timestep, latents).prev_sample
    return latents


def guided(predict: Callable[[Tensor, Tensor, Tensor], Tensor], at_once: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A model for `sample_latents`, guided by `GUIDANCE_SCALE`, so many of its b pictures at a time.

    Args:
        predict: predicts from z_t [k, c, h, w], timesteps [k] and [k], which of 2 b conditions are theirs: the first b
            are the pictures', the others say nothing.
        at_once: how many pictures.
    """

    def model(noisy: Tensor, timestep: Tensor) -> Tensor:
        found = []
        for rows in torch.arange(len(noisy), device=noisy.device).split(at_once):
            both = torch.cat([rows, rows + len(noisy)])
            predicted = predict(noisy[rows].repeat(2, 1, 1, 1), timestep.expand(len(both)), both)
            conditional, unconditional = predicted.chunk(2)
            found.append(unconditional + GUIDANCE_SCALE * (conditional - unconditional))
        return torch.cat(found)

    return model


def pictures_at_once(size: int) -> int:
    """How many pictures of a side, pixels, a sample grid is made of at a time: 64 of 128 pixels, 4 of 512.

    Stable Diffusion's decoder ends with 256 channels at full size, so that is 1 GB in float32 each time it writes some.
    """
    return max(1, 64 * PORTRAIT_SIZE**2 // size**2)


def in_chunks(function: Callable[[Tensor], Tensor], at_once: int, values: Tensor) -> Tensor:
    """What a function makes of values [n, ...], of so many at a time."""
    return torch.cat([function(some) for some in values.split(at_once)])


def to_pictures(images: Tensor) -> np.ndarray:
    """RGB [b, 3, h, w] around [0, 1] to [b, h, w, 3] uint8."""
    return (images.float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)


def tile(images: Tensor, columns: int) -> np.ndarray:
    """Lays pictures [b, 3, h, w] out in rows of `columns`: [H, W, 3] uint8."""
    pictures = to_pictures(images)
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    return np.concatenate(rows, axis=0)
