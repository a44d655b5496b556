"""All judges together, and what they say of one picture."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.records import FaceRecord
from .attributes import STYLES, open_attribute_judge
from .colours import hair_colour, skin_colour, skin_tone
from .expression import EXPRESSIONS, SMILING_ABOVE, ExpressionJudge
from .face_finder import FaceFinder
from .face_judge import FaceJudge
from .head_pose import HeadPose

TURNED_FROM = 8.0
"""Degrees of yaw from which a head counts as turned."""


@dataclass(frozen=True)
class Face:
    """What is known of a face that was found.

    Attributes:
        embedding: [128], unit length.
        realism: [640], the features realism is measured with.
        yaw, pitch: degrees; yaw is negative towards the picture's left.
        expression: one of `EXPRESSIONS`.
        smiling: whether it smiles.
        skin, hair: their colours, CIE 1976 L*, a*, b* [3] (`judges.colours`).
    """

    embedding: np.ndarray
    realism: np.ndarray
    yaw: float
    pitch: float
    expression: str
    smiling: bool
    skin: np.ndarray
    hair: np.ndarray

    @property
    def skin_tone(self) -> str:
        """One of `colours.SKIN_TONES`."""
        return skin_tone(self.skin)

    @property
    def view(self) -> str:
        """ "left" or "right" (of the picture) from `TURNED_FROM` degrees on, else "front"."""
        return "front" if abs(self.yaw) < TURNED_FROM else "left" if self.yaw < 0 else "right"


@dataclass(frozen=True)
class Verdict:
    """What the judges say of one picture: its face, or None where none was found, and what the whole picture shows.

    Attributes:
        face: of the picture.
        glasses, hat: whether they are there.
        style: one of `STYLES`.
    """

    face: Face | None
    glasses: bool
    hat: bool
    style: str


class Panel:
    """All judges."""

    def __init__(self, data: Path, cache: Path, records: list[FaceRecord]) -> None:
        """Opens the judges of `data/evaluators`, face-api's expressions, and the attribute judge in the cache.

        Args:
            data: folder that holds `faces/` and `evaluators/`.
            cache: folder of derived data.
            records: every photo.
        """
        evaluators = data / "evaluators"
        self.finder, self.recognizer = FaceFinder(evaluators), FaceJudge(evaluators)
        self.pose, self.expression = HeadPose(evaluators), ExpressionJudge()
        self.attributes = open_attribute_judge(cache, data, records, self.recognizer)

    def judge(self, picture: np.ndarray) -> Verdict:
        """Judges one portrait, [h, w, 3] uint8 RGB, square, the face about where portraits have it."""
        features = self.recognizer.portrait_features(picture)[None]
        found = self.finder.find(picture)
        face = None
        if found is not None:
            embedding, realism = self.recognizer.run(picture, found.landmarks)
            yaw, pitch, _ = self.pose.angles(picture, found.box)
            classes = self.expression.probabilities(picture, found.landmarks)
            face = Face(
                embedding,
                realism,
                float(yaw),
                float(pitch),
                EXPRESSIONS[int(classes.argmax())],
                bool(classes[EXPRESSIONS.index("happy")] > SMILING_ABOVE),
                skin_colour(picture, found.landmarks),
                hair_colour(picture, found.landmarks),
            )
        return Verdict(
            face,
            bool(self.attributes.glasses.probabilities(features)[0, 1] > 0.5),
            bool(self.attributes.hat.probabilities(features)[0, 1] > 0.5),
            STYLES[int(self.attributes.style.probabilities(features)[0].argmax())],
        )
