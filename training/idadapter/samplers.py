"""The API's names of diffusers' schedulers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    SchedulerMixin,
    UniPCMultistepScheduler,
)

SCHEDULERS: dict[str, tuple[type[SchedulerMixin], dict[str, Any]]] = {
    "ddim": (DDIMScheduler, {}),
    "euler": (EulerDiscreteScheduler, {}),
    "euler_ancestral": (EulerAncestralDiscreteScheduler, {}),
    "dpmpp_2m": (DPMSolverMultistepScheduler, {}),
    "dpmpp_2m_sde": (DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    "unipc": (UniPCMultistepScheduler, {}),
}
"""Class, and what its configuration has beside the model's."""


def make_sampler(name: str, config: Mapping[str, Any]) -> SchedulerMixin:
    """A fresh scheduler.

    Args:
        name: one of `SCHEDULERS`.
        config: the model's `scheduler_config.json`, or a part of it.
    """
    scheduler, extra = SCHEDULERS[name]
    return scheduler.from_config({**config, **extra})


def takes_generator(scheduler: SchedulerMixin) -> bool:
    """Whether its steps draw noise."""
    if isinstance(scheduler, DPMSolverMultistepScheduler):
        return scheduler.config.algorithm_type.startswith("sde")
    return isinstance(scheduler, EulerAncestralDiscreteScheduler)
