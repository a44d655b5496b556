"""References beside their portraits, to be looked at: eyes come before figures."""

from __future__ import annotations

import cv2
import numpy as np

from .asks import KINDS
from .people import Photo
from .portraits import Served

PEOPLE_ON_SHEET, ACROSS = 24, 4
LABEL_HEIGHT, GAP = 14, 6
OTHERS_EACH = 4


def contact_sheet(references: list[Photo], served: list[Served], size: int) -> np.ndarray:
    """The first 24 people: reference, class noun, expression; then four pairs of every other kind. [H, W, 3] uint8.

    Args:
        references: one photo a person.
        served: every portrait.
        size: side of a portrait.
    """
    by_kind: dict[str, dict[int, Served]] = {kind.name: {} for kind in KINDS}
    for one in served:
        by_kind[one.ask.kind][one.ask.person] = one
    blocks = []
    for person, photo in enumerate(references[:PEOPLE_ON_SHEET]):
        shown = [by_kind[kind].get(person) for kind in ("noun", "expression")]
        blocks.append(_block(photo, shown, size))
    rows = _rows(blocks, ACROSS)
    for kind in KINDS[2:]:
        some = list(by_kind[kind.name].values())[:OTHERS_EACH]
        rows += _rows([_block(references[one.ask.person], [one], size) for one in some], OTHERS_EACH)
    width = max(row.shape[1] for row in rows)
    return np.concatenate([_widened(row, width) for row in rows], axis=0)


def _block(photo: Photo, portraits: list[Served | None], size: int) -> np.ndarray:
    """The reference and its portraits side by side, each with its prompt below."""
    cells = [_labelled(photo.portrait(size), "reference")]
    for one in portraits:
        blank = np.full((size, size, 3), 255, np.uint8)
        cells.append(_labelled(blank, "") if one is None else _labelled(one.portrait.picture, one.ask.prompt))
    block = np.concatenate(cells, axis=1)
    return cv2.copyMakeBorder(block, 0, GAP, 0, GAP, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def _labelled(picture: np.ndarray, label: str) -> np.ndarray:
    strip = np.full((LABEL_HEIGHT, picture.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, label, (2, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.3, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([picture, strip], axis=0)


def _rows(blocks: list[np.ndarray], across: int) -> list[np.ndarray]:
    return [np.concatenate(blocks[start : start + across], axis=1) for start in range(0, len(blocks), across)]


def _widened(row: np.ndarray, width: int) -> np.ndarray:
    return cv2.copyMakeBorder(row, 0, 0, 0, width - row.shape[1], cv2.BORDER_CONSTANT, value=(255, 255, 255))
