"""A photo's head turned: the landmarks that networks find there move as a head's do, and nothing else is invented."""

from __future__ import annotations

import math

import numpy as np
import pytest

from idadapter.calibration import SAMPLE_PHOTO
from idadapter.config import Config
from idadapter.data.alignment import align_face, similarity_transform
from idadapter.data.facts import yaw_offset
from idadapter.data.portraits import Portraits
from idadapter.data.templates import PORTRAIT_SIZE, portrait_template
from idadapter.data.turned_heads import LARGEST_TURN, turned_head, yaw_angle
from idadapter.faces.locate import FaceLocator
from idadapter.fixture_reference import read_photo


@pytest.fixture(scope="module")
def locator() -> FaceLocator:
    return FaceLocator()


@pytest.fixture(scope="module")
def portrait(locator: FaceLocator) -> tuple[np.ndarray, np.ndarray]:
    """The sample photo's portrait and its landmarks there."""
    photo = read_photo(SAMPLE_PHOTO)
    points = locator.locate(photo)[0].points
    matrix = similarity_transform(points, portrait_template(PORTRAIT_SIZE))
    picture = align_face(photo, points, portrait_template(PORTRAIT_SIZE), PORTRAIT_SIZE)
    return picture, points @ matrix[:, :2].T + matrix[:, 2]


def flipped(points: np.ndarray) -> np.ndarray:
    return points[[1, 0, 2, 4, 3]] * [-1, 1] + [PORTRAIT_SIZE - 1, 0]


@pytest.mark.parametrize("degrees", [-25, -12, 12, 25])
def test_the_landmarks_found_look_where_the_head_was_turned_and_stand_at_the_template(
    portrait: tuple[np.ndarray, np.ndarray], locator: FaceLocator, degrees: float
):
    picture, landmarks = portrait
    found = locator.locate(turned_head(picture, landmarks, math.radians(degrees)))[0].points
    before = locator.locate(picture)[0].points
    turned = math.degrees(yaw_angle(found) - yaw_angle(before))
    # The network's landmarks, and a mean head's depth: right in sign and size, not to the degree.
    assert turned * np.sign(degrees) > 0.4 * abs(degrees) and abs(turned) < 1.8 * abs(degrees)
    # As any other photo of such a view would stand: as near to the template as a similarity brings these points.
    matrix = similarity_transform(found, portrait_template(PORTRAIT_SIZE))
    scale = math.hypot(matrix[0, 0], matrix[1, 0])
    assert abs(scale - 1) < 0.08 and np.abs(matrix @ [63.5, 75, 1] - [63.5, 75]).max() < 3


def test_a_head_that_is_not_turned_stays_as_it_is(portrait: tuple[np.ndarray, np.ndarray]):
    picture, landmarks = portrait
    same = turned_head(picture, landmarks, 0.0).astype(int)
    inside = np.s_[8:-8, 8:-8]
    # But for the similarity that brings its landmarks onto the template again, a fraction of a pixel.
    assert np.abs(same[inside] - picture[inside]).mean() < 2


def test_turning_the_mirror_image_is_the_mirror_image_of_turning(portrait: tuple[np.ndarray, np.ndarray]):
    picture, landmarks = portrait
    mirrored = turned_head(picture[:, ::-1].copy(), flipped(landmarks), -0.4)[:, ::-1].astype(int)
    same, other = (np.abs(mirrored - turned_head(picture, landmarks, angle)).mean() for angle in (0.4, -0.4))
    # Not to the last level: ArcFace's template is not quite symmetric.
    assert same < 0.2 * other


def test_no_more_is_turned_than_a_photo_can_show(portrait: tuple[np.ndarray, np.ndarray]):
    picture, landmarks = portrait
    farthest = turned_head(picture, landmarks, LARGEST_TURN)
    assert np.array_equal(turned_head(picture, landmarks, 3.0), farthest)


def test_a_turned_reference_is_the_photo_itself_with_the_head_elsewhere(
    config: Config, portraits: Portraits, make_tiny_stage, run
):
    references = make_tiny_stage("idadapter", run).references
    rows, random = portraits.train[:6], np.random.default_rng(0)
    angles = []
    for row in rows:
        image = np.ascontiguousarray(portraits.photos[row])
        for mirror in (False, True):
            shown = image[:, ::-1].copy() if mirror else image
            other = references.looking_elsewhere(shown, row, mirror, random)
            assert other.shape == shown.shape
            angles.append(np.abs(other.astype(int) - shown).mean())
    assert min(angles) > 0.3 and max(angles) < 60

    def crops(turned: bool) -> np.ndarray:
        itself, who = np.ones(len(rows), bool), np.zeros(len(rows), bool)
        references.single_share = 1.0
        return references(rows, who, np.random.default_rng(1), itself, np.full(len(rows), turned))[0].numpy()

    plain, turned = crops(False), crops(True)
    assert plain.shape == turned.shape and all((a != b).any() for a, b in zip(plain, turned, strict=True))
    assert abs(yaw_offset(portraits.records[rows[0]].landmarks)) < 1
