"""Reference photos for a training photo, as section 3.2 and the augmentations of section 4.1 have them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .alignment import similarity_transform
from .portraits import Portraits
from .templates import portrait_template
from .turned_heads import turned_head, yaw_angle
from .vision_crops import augmented, crop


class References:
    """Draws N reference photos for a training photo: other photos of the person, or altered copies of it."""

    def __init__(
        self,
        portraits: Portraits,
        embeddings: np.ndarray,
        groups: dict[int, np.ndarray],
        identity: np.ndarray,
        count: int,
        different: int,
        size: int,
        single_share: float,
    ) -> None:
        """Keeps what is drawn from.

        Args:
            portraits: the photos.
            embeddings: f_a [n, 2, d_a].
            groups: cleaned photos of each identity.
            identity: identity number of each photo.
            count: N.
            different: K, the most different photos among the N.
            size: side of the image encoder's crops.
            single_share: how often one photo stands N times, as at inference.
        """
        self.portraits, self.embeddings, self.groups, self.identity = portraits, embeddings, groups, identity
        self.count, self.different, self.size = count, different, size
        self.single_share = single_share

    def __call__(
        self,
        rows: np.ndarray,
        mirrored: np.ndarray,
        random: np.random.Generator,
        itself: np.ndarray | None = None,
        turns: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """References of each row.

        Args:
            rows: the photos to be drawn.
            mirrored: [b] bool, whether they are to be drawn flipped.
            random: draws everything.
            itself: [b] bool, among whose references is the photo to be drawn, as it is; alone and N times where one
                photo stands for all, or with other photos of the person; by default nobody's.
            turns: [b], by how many radians the heads of these are turned (`turned_heads`); by default none.

        Returns:
            crops [k, s, s, 3] uint8 (each picture once), index [b, K] into them, f_a [b, K, d_a], and [b, K], how
            many of the N references each is.
        """
        crops, index, faces, counts = [], [], [], []
        copied = np.zeros(len(rows), bool) if itself is None else itself
        turns = np.zeros(len(rows)) if turns is None else turns
        for row, mirror, copy, turn in zip(rows, mirrored, copied, turns, strict=True):
            group = self.groups[self.identity[row]]
            others = group[group != row]
            wanted = 1 if random.random() < self.single_share else self.different
            chosen = [int(row)] if copy else []
            chosen += random.choice(others, min(wanted - len(chosen), len(others)), replace=False).tolist()
            chosen += [int(random.choice(chosen)) if chosen else int(row) for _ in range(wanted - len(chosen))]
            places, embedded = [], []
            for position, photo in enumerate(chosen):
                unaltered = copy and position == 0
                flipped = int(mirror) if unaltered else int(random.random() < 0.5)
                image = np.ascontiguousarray(self.portraits.photos[photo][:, :: -1 if flipped else 1])
                if unaltered and turn:
                    image = turned_head(image, self.landmarks(photo, bool(flipped)), turn)
                # The first of its kind may stay as it is; copies, and the photo to be drawn itself, are altered.
                plain = unaltered or (photo not in chosen[:position] and photo != row and random.random() < 0.5)
                crops.append(crop(image, self.size) if plain else augmented(image, self.size, random))
                places.append(len(crops) - 1)
                embedded.append(self.embeddings[photo, flipped])
            unused = self.different - len(places)
            index.append(places + places[:1] * unused)
            faces.append(np.stack(embedded + embedded[:1] * unused))
            counts.append([self.count / len(places)] * len(places) + [0.0] * unused)
        return (
            torch.from_numpy(np.stack(crops)),
            torch.tensor(index),
            torch.from_numpy(np.stack(faces)),
            torch.tensor(counts),
        )

    def landmarks(self, photo: int, flipped: bool) -> np.ndarray:
        """Where the five points are in a portrait, or in its mirror image: [5, 2] pixels."""
        size = self.portraits.size
        found = self.portraits.records[photo].landmarks
        matrix = similarity_transform(found, portrait_template(size))
        landmarks = found @ matrix[:, :2].T + matrix[:, 2]
        if flipped:
            landmarks = np.array([size - 1, 0]) + landmarks[[1, 0, 2, 4, 3]] * np.array([-1, 1])
        return landmarks

    def yaw(self, photo: int, flipped: bool) -> float:
        """Where the head looks in a portrait, or in its mirror image: radians (`turned_heads.yaw_angle`)."""
        return yaw_angle(self.landmarks(photo, flipped))
