"""The list of photos: `faces.csv.gz` of a data folder, and its split by identity."""

from __future__ import annotations

import csv
import gzip
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

HELD_OUT_EVERY = 20
"""Every twentieth identity in sorted order is held out, so that figures of different days compare."""

HELD_OUT_BY_ANOTHER_NAME = {
    "lfw-Bison_Dele": "lfw-Brian_Williams",
    "lfw-Nicole_Hiltz": "celeba-7261",
    "lfw-Ray_Young": "lfw-Jason_Kapono",
}
"""Identities that show a held-out person: found by two recognisers, and looked at. They neither train nor judge."""


@dataclass(frozen=True)
class FaceRecord:
    """One photo: file inside its archive, identity, [5, 2] landmarks in pixels, attributes (empty cells left out)."""

    file: str
    identity: str
    landmarks: np.ndarray
    attributes: dict[str, float]
    emotion: str
    age: float | None


def data_folder() -> Path:
    """The folder named by `IDADAPTER_DATA`, or `../shared/data` beside the repository."""
    default = Path(__file__).resolve().parents[4] / "shared" / "data"
    return Path(os.environ.get("IDADAPTER_DATA", default))


def read_records(data: Path) -> list[FaceRecord]:
    """Reads every row of `faces/faces.csv.gz`.

    Args:
        data: folder that holds `faces/`.

    Returns:
        records in the file's order.

    Raises:
        FileNotFoundError: the folder holds no `faces/faces.csv.gz`.
    """
    path = data / "faces" / "faces.csv.gz"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing; point IDADAPTER_DATA at a folder that holds faces/faces.csv.gz")
    points = [f"{p}_{axis}" for p in ("right_eye", "left_eye", "nose", "mouth_right", "mouth_left") for axis in "xy"]
    known = {"file", "identity", "gender", "age", "emotion", *points}
    records = []
    with gzip.open(path, "rt", newline="") as handle:
        for row in csv.DictReader(handle):
            records.append(
                FaceRecord(
                    file=row["file"],
                    identity=row["identity"],
                    landmarks=np.array([float(row[p]) for p in points]).reshape(5, 2),
                    attributes={k: float(v) for k, v in row.items() if k not in known and v != ""},
                    emotion=row["emotion"],
                    age=float(row["age"]) if row["age"] else None,
                )
            )
    return records


def held_out_identities(records: list[FaceRecord]) -> set[str]:
    """Every twentieth identity of the sorted list, starting with the first."""
    return set(sorted({record.identity for record in records})[::HELD_OUT_EVERY])


def training_identities(records: list[FaceRecord]) -> set[str]:
    """All that are not held out, but for those that show a held-out person by another name."""
    identities = {record.identity for record in records}
    return identities - held_out_identities(records) - HELD_OUT_BY_ANOTHER_NAME.keys()


def read_photos(data: Path, records: list[FaceRecord]) -> Iterator[tuple[int, np.ndarray]]:
    """Decodes the photos of the records out of the data folder's archives.

    Args:
        data: folder that holds `faces/*.tar`.
        records: which photos.

    Yields:
        index into `records` and the photo, [H, W, 3] uint8 RGB, in archive order.
    """
    index = {record.file: i for i, record in enumerate(records)}
    for archive in sorted((data / "faces").glob("*.tar")):
        with tarfile.open(archive) as tar:
            for member in tar:
                i = index.get(member.name.removeprefix("./"))
                if i is None or not member.isfile():
                    continue
                content = io.BytesIO(tar.extractfile(member).read()).getvalue()
                image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
                yield i, cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
