"""Rollouts: what the model itself draws out of noise under a step's words, guided as the service guides."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .config import IdAdapterConfig
from .data.told import tells_drawing
from .guidance import GuidanceSchedule
from .models.idadapter import IdAdapterModel
from .noise_schedule import Diffusion
from .tokenizer import without_identifier


class RolledOut(Protocol):
    """What `roll_out` takes of r pictures (`stages.drawn_people.DrawnPeople` describes each)."""

    @property
    def rolled(self) -> Tensor:
        """[r], which rows of the features they are."""

    @property
    def rolled_crops(self) -> Tensor:
        """Which of the crops are theirs."""

    @property
    def rolled_index(self) -> Tensor:
        """[r, K] which of these are whose."""

    @property
    def rolled_ids(self) -> Tensor:
        """[g r, L] token ids."""

    @property
    def rolled_positions(self) -> Tensor:
        """[g r], the identifier's places."""

    @property
    def rolled_times(self) -> Tensor:
        """[S + 1, r] timesteps."""

    @property
    def rolled_needed(self) -> list[Tensor]:
        """S times which of the g r rows count."""

    @property
    def counts(self) -> Tensor:
        """[b, K], how many of the N references each is, of all rows of the features."""

    @property
    def quiet(self) -> Tensor:
        """[b, places] bool, of whose references a place counts less, of all rows of the features."""


def rollout_guidance(config: IdAdapterConfig) -> GuidanceSchedule:
    """How a rollout is guided."""
    return GuidanceSchedule(
        config.rollout_guidance_scale,
        config.rollout_identity_guidance_scale,
        config.rollout_early_guidance_scale,
        config.rollout_early_identity_guidance_scale,
    )


def guided_prompts(config: IdAdapterConfig, prompts: list[str], nouns: list[str]) -> list[str]:
    """What every row of a rollout's guidance is told, kind by kind.

    Args:
        config: the stage's.
        prompts: of those rolled out, with the identifier.
        nouns: theirs.
    """
    asked = {
        "unconditional": ["" if tells_drawing(prompt) else config.rollout_negative_prompt for prompt in prompts],
        "words": [without_identifier(prompt, noun) for prompt, noun in zip(prompts, nouns, strict=True)],
        "conditional": prompts,
    }
    return [prompt for kind in rollout_guidance(config).kinds() for prompt in asked[kind]]


def rollout_times(config: IdAdapterConfig, timesteps: Tensor, end: int) -> Tensor:
    """Timesteps of a rollout's denoising: [rollout_steps + 1, r], from the schedule's end to [r]."""
    shares = torch.linspace(0, 1, config.rollout_steps + 1)[:, None]
    return (end + shares * (timesteps - end)).round().long()


def rollout_weights(config: IdAdapterConfig, timesteps: Tensor) -> Tensor:
    """What each kind of prediction counts at timesteps [r], in the order of `GuidanceSchedule.kinds`: [g, r]."""
    guidance = rollout_guidance(config)
    beginning = timesteps >= guidance.early_until
    early, late = (guidance.weights_at(t) for t in (float("inf"), float("-inf")))
    return torch.stack([torch.where(beginning, *both) for both in zip(early, late, strict=True)])


def rollout_needed(config: IdAdapterConfig, timesteps: Tensor) -> Tensor:
    """Which of the g r rows of a rollout's guidance count at timesteps [r]; rescaling goes by the last kind's."""
    counts = rollout_weights(config, timesteps) != 0
    counts[-1] = True
    return counts.flatten().nonzero()[:, 0]


@torch.no_grad()
def roll_out(
    config: IdAdapterConfig,
    module: IdAdapterModel,
    diffusion: Diffusion,
    batch: RolledOut,
    noise: Tensor,
    features: tuple[Tensor, Tensor, Tensor],
) -> Tensor:
    """z_t of a batch's `rolled` rows at their timesteps, as the model itself denoises their noise.

    Args:
        config: the stage's.
        module: the model.
        diffusion: the noise it is trained with.
        batch: on the model's device.
        noise: standard normal [n, r, c, h, w]: the first is z_t at the schedule's end, the others are the steps' own if
            there are any (`Diffusion.step`), else the steps are deterministic.
        features: of all rows, as `IdAdapterModel.forward` takes them.

    Returns:
        [r, c, h, w].
    """
    rolled, count = batch.rolled, len(batch.rolled)
    patch, classes, faces = features
    if module.image_encoder is None:
        features = (patch[rolled], classes[rolled], faces[rolled])
    else:
        features = (patch[batch.rolled_crops], batch.rolled_index, faces[rolled])
    anonymous = torch.zeros_like(rolled, dtype=torch.bool)
    known, bias = module.mix(features, batch.counts[rolled], anonymous, batch.quiet[rolled])
    nobody = (torch.zeros_like(known[0]), torch.zeros_like(known[1]))
    kinds = rollout_guidance(config).kinds()
    who = [known if kind == "conditional" else nobody for kind in kinds]
    identity = [torch.cat(parts) for parts in zip(*who, strict=True)]
    noisy, *steps_noise = noise
    steps = zip(batch.rolled_times, batch.rolled_times[1:], batch.rolled_needed, strict=False)
    for (now, then, needed), fresh in zip(steps, steps_noise or [None] * config.rollout_steps, strict=True):
        whose = needed % count
        rows = module.denoise(
            noisy[whose].contiguous(memory_format=torch.channels_last),
            now[whose],
            batch.rolled_ids[needed],
            batch.rolled_positions[needed],
            (identity[0][needed], identity[1][needed]),
            bias[whose],
        ).float()
        each = rows.new_zeros(len(kinds) * count, *rows.shape[1:]).index_copy(0, needed, rows)
        each = each.unflatten(0, (len(kinds), count))
        predicted = (rollout_weights(config, now)[:, :, None, None, None] * each).sum(0)
        if config.rollout_guidance_rescale and len(kinds) > 1:
            predicted = diffusion.rescale(predicted, each[-1], noisy, now, config.rollout_guidance_rescale)
        noisy = diffusion.step(noisy, predicted, now, then, fresh)
    return noisy
