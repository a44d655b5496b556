"""What real photos score, and real photos through the autoencoder alone: no adapter beats these."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..data.facts import Facts
from ..data.records import FaceRecord
from ..data.renditions import RENDITIONS, render
from ..data.vision_crops import to_tensor
from ..judges.panel import Panel, Verdict
from ..models.autoencoder import decode, encode
from ..parts import read_vae
from ..sampling import to_pictures
from ..stages.autoencoder import colour_differences
from .columns import Column, References, photo_column
from .figures import Figure, mean_figure, rendition_figures
from .people import Photo, open_photos, training_photos

REAL_PHOTOS = 600
"""Photos of training people that realism is measured against and standardised by."""

PHOTOS_A_PERSON = 4
"""At most so many further photos of a held-out person."""


def real_features(
    panel: Panel, data: Path, records: list[FaceRecord], facts: list[Facts], size: int, count: int = REAL_PHOTOS
) -> np.ndarray:
    """Realism features of real photos at the product's size, [n, 640]."""
    rows = training_photos(records, count)
    features = []
    for photo in open_photos(data, records, facts, rows).values():
        portrait = photo.portrait(size)
        face = panel.finder.find(portrait)
        if face is not None:
            features.append(panel.recognizer.run(portrait, face.landmarks)[1])
    return np.stack(features)


def measure_ceilings(
    panel: Panel, references: References, others: list[Photo], real: np.ndarray, parts: Path, size: int
) -> tuple[dict[str, Column], dict[str, tuple[float, int]]]:
    """The columns `photos` and `decoded`, and how steady the skin tone is between two photos of a person.

    Args:
        panel: the judges.
        references: the people asked for.
        others: further photos of them.
        real: [n, 640] realism features of real photos.
        parts: folder that holds the autoencoder; a bundle, or a run's parts.
        size: side of a portrait.
    """
    photos = [*references.photos, *others]
    portraits = [photo.portrait(size) for photo in photos]
    verdicts = [*references.verdicts, *(panel.judge(picture) for picture in portraits[len(references.photos) :])]
    decoded = through_autoencoder(parts, portraits)
    through = [panel.judge(picture) for picture in decoded]
    columns = {
        "photos": {
            **photo_column(references, photos, verdicts, real, itself=False),
            **filtered_figures(panel, references, portraits[: len(references.photos)]),
        },
        "decoded": {
            **photo_column(references, photos, through, real, itself=True),
            **pixel_figures(np.stack(portraits), np.stack(decoded), [photo.record.identity for photo in photos]),
        },
    }
    return columns, _steadiness(photos, verdicts)


def filtered_figures(panel: Panel, references: References, portraits: list[np.ndarray]) -> Column:
    """How much of a person the filters of training's art renditions leave: the styles in turn, one a photo.

    Args:
        panel: the judges.
        references: the people asked for.
        portraits: their photos, cut as portraits are: [h, w, 3] uint8 each.
    """
    pairs = []
    for index, (portrait, verdict) in enumerate(zip(portraits, references.verdicts, strict=True)):
        if verdict.face is not None:
            drawn = render(portrait, RENDITIONS[index % len(RENDITIONS)])
            pairs.append((verdict.face, panel.judge(drawn)))
    return rendition_figures(pairs, references.gallery)


def pixel_figures(portraits: np.ndarray, decoded: np.ndarray, people: list[str] | None = None) -> Column:
    """What no judge of faces sees: the mean PSNR, and how much of green against red and blue is told.

    Args:
        portraits: [n, h, w, 3] uint8.
        decoded: the same through the autoencoder.
        people: whose each is (`mean_figure`).

    Returns:
        `psnr` in decibels, and `green` as the coefficient of determination over squares of 4 x 4 pixels: 1 for all of
        it, 0 for no more than its mean.
    """
    real, told = (torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 for x in (portraits, decoded))
    psnr = -10 * torch.log10((told - real).square().mean((1, 2, 3)).clamp_min(1e-10))
    wanted, found = (colour_differences(x)[:, 1] for x in (real, told))
    unexplained = (found - wanted).square().mean() / wanted.var(correction=0).clamp_min(1e-10)
    return {"psnr": mean_figure(psnr.tolist(), people), "green": Figure(float(1 - unexplained), None, len(real))}


@torch.inference_mode()
def through_autoencoder(parts: Path, portraits: list[np.ndarray]) -> list[np.ndarray]:
    """Portraits encoded and decoded."""
    vae = read_vae(parts)
    decoded = []
    for start in tqdm(range(0, len(portraits), 8), desc="autoencoder", mininterval=20):
        decoded.extend(to_pictures(decode(vae, encode(vae, to_tensor(portraits[start : start + 8])))))
    return decoded


def _steadiness(photos: list[Photo], verdicts: list[Verdict]) -> dict[str, tuple[float, int]]:
    first: dict[str, str] = {}
    same = []
    for photo, verdict in zip(photos, verdicts, strict=True):
        if verdict.face is None:
            continue
        identity = photo.record.identity
        if identity in first:
            same.append(first[identity] == verdict.face.skin_tone)
        first.setdefault(identity, verdict.face.skin_tone)
    return {"skin_tone_same_in_two_photos_of_a_person": (float(np.mean(same)), len(same))} if same else {}
