"""Another network's opinion of who a portrait shows, for losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..data.embeddings import open_embeddings
from ..data.portraits import Portraits
from ..data.templates import portrait_template
from ..faces.face_res import TEMPLATE, FaceRes
from ..loop import StepRandom
from .face_warp import FaceWarp


class SecondRecognizer(nn.Module):
    """Cosines of what the network sees of portraits and of who they are to show."""

    centre: Tensor

    def __init__(self, network: FaceRes, centre: Tensor, size: int) -> None:
        """Keeps what it looks through.

        Args:
            network: frozen.
            centre: [d], the mean of its embeddings over many people.
            size: of portraits, in pixels.
        """
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.warp = FaceWarp(portrait_template(size), TEMPLATE, network.input_size)
        self.register_buffer("centre", centre)

    def forward(self, images: Tensor, means: Tensor, random: StepRandom, jitter: float) -> Tensor:
        """[k], of portraits RGB [k, 3, s, s] in [0, 1] and means [k, d] of unit length; `jitter` as R's."""
        seen = self.warp.jittered(random.torch, len(images), jitter)(images)
        return (self._embed(seen) * means).sum(1)

    def embed(self, images: Tensor) -> Tensor:
        """[k, d] of unit length, of portraits RGB [k, 3, s, s] in [0, 1] as they are."""
        return self._embed(self.warp(images))

    def _embed(self, faces: Tensor) -> Tensor:
        return functional.normalize(self.network(faces) - self.centre, dim=1)


def open_second_recognizer(cache: Path, portraits: Portraits) -> tuple[SecondRecognizer, np.ndarray]:
    """The network of the registry's package, centred by the training people.

    Args:
        cache: folder of derived data.
        portraits: all of them.

    Returns:
        it, and its embeddings of all portraits less their centre, [n, 2, d] as of `open_embeddings`.
    """
    network = FaceRes.from_package()
    embeddings = open_embeddings(cache, portraits, network, TEMPLATE)
    centre = embeddings[portraits.train].mean((0, 1))
    return SecondRecognizer(network, torch.from_numpy(centre), portraits.size), embeddings - centre
