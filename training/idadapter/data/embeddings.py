"""Face embeddings of all portraits, computed once, and what they say of the labels."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..faces.face_res import FaceRes
from ..faces.recognizer import TEMPLATE, FaceRecognizer
from ..loop import fast_precision
from ..models.face_warp import FaceWarp
from .portraits import Portraits
from .templates import PORTRAIT_SIZE, portrait_template
from .vision_crops import to_tensor

MISLABELLED_BELOW = 0.25
"""A photo whose embedding has less cosine to the mean of its identity's others is taken for mislabelled."""


def fingerprint(portraits: Portraits) -> str:
    """Changes with the photos' names, order or landmarks."""
    described = [[record.file, record.landmarks.tolist()] for record in portraits.records]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()[:12]


@torch.no_grad()
def open_embeddings(
    cache: Path,
    portraits: Portraits,
    recognizer: FaceRecognizer | FaceRes,
    template: np.ndarray = TEMPLATE,
    batch_size: int = 64,
) -> np.ndarray:
    """Opens the embeddings of every portrait, computing them on first use.

    Args:
        cache: the folder they are kept in.
        portraits: whose.
        recognizer: R, whose embeddings are f_a, or another.
        template: where the five points stand in what it takes.
        batch_size: how many at once.

    Returns:
        [n, 2, d] float32, as the recogniser gives them: of the photo, and of the photo flipped.
    """
    of_size = "" if portraits.size == PORTRAIT_SIZE else f"-{portraits.size}"
    whose = "" if isinstance(recognizer, FaceRecognizer) else f"-{type(recognizer).__name__.lower()}"
    path = cache / f"embeddings-{fingerprint(portraits)}{of_size}{whose}.npy"
    if not path.exists():
        warp = FaceWarp(portrait_template(portraits.size), template, recognizer.input_size)
        recognizer = recognizer.to(memory_format=torch.channels_last)
        rows = []
        for start in tqdm(range(0, len(portraits.records), batch_size), desc="embeddings", mininterval=20):
            photos = portraits.photos[start : start + batch_size]
            # bfloat16 keeps 0.9998 of the cosine in a third of the time, where a processor has instructions for it.
            with torch.autocast("cpu", torch.bfloat16, enabled=fast_precision() == "bf16"):
                both = [recognizer(warp(to_tensor(np.ascontiguousarray(p)))) for p in (photos, photos[:, :, ::-1])]
            rows.append(torch.stack(both, dim=1).float().numpy())
        partial = path.with_suffix(".partial.npy")
        np.save(partial, np.concatenate(rows))
        partial.rename(path)
    return np.load(path)


def by_identity(portraits: Portraits) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Identity numbers [n] of the photos, and the photos of each identity."""
    identity = np.unique([record.identity for record in portraits.records], return_inverse=True)[1]
    order = np.argsort(identity, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(identity[order])) + 1)
    return identity, {int(identity[group[0]]): group for group in groups}


def clean_identities(embeddings: np.ndarray, groups: dict[int, np.ndarray]) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """The photos of each identity without the mislabelled ones, and each photo's identity's mean embedding.

    Args:
        embeddings: [n, 2, d_a].
        groups: photos of each identity.

    Returns:
        cleaned groups (an identity keeps at least one photo), and [n, d_a] unit-length means over the cleaned group.
    """
    cleaned = {}
    for identity, rows in groups.items():
        own = embeddings[rows].mean(1)
        kept = rows
        if len(rows) > 1:
            others = (own.sum(0) - own) / (len(rows) - 1)
            cosine = (
                (own * others).sum(1) / np.linalg.norm(own, axis=1) / np.maximum(np.linalg.norm(others, axis=1), 1e-6)
            )
            good = cosine >= MISLABELLED_BELOW
            kept = rows[good] if good.any() else rows[:1]
        cleaned[identity] = kept
    return cleaned, identity_means(embeddings, groups, cleaned)


def identity_means(embeddings: np.ndarray, groups: dict[int, np.ndarray], cleaned: dict[int, np.ndarray]) -> np.ndarray:
    """Each photo's identity's mean embedding: [n, d], unit length.

    Args:
        embeddings: [n, 2, d].
        groups: photos of each identity.
        cleaned: those of them that count.
    """
    means = np.zeros(embeddings[:, 0].shape, np.float32)
    for identity, rows in groups.items():
        mean = embeddings[cleaned[identity]].mean((0, 1))
        means[rows] = mean / np.linalg.norm(mean)
    return means
