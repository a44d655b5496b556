"""Art renditions: the face stays whole, they look like what they are called, and nothing in them is by chance."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from idadapter.data.alignment import align_face
from idadapter.data.renditions import RENDITIONS, render
from idadapter.data.templates import portrait_template
from idadapter.faces.locate import FaceLocator

FACE = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "face.png"


@pytest.fixture(scope="module", params=[128, 256])
def portrait(request: pytest.FixtureRequest) -> np.ndarray:
    """The astronaut as an aligned portrait, 128 or 256 pixels a side."""
    photo = cv2.cvtColor(cv2.imread(str(FACE)), cv2.COLOR_BGR2RGB)
    [face] = FaceLocator().locate(photo)
    return align_face(photo, face.points, portrait_template(request.param), request.param)


def grey(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(float)


def eyes(picture: np.ndarray) -> list[np.ndarray]:
    """Both eyes of an aligned portrait, in grey."""
    size = len(picture)
    right, left = portrait_template(size)[:2].round().astype(int)
    high, wide = round(0.05 * size), round(0.07 * size)
    return [grey(picture)[y - high : y + high + 1, x - wide : x + wide + 1] for x, y in (right, left)]


@pytest.mark.parametrize("rendition", RENDITIONS)
def test_eyes_are_still_eyes(portrait: np.ndarray, rendition: str):
    drawn = render(portrait, rendition)
    assert drawn.shape == portrait.shape and drawn.dtype == np.uint8
    # At 128 pixels the oil filter of the first sixteen sessions had 0.70 here.
    for eye, of_photo in zip(eyes(drawn), eyes(portrait), strict=True):
        assert np.corrcoef(eye.ravel(), of_photo.ravel())[0, 1] > 0.85
        assert eye.std() > 0.85 * of_photo.std()
    assert np.array_equal(render(portrait, rendition), drawn)


def test_each_looks_like_what_it_is_called(portrait: np.ndarray):
    drawn = {rendition: render(portrait, rendition).astype(float) for rendition in RENDITIONS}
    for rendition in ("pencil_sketch", "black_and_white"):
        assert (drawn[rendition].max(2) == drawn[rendition].min(2)).all()
    # Paper is white; an oil painting is about as light as its photo, and warmer; a cartoon is no darker.
    assert np.median(drawn["pencil_sketch"]) > 200
    photo = portrait.astype(float)
    assert drawn["oil_painting"].mean() == pytest.approx(photo.mean(), rel=0.1)
    warmth = [picture[..., 0].mean() - picture[..., 2].mean() for picture in (drawn["oil_painting"], photo)]
    assert warmth[0] > warmth[1] + 5
    assert drawn["cartoon"].mean() > 0.95 * photo.mean()
    # Flat tones: far fewer pixels differ from their neighbours by a little.
    little = [(np.abs(np.diff(one.mean(2), axis=1)) < 1).mean() for one in (drawn["cartoon"], photo)]
    assert little[0] > 1.3 * little[1]


def test_ridges_of_a_brush_are_left_on_even_ground():
    even = np.full((128, 128, 3), 128, np.uint8)
    painted = render(even, "oil_painting").astype(float)
    assert 1 < painted.std((0, 1)).max() < 12
    for other in ("cartoon", "black_and_white"):
        assert render(even, other).std((0, 1)).max() < 1
