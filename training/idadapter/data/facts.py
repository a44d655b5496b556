"""What is known of a photo, out of labels of very different quality."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .records import FaceRecord

# LFW's attributes are badly calibrated classifier probabilities: a photo has the attribute when it lies above the upper
# quantile of its own archive, lacks it below the lower one, and nothing is said between.
LFW_QUANTILES = {
    "Black_Hair": (0.50, 0.85),
    "Blond_Hair": (0.80, 0.95),
    "Brown_Hair": (0.50, 0.85),
    "Gray_Hair": (0.70, 0.88),
    "Bald": (0.85, 0.95),
    "Wearing_Hat": (0.85, 0.96),
    "Chubby": (0.60, 0.90),
    "Wearing_Necktie": (0.40, 0.75),
    "Wearing_Lipstick": (0.70, 0.86),
    "Bangs": (0.70, 0.93),
    "Wavy_Hair": (0.60, 0.90),
}
LFW_PROBABILITIES = {
    "Male": (0.5, 0.5),
    "Smiling": (0.3, 0.6),
    "Eyeglasses": (0.2, 0.6),
    "No_Beard": (0.4, 0.7),
    "Mustache": (0.1, 0.5),
    "Goatee": (0.1, 0.5),
    "Mouth_Slightly_Open": (0.3, 0.6),
}
CELEBA_ONLY = ("Young", "Rosy_Cheeks", "Heavy_Makeup")

HAIR = {"Black_Hair": "black", "Blond_Hair": "blond", "Brown_Hair": "brown", "Gray_Hair": "grey"}


@dataclass(frozen=True)
class Facts:
    """Facts of one photo; None where the labels do not tell.

    Attributes:
        noun: "man" or "woman".
        smiling: whether the mouth smiles.
        mouth_open: whether the lips are apart.
        emotion: "angry", "sad", "afraid", "surprised", "disgusted", or None.
        hair: "black", "blond", "brown" or "grey".
        bald: no hair on the head.
        fringe: hair over the forehead.
        wavy: wavy hair.
        beard: a beard of any kind.
        mustache: a mustache.
        goatee: a goatee.
        glasses: eyeglasses.
        hat: a hat or cap.
        tie: a necktie.
        lipstick: lipstick.
        chubby: a full face.
        age: "young", "old" or None.
        yaw: the nose's offset from the middle of the eyes over their distance; negative towards the picture's left.
    """

    noun: str
    smiling: bool | None
    mouth_open: bool | None
    emotion: str | None
    hair: str | None
    bald: bool | None
    fringe: bool | None
    wavy: bool | None
    beard: bool | None
    mustache: bool | None
    goatee: bool | None
    glasses: bool | None
    hat: bool | None
    tie: bool | None
    lipstick: bool | None
    chubby: bool | None
    age: str | None
    yaw: float

    @property
    def view(self) -> str | None:
        """ "left", "right" (of the picture), "front", or None where it is hard to say."""
        if abs(self.yaw) < 0.06:
            return "front"
        if abs(self.yaw) < 0.13:
            return None
        return "left" if self.yaw < 0 else "right"


def yaw_offset(landmarks: np.ndarray) -> float:
    """The nose's sideways offset from the middle of the eyes, over the eyes' distance; about -0.6 to 0.6.

    Args:
        landmarks: [5, 2] right eye, left eye, nose, mouth corners.
    """
    across = landmarks[1] - landmarks[0]
    return float((landmarks[2] - landmarks[:2].mean(0)) @ across / (across @ across))


def read_facts(records: list[FaceRecord]) -> list[Facts]:
    """Facts of every record, thresholds of LFW's probabilities taken over the whole archive."""
    lfw = [record for record in records if record.file.startswith("lfw")]
    limits = dict(LFW_PROBABILITIES)
    for name, (low, high) in LFW_QUANTILES.items():
        values = [record.attributes[name] for record in lfw if name in record.attributes]
        limits[name] = tuple(np.quantile(values, [low, high])) if values else (0.5, 0.5)
    return [_facts(record, limits) for record in records]


def _facts(record: FaceRecord, limits: dict[str, tuple[float, float]]) -> Facts:
    is_lfw = record.file.startswith("lfw")

    def known(name: str) -> bool | None:
        value = record.attributes.get(name)
        if value is None or (is_lfw and name in CELEBA_ONLY):
            return None
        low, high = limits.get(name, (0.5, 0.5)) if is_lfw else (0.5, 0.5)
        if value >= high:
            return True
        return False if value <= low else None

    beardless = known("No_Beard")
    mustache, goatee, bald = known("Mustache"), known("Goatee"), known("Bald")
    hair = [word for name, word in HAIR.items() if known(name)]
    emotions = {"angry": "angry", "sad": "sad", "fear": "afraid", "surprise": "surprised", "disgust": "disgusted"}
    if is_lfw:
        age = None if record.age is None else "young" if record.age < 25 else "old" if record.age > 52 else None
    else:
        age = None if known("Young") else "old"
    return Facts(
        noun="man" if record.attributes.get("Male", 0.0) >= 0.5 else "woman",
        smiling=known("Smiling"),
        mouth_open=known("Mouth_Slightly_Open"),
        emotion=emotions.get(record.emotion),
        hair=hair[0] if len(hair) == 1 else None,
        bald=bald,
        fringe=None if bald else known("Bangs"),
        wavy=None if bald else known("Wavy_Hair"),
        # Labels disagree now and then; a face with a mustache is not clean-shaven.
        beard=None if beardless is None or (beardless and (mustache or goatee)) else not beardless,
        mustache=mustache,
        goatee=goatee,
        glasses=known("Eyeglasses"),
        hat=known("Wearing_Hat"),
        tie=known("Wearing_Necktie"),
        lipstick=known("Wearing_Lipstick"),
        chubby=known("Chubby"),
        age=age,
        yaw=yaw_offset(record.landmarks),
    )
