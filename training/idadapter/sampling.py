"""Sampling while training, for a look at what the weights do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from diffusers import DDPMScheduler, DPMSolverMultistepScheduler
from torch import Tensor


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
        model: predicts from z_t [b, c, h, w] and one timestep.
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
        latents = scheduler.step(model(latents, timestep).float(), timestep, latents).prev_sample
    return latents


def to_pictures(images: Tensor) -> np.ndarray:
    """RGB [b, 3, h, w] around [0, 1] to [b, h, w, 3] uint8."""
    return (images.float().clamp(0, 1).permute(0, 2, 3, 1).cpu().numpy() * 255).round().astype(np.uint8)


def tile(images: Tensor, columns: int) -> np.ndarray:
    """Lays pictures [b, 3, h, w] out in rows of `columns`: [H, W, 3] uint8."""
    pictures = to_pictures(images)
    rows = [np.concatenate(list(pictures[i : i + columns]), axis=1) for i in range(0, len(pictures), columns)]
    return np.concatenate(rows, axis=0)
