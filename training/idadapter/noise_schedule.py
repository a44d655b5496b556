"""The noise schedule, diffusers' own, and what training computes from it."""

from __future__ import annotations

import torch
from diffusers import DDPMScheduler
from torch import Tensor


def make_noise_schedule(
    prediction_type: str = "v_prediction", beta_schedule: str = "squaredcos_cap_v2"
) -> DDPMScheduler:
    """1,000 steps, zero terminal SNR (Lin et al. 2024), trailing spacing; nothing is clipped."""
    return DDPMScheduler(
        num_train_timesteps=1000,
        beta_schedule=beta_schedule,
        prediction_type=prediction_type,
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        steps_offset=0,
    )


def add_noise(
    alphas_cumprod: Tensor, latents: Tensor, noise: Tensor, timesteps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents, velocity and signal-to-noise ratio.

    Args:
        alphas_cumprod: [1000].
        latents: [b, c, h, w] clean.
        noise: [b, c, h, w] standard normal.
        timesteps: [b] int64.

    Returns:
        z_t [b, c, h, w]; v = sqrt(a) noise - sqrt(1 - a) latents (Salimans and Ho 2022); SNR a / (1 - a), [b].
    """
    a = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    noisy = a.sqrt() * latents + (1 - a).sqrt() * noise
    velocity = a.sqrt() * noise - (1 - a).sqrt() * latents
    return noisy, velocity, (a / (1 - a)).view(-1)


def clean_from_velocity(alphas_cumprod: Tensor, noisy: Tensor, velocity: Tensor, timesteps: Tensor) -> Tensor:
    """The one-step prediction of the clean latents: sqrt(a) z_t - sqrt(1 - a) v."""
    a = alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return a.sqrt() * noisy - (1 - a).sqrt() * velocity


def stratified_timesteps(uniform: Tensor, count: int = 1000) -> Tensor:
    """Timesteps spread evenly over the schedule, jittered: uniform [b] in [0, 1) to int64 [b] in 0..count-1."""
    places = (torch.arange(len(uniform), device=uniform.device) + uniform) / len(uniform)
    return (places * count).long().clamp(0, count - 1)
