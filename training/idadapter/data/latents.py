"""Latents of all portraits, computed once."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..loop import fast_precision
from ..models.autoencoder import Autoencoder, encode
from .portraits import Portraits
from .templates import PORTRAIT_SIZE
from .vision_crops import to_tensor

VARIANTS = ("photo", "mirrored", "rendition")
"""What a row of the cache holds: the photo, the photo flipped, its art rendition."""

RENDITION_EVERY = 3
"""Only every third photo's rendition is encoded; the others' stay zero."""


def fingerprint(vae: Autoencoder) -> str:
    """Changes whenever the encoder's weights do."""
    digest = hashlib.sha256(repr(vae.config.scaling_factor).encode())
    for name, value in sorted(vae.encoder.state_dict().items()):
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()[:12]


@torch.no_grad()
def open_latents(cache: Path, vae: Autoencoder, portraits: Portraits, batch_size: int | None = None) -> np.ndarray:
    """Opens the latents of every portrait, computing them on first use.

    Args:
        cache: folder of derived data.
        vae: the autoencoder.
        portraits: what to encode.
        batch_size: pictures at a time; by default 32 of 128 pixels, fewer of larger ones.

    Returns:
        [n, 3, c, h, w] float16, memory-mapped; the second axis is `VARIANTS`.
    """
    folder = cache / f"latents-{portraits.key}-{fingerprint(vae)}"
    batch_size = batch_size or max(1, 32 * PORTRAIT_SIZE**2 // portraits.size**2)
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        count = len(portraits.records)
        vae = vae.to(memory_format=torch.channels_last)
        shape = encode(vae, to_tensor(portraits.photos[:1])).shape[1:]
        latents = np.lib.format.open_memmap(folder / "latents.npy", "w+", np.float16, (count, len(VARIANTS), *shape))
        for start in tqdm(range(0, count, batch_size), desc="latents", mininterval=20):
            rows = slice(start, min(count, start + batch_size))
            photos = portraits.photos[rows]
            drawn = np.arange(start, min(count, start + batch_size))
            drawn = drawn[drawn % RENDITION_EVERY == 0]
            for index, where, pictures in (
                (0, rows, photos),
                (1, rows, photos[:, :, ::-1]),
                (2, drawn, portraits.renditions[drawn]),
            ):
                images = to_tensor(np.ascontiguousarray(pictures)).contiguous(memory_format=torch.channels_last)
                with torch.autocast("cpu", torch.bfloat16, enabled=fast_precision() == "bf16"):
                    latents[where, index] = encode(vae, images).float().numpy()
        latents.flush()
        (folder / "complete").touch()
    return np.load(folder / "latents.npy", mmap_mode="r")
