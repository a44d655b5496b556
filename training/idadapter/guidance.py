"""Classifier-free guidance of the words and then of the person, as the service guides (`pipeline/guidance.ts`)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

KINDS = ("unconditional", "words", "conditional")
"""What a prediction is told, in the order of the UNet's rows."""


def guidance_rows(guidance_scale: float, identity_guidance_scale: float | None) -> dict[str, float]:
    """What each prediction counts: e(0, 0) + s_w (e(w, 0) - e(0, 0)) + s_p (e(w, p) - e(w, 0)), zeros left out.

    The conditional one is kept even so: rescaling goes by it.
    """
    person = guidance_scale if identity_guidance_scale is None else identity_guidance_scale
    weights = {"unconditional": 1 - guidance_scale, "words": guidance_scale - person, "conditional": person}
    return {kind: weight for kind, weight in weights.items() if weight or kind == "conditional"}


@dataclass(frozen=True)
class GuidanceSchedule:
    """Guidance of all of a picture's steps: of those that begin it by scales of their own.

    View, expression and what is worn are settled while there is hardly more than noise, likeness and detail after that
    (guidance that depends on the noise level: Kynkäänniemi et al. 2024).

    Args:
        scale: of the words; 1 runs the conditional prediction alone.
        identity_scale: of the person; None for both together by `scale`.
        early_scale: of the words in the steps that begin a picture; None for `scale`.
        early_identity_scale: of the person in these; None for `identity_scale`.
        early_until: the last timestep of these, 0 to 1000.
    """

    scale: float
    identity_scale: float | None = None
    early_scale: float | None = None
    early_identity_scale: float | None = None
    early_until: float = 800.0

    def rows_at(self, timestep: float) -> dict[str, float]:
        """What each kind of prediction counts at a timestep; those that count nothing left out."""
        if timestep < self.early_until:
            return guidance_rows(self.scale, self.identity_scale)
        scale = self.scale if self.early_scale is None else self.early_scale
        person = self.identity_scale if self.early_identity_scale is None else self.early_identity_scale
        return guidance_rows(scale, person)

    def kinds(self) -> list[str]:
        """The predictions that count at any step, in the order of `KINDS`."""
        needed = self.rows_at(float("inf")) | self.rows_at(float("-inf"))
        return [kind for kind in KINDS if kind in needed]

    def weights_at(self, timestep: float) -> list[float]:
        """What each of `kinds` counts at a timestep."""
        rows = self.rows_at(timestep)
        return [rows.get(kind, 0.0) for kind in self.kinds()]


def rescale_guidance(
    guided: Tensor, conditional: Tensor, noisy: Tensor, signal: Tensor, noise: Tensor, phi: float
) -> Tensor:
    """Gives the clean latents that a guided prediction means the spread of the conditional ones', by phi.

    Lin et al. 2024, equations 15 and 16, for z_0 instead of the prediction itself: what a smaller velocity or noise
    leaves in z_t is noise, and pictures had grain of it (docs/training_log.md, fourteenth session). Where z_t is noise
    alone, both are the same for a velocity.

    Args:
        guided: [b, c, h, w].
        conditional: with words and person, [b, c, h, w].
        noisy: z_t as the UNet sees it, [b, c, h, w].
        signal: what z_t counts in z_0, but for a factor, [b, 1, 1, 1] (`noise_schedule.clean_parts`).
        noise: what the prediction counts in it, [b, 1, 1, 1].
        phi: 0 leaves `guided` as it is, 1 gives it the whole of the spread.

    Returns:
        [b, c, h, w].
    """
    conditional_spread, spread = (
        (signal * noisy - noise * one).std((1, 2, 3), keepdim=True) for one in (conditional, guided)
    )
    factor = phi * conditional_spread / spread + 1 - phi
    return factor * guided + (1 - factor) * signal / noise * noisy
