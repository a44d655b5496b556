"""What the UNet is given while it makes portraits: what its 8-bit graph is calibrated on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .reference import ReferencePipeline

SAMPLE_PHOTO = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "face.png"
"""The repository's sample face, in the public domain."""

PROMPTS = ("a portrait photo, smiling", "a pencil sketch", "sad, wearing glasses, side view")
STEPS = 8


def record_denoising(bundle: Path, photo: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Inputs of the UNet's graph while it makes a few portraits, with and without a person; recorded at more of their
    noise levels, the 8-bit graph came out no better.

    Args:
        bundle: with its manifest.
        photo: [H, W, 3] uint8 RGB with one face.

    Raises:
        ValueError: the photo shows no face.
    """
    pipeline = ReferencePipeline(bundle)
    recorded: list[dict[str, np.ndarray]] = []

    def record(_: nn.Module, inputs: tuple[Tensor, ...], extra: dict[str, Any]) -> None:
        sample, timestep, hidden_states = inputs
        tokens, strength, _ = extra["cross_attention_kwargs"]["gligen"]["objs"]
        recorded.append(
            {
                "sample": sample.numpy(),
                "timestep": timestep.float().numpy(),
                "encoder_hidden_states": hidden_states.numpy(),
                "identity_tokens": tokens.numpy(),
                "identity_token_bias": np.zeros(tokens.shape[:2], np.float32),
                "identity_strength": strength.numpy(),
            }
        )

    pipeline.unet.register_forward_pre_hook(record, with_kwargs=True)
    nouns = pipeline.manifest["class_nouns"]
    defaults = pipeline.manifest["defaults"]
    with torch.inference_mode():
        for index, prompt in enumerate(PROMPTS):
            pipeline.generate(
                photo,
                prompt,
                nouns[index % len(nouns)],
                num_inference_steps=STEPS,
                guidance_scale=max(defaults["guidance_scale"], 2.0),
                scheduler=defaults["scheduler"],
                seed=index,
            )
    return recorded
