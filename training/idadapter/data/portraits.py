"""The training set on disk: every photo aligned once, with one art rendition each."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import renditions
from .alignment import align_face
from .records import FaceRecord, data_folder, held_out_identities, read_photos, read_records, training_identities
from .renditions import RENDITIONS, render
from .templates import PORTRAIT_SIZE, PORTRAIT_TEMPLATE, portrait_template


@dataclass(frozen=True)
class Portraits:
    """Aligned photos and what is known of them; row i of every array belongs to `records[i]`.

    Attributes:
        records: one a photo.
        photos: [n, size, size, 3] uint8 RGB, memory-mapped.
        renditions: the same photos, each drawn in the style `RENDITIONS[rendition_class[i]]`.
        rendition_class: [n] int64.
        train: indices of the training identities' photos (`training_identities`).
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

    @property
    def size(self) -> int:
        """Side of the portraits, pixels."""
        return self.photos.shape[1]


def portraits_key(photos: int, size: int = PORTRAIT_SIZE) -> str:
    """Names a cache of so many photos of a size, see `Portraits.key`."""
    digest = hashlib.sha256(json.dumps([PORTRAIT_TEMPLATE.tolist(), size, photos]).encode())
    digest.update(Path(renditions.__file__).read_bytes())
    return digest.hexdigest()[:12]


def open_portraits(cache: Path, size: int = PORTRAIT_SIZE) -> Portraits:
    """Opens the portraits of the data folder, making them on first use (2 GB and, on two cores, ten minutes at 128
    pixels, most of them for renditions).

    Args:
        cache: git-ignored folder for derived data.
        size: side of the portraits, pixels.
    """
    data = data_folder()
    records = read_records(data)
    key = portraits_key(len(records), size)
    folder = cache / f"portraits-{key}"
    rendition_class = np.random.default_rng(0).integers(0, len(RENDITIONS), len(records))
    if not (folder / "complete").exists():
        folder.mkdir(parents=True, exist_ok=True)
        shape = (len(records), size, size, 3)
        photos = np.lib.format.open_memmap(folder / "photos.npy", "w+", np.uint8, shape)
        drawn = np.lib.format.open_memmap(folder / "renditions.npy", "w+", np.uint8, shape)
        for i, photo in tqdm(read_photos(data, records), total=len(records), desc="align"):
            photos[i] = align_face(photo, records[i].landmarks, portrait_template(size), size)

        def draw(i: int) -> None:
            drawn[i] = render(photos[i], RENDITIONS[rendition_class[i]])

        # Threads are enough, for OpenCV and NumPy let go of the interpreter while they compute.
        with ThreadPoolExecutor() as threads:
            for _ in tqdm(threads.map(draw, range(len(records))), total=len(records), desc="draw"):
                pass
        photos.flush()
        drawn.flush()
        (folder / "complete").touch()
    held_out, train = held_out_identities(records), training_identities(records)
    return Portraits(
        records=records,
        photos=np.load(folder / "photos.npy", mmap_mode="r"),
        renditions=np.load(folder / "renditions.npy", mmap_mode="r"),
        rendition_class=rendition_class,
        train=np.flatnonzero([record.identity in train for record in records]),
        held_out=np.flatnonzero([record.identity in held_out for record in records]),
        key=key,
    )
