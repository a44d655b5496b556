"""Reads facts that captions tell (a smile, glasses, the view) from the recogniser's middle features."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ..data.captions import mirrored
from ..data.embeddings import fingerprint
from ..data.facts import Facts
from ..data.portraits import Portraits
from ..data.templates import portrait_template
from ..data.told import TOLD, YES_OR_NO, fact_values
from ..data.vision_crops import to_tensor
from ..loop import fast_precision
from ..models.face_warp import FaceWarp, blurred
from .recognizer import TEMPLATE, FaceRecognizer

YAW_SPREAD = 0.15
"""Standard deviation of photos' yaw offsets; errors of the yaw count in these."""


class FactReader(nn.Module):
    """Linear maps of the recogniser's last two middle layers to the facts of `TOLD`.

    A velocity's squared error hardly knows of a smile (captions explain 5 % of the latents' variance,
    docs/training_log.md, seventh session), as it hardly knows of identity. What the identity loss is for f_a, this is
    for words.
    """

    WIDTHS = (128, 256)
    SIDE = 4

    def __init__(self) -> None:
        """Makes maps that read nothing yet."""
        super().__init__()
        self.linear = nn.Linear(sum(self.WIDTHS) * self.SIDE**2, len(TOLD))
        nn.init.zeros_(self.linear.weight)

    @classmethod
    def inputs(cls, features: list[Tensor]) -> Tensor:
        """What the maps read [n, 6144] of `FaceRecognizer.features`: unit length over channels at 4 x 4 places."""
        places = [functional.adaptive_avg_pool2d(x.float(), cls.SIDE) for x in features[2:]]
        return torch.cat([functional.normalize(x, dim=1).flatten(1) for x in places], dim=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Logits of the facts that hold or do not, and the yaw in standard deviations, [n, 6]."""
        return self.linear(self.inputs(features))

    def losses(self, features: list[Tensor], wanted: Tensor) -> Tensor:
        """How wrong each picture is about what it was told, [n]: summed over the facts told, 0 of none.

        Args:
            features: of `FaceRecognizer.features`.
            wanted: [n, 6] in the order of `TOLD`, NaN where nothing was told.
        """
        return fact_losses(self(features), wanted).sum(1)


def fact_losses(read: Tensor, wanted: Tensor) -> Tensor:
    """Cross-entropy of yes-or-no facts and Huber's loss of the yaw, [n, 6]; 0 where `wanted` is NaN."""
    told = ~wanted.isnan()
    wanted = wanted.nan_to_num()
    count = len(YES_OR_NO)
    facts = functional.binary_cross_entropy_with_logits(read[:, :count], wanted[:, :count], reduction="none")
    yaw = functional.huber_loss(read[:, count:], wanted[:, count:] / YAW_SPREAD, reduction="none")
    return torch.cat([facts, yaw], dim=1) * told


def open_fact_reader(
    cache: Path, portraits: Portraits, facts: list[Facts], recognizer: FaceRecognizer, photos: int = 9000
) -> FactReader:
    """Opens the reader, fitting it on first use to training photos, moved and blurred as the loss looks at pictures.

    Args:
        cache: folder of derived data.
        portraits: what it is fitted to; held-out people are left out.
        facts: of every photo.
        recognizer: whose features are read.
        photos: how many photos to read at most.
    """
    reader = FactReader()
    path = cache / f"fact-reader-{fingerprint(portraits)}-{portraits.size}-{photos}.pt"
    if not path.exists():
        warp = FaceWarp(portrait_template(portraits.size), TEMPLATE, recognizer.input_size)
        random = np.random.default_rng(0)
        rows = random.permutation(portraits.train)[:photos]
        flipped = random.random(len(rows)) < 0.5
        shown = [mirrored(facts[row]) if flip else facts[row] for row, flip in zip(rows, flipped, strict=True)]
        wanted = np.stack([fact_values(one) for one in shown])
        inputs = _read_inputs(portraits, rows, flipped, warp, recognizer)
        fit(reader, inputs, torch.from_numpy(wanted))
        partial = path.with_suffix(".partial.pt")
        torch.save(reader.state_dict(), partial)
        partial.rename(path)
    reader.load_state_dict(torch.load(path, weights_only=True))
    return reader.eval().requires_grad_(False)


@torch.no_grad()
def _read_inputs(
    portraits: Portraits, rows: np.ndarray, flipped: np.ndarray, warp: FaceWarp, recognizer: FaceRecognizer
) -> Tensor:
    generator, inputs = torch.Generator().manual_seed(0), []
    for start in tqdm(range(0, len(rows), 64), desc="facts", mininterval=20):
        part = slice(start, start + 64)
        pictures = portraits.photos[rows[part]]
        pictures[flipped[part]] = pictures[flipped[part]][:, :, ::-1]
        # As blurred as what one step makes of much noise.
        sigma = 4 * float(torch.rand((), generator=generator)) ** 2
        images = blurred(to_tensor(pictures), sigma)
        look = warp.jittered(generator, len(images), 1.0)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_precision() == "bf16"):
            features = recognizer.features(look(images))
        inputs.append(FactReader.inputs(features))
    return torch.cat(inputs)


def fit(reader: FactReader, inputs: Tensor, wanted: Tensor, steps: int = 300, decay: float = 3e-5) -> None:
    """Fits the maps by full batches of Adam.

    Args:
        reader: is changed.
        inputs: [n, 6144], of `FactReader.inputs`.
        wanted: [n, 6], NaN where nothing is known.
        steps: of Adam.
        decay: weight of the maps' squared length.
    """
    optimizer = torch.optim.Adam(reader.parameters(), lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    known = (~wanted.isnan()).sum(0).clamp_min(1)
    with torch.enable_grad():
        for _ in range(steps):
            losses = fact_losses(reader.linear(inputs), wanted)
            loss = (losses.sum(0) / known).sum() + decay * reader.linear.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
