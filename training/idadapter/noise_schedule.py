"""The noise schedule, diffusers' own, and what training computes from it."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from .guidance import rescale_guidance

SCHEDULER_FILE = Path("scheduler") / "scheduler_config.json"
"""Of a folder of parts whose base model brought its own schedule, as in a diffusers folder."""


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


def read_noise_schedule(parts: Path) -> DDPMScheduler:
    """The schedule of a folder of parts: the base model's own, else `make_noise_schedule`.

    Raises:
        ValueError: the base model predicts neither noise nor velocity.
    """
    path = parts / SCHEDULER_FILE
    if not path.exists():
        return make_noise_schedule()
    config = {name: value for name, value in json.loads(path.read_text()).items() if not name.startswith("_")}
    schedule = DDPMScheduler.from_config({**config, "clip_sample": False})
    if schedule.config.prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(f"{path} asks for prediction type {schedule.config.prediction_type}; epsilon or v_prediction")
    return schedule


class Diffusion:
    """Noise, targets and one-step predictions of one schedule, whatever its model predicts."""

    def __init__(self, schedule: DDPMScheduler) -> None:
        """Keeps the schedule's cumulative alphas [1000] and its prediction type."""
        self.schedule = schedule
        self.alphas: Tensor = schedule.alphas_cumprod
        self.predicts_noise: bool = schedule.config.prediction_type == "epsilon"

    def add_noise(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Noisy latents, what the model shall predict of them, and the signal-to-noise ratio.

        Args:
            latents: [b, c, h, w] clean.
            noise: [b, c, h, w] standard normal.
            timesteps: [b] int64.

        Returns:
            z_t [b, c, h, w]; the noise, or v = sqrt(a) noise - sqrt(1 - a) latents (Salimans and Ho 2022); and the SNR
            a / (1 - a), [b].
        """
        a = self._alphas(latents.device)[timesteps].view(-1, 1, 1, 1)
        noisy = a.sqrt() * latents + (1 - a).sqrt() * noise
        target = noise if self.predicts_noise else a.sqrt() * noise - (1 - a).sqrt() * latents
        return noisy, target, (a / (1 - a)).view(-1)

    def clean(self, noisy: Tensor, predicted: Tensor, timesteps: Tensor) -> Tensor:
        """The one-step prediction of the clean latents (x0 of equation 8).

        sqrt(a) z_t - sqrt(1 - a) v, or (z_t - sqrt(1 - a) noise) / sqrt(a).
        """
        a = self._alphas(noisy.device)[timesteps].view(-1, 1, 1, 1)
        signal, noise = clean_parts(a, self.predicts_noise)
        clean = signal * noisy - noise * predicted
        return clean / a.sqrt() if self.predicts_noise else clean

    def step(
        self, noisy: Tensor, predicted: Tensor, timesteps: Tensor, then: Tensor, fresh: Tensor | None = None
    ) -> Tensor:
        """One step of DDIM (Song et al. 2021, equation 12) from timesteps [b] to others [b].

        Args:
            noisy: z_t [b, c, h, w]; timesteps are above 0.
            predicted: the model's prediction of it.
            timesteps: [b] int64, where z_t is.
            then: [b] int64, where it shall be.
            fresh: standard normal [b, c, h, w], for a step with noise of its own (equation 16 with eta 1, ancestral
                sampling); without it sigma is 0.
        """
        now, later = (self._alphas(noisy.device)[t].view(-1, 1, 1, 1) for t in (timesteps, then))
        clean = self.clean(noisy, predicted, timesteps)
        noise = (noisy - now.sqrt() * clean) / (1 - now).sqrt()
        if fresh is not None:
            kept = (1 - later) / (1 - now) * now / later
            noise = kept.sqrt() * noise + (1 - kept).clamp_min(0).sqrt() * fresh
        return later.sqrt() * clean + (1 - later).sqrt() * noise

    def rescale(self, guided: Tensor, conditional: Tensor, noisy: Tensor, timesteps: Tensor, phi: float) -> Tensor:
        """`guidance.rescale_guidance` of predictions [b, c, h, w] of z_t [b, c, h, w] at timesteps [b]."""
        alphas = self._alphas(noisy.device)[timesteps].view(-1, 1, 1, 1)
        return rescale_guidance(guided, conditional, noisy, *clean_parts(alphas, self.predicts_noise), phi)

    def weight(self, snr: Tensor, gamma: float = 5.0) -> Tensor:
        """Weight of the prediction's squared error, min-SNR-gamma (Hang et al. 2023).

        Of a velocity: 1 at high noise, falling off at low noise from SNR gamma - 1 on. Of noise: min(SNR, gamma) / SNR.
        """
        return (gamma / (snr if self.predicts_noise else snr + 1)).clamp(max=1)

    def visible(self, timesteps: Tensor) -> Tensor:
        """Share of z_t's variance that is picture, [b] in 0..1: 1 without noise, 0 at the schedule's end."""
        return self._alphas(timesteps.device)[timesteps]

    def _alphas(self, device: torch.device) -> Tensor:
        # Copied once: to copy is to wait for all that a GPU was asked before.
        if self.alphas.device != device:
            self.alphas = self.alphas.to(device)
        return self.alphas


def clean_parts(alphas: Tensor, predicts_noise: bool) -> tuple[Tensor, Tensor]:
    """How z_0 comes of z_t and a prediction: it is the first times z_t less the second times the prediction.

    Args:
        alphas: cumulative alphas a, of any shape.
        predicts_noise: or else velocity.

    Returns:
        sqrt(a) and sqrt(1 - a) for a velocity; 1 and sqrt(1 - a) for noise, whose z_0 is that over sqrt(a).
    """
    return alphas.new_ones(()).expand_as(alphas) if predicts_noise else alphas.sqrt(), (1 - alphas).sqrt()


def stratified_timesteps(uniform: Tensor, count: int = 1000, shift: float = 1.0) -> Tensor:
    """Timesteps spread over the schedule, jittered: uniform [b] in [0, 1) to int64 [b] in 0..count-1.

    `shift` moves them towards more noise, t to s t / (1 + (s - 1) t) (Esser et al. 2024, equation 23); 1 spreads them
    evenly. What words and a reference decide is decided there, and little of it shows in the error.
    """
    places = (torch.arange(len(uniform), device=uniform.device) + uniform) / len(uniform)
    places = shift * places / (1 + (shift - 1) * places)
    return (places * count).long().clamp(0, count - 1)
