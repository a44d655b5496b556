"""Classifier-free guidance of the words and then of the person, as the service guides (`pipeline/guidance.ts`)."""

from __future__ import annotations


def guidance_rows(guidance_scale: float, identity_guidance_scale: float | None) -> dict[str, float]:
    """What each prediction counts: e(0, 0) + s_w (e(w, 0) - e(0, 0)) + s_p (e(w, p) - e(w, 0)), zeros left out.

    The conditional one is kept even so: rescaling goes by it.
    """
    person = guidance_scale if identity_guidance_scale is None else identity_guidance_scale
    weights = {"unconditional": 1 - guidance_scale, "words": guidance_scale - person, "conditional": person}
    return {kind: weight for kind, weight in weights.items() if weight or kind == "conditional"}
