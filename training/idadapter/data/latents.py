"""Latents of portraits, each encoded when it is first asked for, and kept."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..loop import fast_precision
from ..models.autoencoder import Autoencoder, compression, encode, side_state
from .portraits import Portraits
from .templates import PORTRAIT_SIZE
from .vision_crops import to_tensor

VARIANTS = ("photo", "mirrored", "rendition")
"""What there are latents of: the photo, the photo flipped, its art rendition."""


def fingerprint(vae: Autoencoder) -> str:
    """Changes whenever the weights do that latents are made with."""
    digest = hashlib.sha256(repr(vae.config.scaling_factor).encode())
    for name, value in sorted(side_state(vae, "encoder")[0].items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


class Latents:
    """Latents of all portraits, in a file of the cache that several processes may fill at once.

    A place that was never written is a hole in the file, so what nobody asks for costs neither time nor space.
    """

    def __init__(self, cache: Path, vae: Autoencoder, portraits: Portraits) -> None:
        """Opens the file, making it when it is missing.

        Args:
            cache: folder of derived data.
            vae: the autoencoder, on any device; it must not change.
            portraits: what to encode.
        """
        self.vae, self.portraits = vae.to(memory_format=torch.channels_last), portraits
        side = portraits.size // compression(vae)
        shape = (vae.config.latent_channels, side, side)
        # `known` is written last: whoever is killed before has written nothing.
        kind = np.dtype([("latent", np.float16, shape), ("known", np.bool_)])
        path = cache / f"latents-{portraits.key}-{fingerprint(vae)}.npy"
        if not path.exists():
            partial = path.with_suffix(f".{os.getpid()}.npy")
            np.lib.format.open_memmap(partial, "w+", kind, (len(portraits.records), len(VARIANTS)))
            with suppress(FileExistsError):
                # Unlike a rename this leaves a file alone that another process has made meanwhile.
                path.hardlink_to(partial)
            partial.unlink()
        self.kept = np.load(path, mmap_mode="r+")
        self.portraits_at_once = 32 * PORTRAIT_SIZE**2 / portraits.size**2

    def __call__(self, rows: np.ndarray, variants: np.ndarray) -> Tensor:
        """Latents [b, c, h, w], float32 rounded to half precision.

        Args:
            rows: [b], which portraits.
            variants: [b], which of `VARIANTS`.
        """
        missing = ~self.kept["known"][rows, variants]
        if missing.any():
            on_gpu = next(self.vae.parameters()).device.type == "cuda"
            at_once = max(1, int(self.portraits_at_once * (16 if on_gpu else 1)))
            pairs = np.unique(np.stack([rows[missing], variants[missing]]), axis=1)
            for start in range(0, pairs.shape[1], at_once):
                some_rows, some_variants = pairs[:, start : start + at_once]
                self.kept["latent"][some_rows, some_variants] = self._encode(some_rows, some_variants)
                self.kept["known"][some_rows, some_variants] = True
        return torch.from_numpy(self.kept["latent"][rows, variants].astype(np.float32))

    def pictures(self, rows: np.ndarray, variants: np.ndarray) -> np.ndarray:
        """What the latents are of: [b, s, s, 3] uint8."""
        pictures = self.portraits.photos[rows]
        pictures[variants == 1] = pictures[variants == 1][:, :, ::-1]
        pictures[variants == 2] = self.portraits.renditions[rows[variants == 2]]
        return pictures

    @torch.no_grad()
    def _encode(self, rows: np.ndarray, variants: np.ndarray) -> np.ndarray:
        device = next(self.vae.parameters()).device
        images = to_tensor(self.pictures(rows, variants), device).contiguous(memory_format=torch.channels_last)
        with torch.autocast(device.type, torch.bfloat16, enabled=fast_precision() == "bf16"):
            return encode(self.vae, images).float().cpu().numpy()
