"""The training set on disk: every photo aligned once, with one art rendition each."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import renditions
from .alignment import align_face
from .records import FaceRecord, data_folder, held_out_identities, read_photos, read_records
from .renditions import RENDITIONS, render
from .templates import PORTRAIT_TEMPLATE

PORTRAIT_SIZE = 128
"""Side of the aligned portraits, pixels."""


@dataclass(frozen=True)
class Portraits:
    """Aligned photos and what is known of them; row i of every array belongs to `records[i]`.

    Attributes:
        records: one a photo.
        photos: [n, 128, 128, 3] uint8 RGB, memory-mapped.
        renditions: the same photos, each drawn in the style `RENDITIONS[rendition_class[i]]`.
        rendition_class: [n] int64.
        train: indices of the training identities' photos.
        held_out: indices of the held-out identities' photos.
        key: changes with what the pictures are made from: template, size, number of photos, the renditions' code.
    """

    records: list[FaceRecord]
    photos: np.ndarray
    renditions: np.ndarray
    rendition_class: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    key: str


def portraits_key(photos: int) -> str:
    """Names a cache of so many photos, see `Portraits.key`."""
    digest = hashlib.sha256(json.dumps([PORTRAIT_TEMPLATE.tolist(), PORTRAIT_SIZE, photos]).encode())
    digest.update(Path(renditions.__file__).read_bytes())
    return digest.hexdigest()[:12]


def open_portraits(cache: Path) -> Portraits:
    """Opens the portraits of the data folder, making them on first use (2 GB, three minutes).

    Args:
        cache: git-ignored folder for derived data.
    """
    data = data_folder()
    records = read_records(data)
    key = portraits_key(len(records))
    folder = cache / f"portraits-{key}"
    rendition_class = np.random.default_rng(0).integers(0, len(RENDITIONS), len(records))
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(records), PORTRAIT_SIZE, PORTRAIT_SIZE, 3)
        photos = np.lib.format.open_memmap(folder / "photos.npy", "w+", np.uint8, shape)
        drawn = np.lib.format.open_memmap(folder / "renditions.npy", "w+", np.uint8, shape)
        for i, photo in tqdm(read_photos(data, records), total=len(records), desc="align"):
            photos[i] = align_face(photo, records[i].landmarks, PORTRAIT_TEMPLATE, PORTRAIT_SIZE)
            drawn[i] = render(photos[i], RENDITIONS[rendition_class[i]])
        photos.flush()
        drawn.flush()
        (folder / "complete").touch()
    held_out = held_out_identities(records)
    is_held_out = np.array([record.identity in held_out for record in records])
    return Portraits(
        records=records,
        photos=np.load(folder / "photos.npy", mmap_mode="r"),
        renditions=np.load(folder / "renditions.npy", mmap_mode="r"),
        rendition_class=rendition_class,
        train=np.flatnonzero(~is_held_out),
        held_out=np.flatnonzero(is_held_out),
        key=key,
    )
