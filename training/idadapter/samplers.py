"""The API's names of diffusers' schedulers, and one of their steps that diffusers has not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor

RESTARTS = (700, 450)
"""Where the passes of `EulerRestart` after the first begin, in thousandths of the training timesteps."""


def restart_plan(steps: int, train_timesteps: int = 1000) -> list[list[int]]:
    """Timesteps of each pass: all steps shared out by how far each pass goes, at least one to each.

    Args:
        steps: of all passes together; with fewer than three there is one pass.
        train_timesteps: of the model.
    """
    begins = (1000, *(RESTARTS if steps > len(RESTARTS) else ()))
    shares = [max(1, _round_half_up(steps * begin, sum((1000, *RESTARTS)))) for begin in begins[1:]]
    passes = []
    for begin, count in zip(begins, [steps - sum(shares), *shares], strict=True):
        first = train_timesteps * begin // 1000
        passes.append([_round_half_up(first * (count - i), count) - 1 for i in range(count)])
    return passes


def _round_half_up(dividend: int, divisor: int) -> int:
    return (2 * dividend + divisor) // (2 * divisor)


class EulerRestart:
    """Restart sampling (Xu et al. 2023, "Restart Sampling for Improving Generative Processes") by diffusers' own steps.

    Each pass is an `EulerAncestralDiscreteScheduler`'s; between two of them noise is added to the finished picture, up
    to where the next one begins. It looks like a scheduler of diffusers as far as this project needs.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Keeps the model's `scheduler_config.json`; `set_timesteps` makes the passes."""
        self._config = {**config, "timestep_spacing": "trailing"}
        self._model = EulerAncestralDiscreteScheduler.from_config(self._config)
        self.alphas_cumprod: Tensor = self._model.alphas_cumprod
        self.config = self._model.config
        self.timesteps = torch.empty(0)
        self._passes: list[EulerAncestralDiscreteScheduler] = []
        self._taken = 0

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EulerRestart:
        """As diffusers' schedulers have it."""
        return cls(config)

    def set_timesteps(self, num_inference_steps: int) -> None:
        """Begins anew, with so many steps in all."""
        levels = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()
        self._passes, self._taken = [], 0
        for timesteps in restart_plan(num_inference_steps, len(levels)):
            one = EulerAncestralDiscreteScheduler.from_config(self._config)
            one.set_timesteps(len(timesteps))
            one.timesteps = torch.tensor(timesteps, dtype=torch.float32)
            one.sigmas = torch.cat([levels[timesteps], torch.zeros(1)])
            self._passes.append(one)
        self.timesteps = torch.cat([one.timesteps for one in self._passes])

    @property
    def init_noise_sigma(self) -> Tensor:
        """Standard deviation of the noise to begin with."""
        return self._passes[0].sigmas[0]

    def scale_model_input(self, sample: Tensor, timestep: Tensor) -> Tensor:
        """The sample as the model wants it at the next step."""
        return self._pass().scale_model_input(sample, timestep)

    def step(
        self, prediction: Tensor, timestep: Tensor, sample: Tensor, generator: torch.Generator | list[torch.Generator]
    ) -> Any:
        """The next step; after the last one of a pass with the noise that the next pass begins with."""
        now = self._pass()
        output = now.step(prediction, timestep, sample, generator=generator)
        self._taken += 1
        if self._taken < len(self.timesteps) and (following := self._pass()) is not now:
            noise = randn_tensor(sample.shape, generator=generator, dtype=sample.dtype)
            output.prev_sample = output.prev_sample + noise * following.sigmas[0]
        return output

    def _pass(self) -> EulerAncestralDiscreteScheduler:
        left = self._taken
        for one in self._passes:
            if left < len(one.timesteps):
                return one
            left -= len(one.timesteps)
        raise IndexError("all steps are taken")


SCHEDULERS: dict[str, tuple[type[SchedulerMixin] | type[EulerRestart], dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "euler_restart": (EulerRestart, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
}
"""Class, and what its configuration has beside the model's."""


def make_sampler(name: str, config: Mapping[str, Any]) -> SchedulerMixin | EulerRestart:
    """A fresh scheduler.

    Args:
        name: one of `SCHEDULERS`.
        config: the model's `scheduler_config.json`, or a part of it.
    """
    scheduler, extra = SCHEDULERS[name]
    return scheduler.from_config({**config, **extra})


def takes_generator(scheduler: SchedulerMixin | EulerRestart) -> bool:
    """Whether its steps draw noise."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        return scheduler.config.algorithm_type.startswith("sde")
    return isinstance(scheduler, EulerAncestralDiscreteScheduler | EulerRestart)
