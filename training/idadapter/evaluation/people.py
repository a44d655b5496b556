"""The held-out people, and their photos."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.alignment import align_face
from ..data.facts import Facts
from ..data.records import FaceRecord, held_out_identities, read_photos, training_identities
from ..data.templates import portrait_template


@dataclass(frozen=True)
class Photo:
    """One photo.

    Attributes:
        record: its row in the data folder.
        facts: what is known of it.
        picture: [h, w, 3] uint8 RGB.
    """

    record: FaceRecord
    facts: Facts
    picture: np.ndarray

    def portrait(self, size: int) -> np.ndarray:
        """Cut as the product's portraits are, [size, size, 3]."""
        return align_face(self.picture, self.record.landmarks, portrait_template(size), size)

    @property
    def age_group(self) -> str | None:
        """ "under 30", "30 to 50" or "over 50"; None where no label tells."""
        if self.record.age is None:
            return "over 50" if self.facts.age == "old" else None
        return "under 30" if self.record.age < 30 else "30 to 50" if self.record.age <= 50 else "over 50"


def held_out_people(records: list[FaceRecord], seed: int = 0) -> list[list[int]]:
    """The photos of every held-out person, people in a seeded order: indices into `records`.

    The first photo of each is the one to ask with.
    """
    held_out = held_out_identities(records)
    photos: dict[str, list[int]] = {}
    for index, record in enumerate(records):
        if record.identity in held_out:
            photos.setdefault(record.identity, []).append(index)
    people = [photos[identity] for identity in sorted(photos)]
    return [people[i] for i in np.random.default_rng(seed).permutation(len(people))]


def training_photos(records: list[FaceRecord], count: int, seed: int = 0) -> list[int]:
    """At most so many photos of training people, seeded: indices into `records`.

    Held-out people by another name leave after the choice, so that the other photos stay the same.
    """
    held_out, training = held_out_identities(records), training_identities(records)
    rows = [index for index, record in enumerate(records) if record.identity not in held_out]
    chosen = np.random.default_rng(seed).choice(rows, min(count, len(rows)), replace=False)
    return sorted(row for row in chosen.tolist() if records[row].identity in training)


def open_photos(data: Path, records: list[FaceRecord], facts: list[Facts], rows: list[int]) -> dict[int, Photo]:
    """The photos of these rows."""
    found = read_photos(data, [records[row] for row in rows])
    return {rows[i]: Photo(records[rows[i]], facts[rows[i]], picture) for i, picture in found}
