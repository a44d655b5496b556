"""What an exported bundle's manifest says, checked when the configuration is read: not after an hour of export."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

from .samplers import SCHEDULERS

DEFAULTS_RANGES: dict[str, tuple[float, float]] = {
    "num_inference_steps": (1, 100),
    "early_guidance_scale": (1, math.inf),
    "early_identity_guidance_scale": (0, math.inf),
    "early_guidance_until": (0, 1000),
    "guidance_scale": (1, math.inf),
    "identity_guidance_scale": (0, math.inf),
    "guidance_rescale": (0, 1),
    "identity_strength": (0, 2),
    "pose_variation": (0, 20),
}
"""What `models/manifest.ts` takes of each number in a bundle's defaults."""


def require_number(name: str, value: object, least: float, most: float, kind: type = float) -> None:
    """Refuses what is no finite number in a range.

    Raises:
        ValueError: it is not, or `kind` is int and it has a decimal point.
    """
    kinds = int if kind is int else int | float
    if isinstance(value, kinds) and not isinstance(value, bool) and math.isfinite(value) and least <= value <= most:
        return
    limits = [f"at least {least:g}"] if math.isfinite(least) else []
    limits += [f"at most {most:g}"] if math.isfinite(most) else []
    number = "a whole number" if kind is int else "a number"
    raise ValueError(f"{name} must be {number} of {' and '.join(limits)}, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class BundleDefaults:
    """What a request that leaves fields out is given, as `models/manifest.ts` takes it (docs/bundle.md).

    None leaves a field out of the manifest; what it means then stands in docs/bundle.md.

    Attributes:
        negative_prompt: what photos are led away from.
        scheduler: one of `SCHEDULERS`.
        num_inference_steps: denoising steps.
        early_guidance_scale: of the words in the first steps.
        early_identity_guidance_scale: of the person in the first steps.
        early_guidance_until: the last timestep of these.
        guidance_scale: of the words.
        identity_guidance_scale: of the person.
        guidance_rescale: phi of `guidance.rescale_guidance`.
        identity_strength: scale of the adapters' gates.
        pose_variation: degrees by which references' heads are turned.
    """

    negative_prompt: str | None = None
    scheduler: str
    num_inference_steps: int
    early_guidance_scale: float | None = None
    early_identity_guidance_scale: float | None = None
    early_guidance_until: float | None = None
    guidance_scale: float
    identity_guidance_scale: float | None = None
    guidance_rescale: float | None = None
    identity_strength: float
    pose_variation: float | None = None

    def __post_init__(self) -> None:
        """Refuses what the service would refuse in a manifest."""
        if not isinstance(self.negative_prompt, str | None):
            raise ValueError(f"bundle.defaults.negative_prompt must be a string, not {self.negative_prompt!r}")
        if self.scheduler not in list(SCHEDULERS):
            raise ValueError(
                f"bundle.defaults.scheduler must be one of {', '.join(SCHEDULERS)}, not {self.scheduler!r}"
            )
        for name, value in self.to_json().items():
            if name in DEFAULTS_RANGES:
                kind = int if name == "num_inference_steps" else float
                require_number(f"bundle.defaults.{name}", value, *DEFAULTS_RANGES[name], kind)

    def to_json(self) -> dict[str, Any]:
        """What the manifest says: the fields that are set."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class BundleConfig:
    """What the manifest of an exported bundle says (docs/bundle.md).

    Attributes:
        name: of the bundle.
        version: of it.
        description: one line.
        license: SPDX's name, or a reference.
        origin: of the weights.
        unconditional_identity: what E_r is in guidance's unconditional branch.
        defaults: what a request that leaves fields out is given.
        mouth_bias: added to the attention logits of the tokens of references' mouths where words tell an emotion
            (`models.quiet_patches`); for models trained with an `expressive_share`.
        hat_bias: the same of what they show where a hat would be, where words tell one.
    """

    name: str
    version: str
    description: str
    license: str
    origin: str
    unconditional_identity: Literal["zero", "same"]
    defaults: BundleDefaults
    mouth_bias: float = 0.0
    hat_bias: float = 0.0

    def __post_init__(self) -> None:
        """Refuses what the service would refuse in a manifest."""
        for name in ("name", "version", "description", "license", "origin"):
            if not isinstance(value := getattr(self, name), str):
                raise ValueError(f"bundle.{name} must be a string, not {value!r}")
        if not (self.name and self.version):
            raise ValueError("bundle.name and bundle.version must not be empty")
        for name in ("mouth_bias", "hat_bias"):
            require_number(f"bundle.{name}", getattr(self, name), -math.inf, 0)
