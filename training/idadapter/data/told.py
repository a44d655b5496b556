"""What a caption tells of a photo, as numbers that can be compared with a picture."""

from __future__ import annotations

import re

import numpy as np

from .captions import DRAWING_WORDS, EMOTIONS, LAUGHING, NEUTRAL, NO, NOT_SMILING, SMILING, VIEWS, YES
from .facts import Facts

YES_OR_NO = ("smiling", "mouth_open", "glasses", "hat", "beard")
"""Facts that hold or do not."""

TOLD = (*YES_OR_NO, "yaw")
"""What is read from captions, in the order of every vector here. Yaw is `Facts.yaw`, a number."""

_WORDS = {
    "smiling": (*SMILING, *LAUGHING, *NOT_SMILING, *(word for words in EMOTIONS.values() for word in words)),
    "mouth_open": (*YES["mouth_open"], *NO["mouth_open"], *LAUGHING),
    **{name: (*YES[name], *NO[name]) for name in ("glasses", "hat", "beard")},
    "yaw": (*(word for words in VIEWS.values() for word in words), "side view", "profile view"),
}


def fact_values(facts: Facts) -> np.ndarray:
    """The facts of a photo as it is shown: [6] in the order of `TOLD`, 0 or 1, the yaw, NaN where nothing is known."""
    values = [getattr(facts, name) for name in YES_OR_NO]
    return np.array([*(np.nan if value is None else float(value) for value in values), facts.yaw], np.float32)


def told_values(caption: str, facts: Facts) -> np.ndarray:
    """The same, NaN where the caption does not tell.

    Args:
        caption: a true one of the photo (`captions.caption`).
        facts: of the photo as it is shown.
    """
    told = [any(word in caption for word in _WORDS[name]) for name in TOLD]
    return np.where(told, fact_values(facts), np.nan).astype(np.float32)


def tells_expression(caption: str) -> bool:
    """Whether a caption says what the mouth does: an emotion, a smile or none, open or closed."""
    return any(word in caption for name in ("smiling", "mouth_open") for word in _WORDS[name])


def tells_hat(caption: str) -> bool:
    """Whether a caption says that there is a hat, or none."""
    return any(word in caption for word in _WORDS["hat"])


def words_of(prompt: str) -> set[str]:
    """The words of a prompt, in small letters, as the service reads them (`wordsOf` of pipeline/prompt.ts)."""
    return set(words_in_order(prompt))


def words_in_order(prompt: str) -> list[str]:
    """See `words_of`."""
    return re.findall(r"[^\W\d_]+", prompt.lower())


def tells_drawing(prompt: str) -> bool:
    """Whether a prompt asks for a drawing or a painting rather than a photo (`captions.DRAWING_WORDS`)."""
    return not words_of(prompt).isdisjoint(DRAWING_WORDS)


def told_emotion(caption: str, facts: Facts) -> str | None:
    """The emotion that a caption tells: one of `EMOTIONS`, "smiling", "neutral", or None where it tells none of these.

    Args:
        caption: a true one of the photo (`captions.caption`).
        facts: of the photo as it is shown.
    """
    if facts.smiling:
        return "smiling" if any(word in caption for word in (*SMILING, *LAUGHING)) else None
    if facts.emotion:
        return facts.emotion if any(word in caption for word in EMOTIONS[facts.emotion]) else None
    return "neutral" if facts.smiling is False and any(word in caption for word in NEUTRAL) else None


def told_view(prompt: str, words: dict[str, list[str]]) -> str | None:
    """Where a prompt says that the person looks (`toldView` of pipeline/prompt.ts).

    Args:
        prompt: the caller's.
        words: `view_words` of the bundle.

    Returns:
        "left", "right", "other", or None where it does not.
    """
    every, sided = words_in_order(prompt), words.get("sided", [])
    told = {word for word, after in zip(every, [*every, ""][1:], strict=True) if after not in sided}
    views = {view for view in ("left", "right", "other") if not told.isdisjoint(words.get(view, []))}
    sides = views & {"left", "right"}
    return sides.pop() if len(sides) == 1 else "other" if views else None
