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
from idadapter.data.turned_heads import (
    APPARENT,
    LARGEST_TURN,
    head_towards,
    mirrored_landmarks,
    turn_of_seed,
    turned_head,
    varied_turn,
    yaw_angle,
    yaw_offset_at,
)
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
    references = make_tiny_stage("idadapter", run).people.references
    rows = portraits.train[:6]
    for row in rows:
        # The mirror image looks to the other side.
        assert references.yaw(row, True) == pytest.approx(-references.yaw(row, False), abs=0.02)
        assert references.yaw(row, False) == pytest.approx(
            math.atan(yaw_offset(portraits.records[row].landmarks) / 0.6), abs=1e-6
        )

    def crops(turn: float) -> np.ndarray:
        itself, who = np.ones(len(rows), bool), np.zeros(len(rows), bool)
        references.single_share = 1.0
        return references(rows, who, np.random.default_rng(1), itself, np.full(len(rows), turn))[0].numpy()

    plain, turned, other = crops(0.0), crops(0.4), crops(-0.4)
    assert plain.shape == turned.shape
    for one, another in ((plain, turned), (plain, other), (turned, other)):
        assert all((a != b).any() for a, b in zip(one, another, strict=True))


def test_a_turn_never_leads_beyond_what_a_photo_shows():
    random = np.random.default_rng(3)
    for yaw, turn in random.uniform(-LARGEST_TURN, LARGEST_TURN, (200, 2)):
        taken = varied_turn(yaw, turn)
        assert abs(taken) == pytest.approx(abs(turn)) and abs(yaw + taken) <= LARGEST_TURN
        assert taken == turn or abs(yaw + turn) > LARGEST_TURN


def test_the_offset_of_a_yaw_is_that_yaws():
    for angle in (-0.6, 0.0, 0.3):
        landmarks = portrait_template(PORTRAIT_SIZE).copy()
        landmarks[2] = landmarks[:2].mean(0) + yaw_offset_at(angle) * (landmarks[1] - landmarks[0])
        assert yaw_angle(landmarks) == pytest.approx(angle)


def test_seeds_turn_to_both_sides_alike_and_neighbours_apart():
    turns = np.array([turn_of_seed(seed, 20.0) for seed in range(1000)])
    assert np.abs(turns).max() <= LARGEST_TURN + 1e-9 and abs(turns.mean()) < 1e-3
    # Of places on half a circle, drawn outwards: 2 / pi asin(0.5 ** 1.5) of them turn by less than half.
    assert np.mean(np.abs(turns) < LARGEST_TURN / 2) == pytest.approx(0.23, abs=0.01)
    apart = np.abs(np.diff(turns)) / LARGEST_TURN
    assert apart.min() > 0.45 and apart.mean() > 1.2
    assert turns[0] == 0


@pytest.mark.parametrize("side", [-1, 1])
def test_who_looks_far_to_the_other_side_is_mirrored_and_who_does_not_is_turned(
    side: int, locator: FaceLocator, portrait: tuple[np.ndarray, np.ndarray]
):
    picture, landmarks = portrait
    view = side * math.radians(20)
    near = head_towards(picture, landmarks, view)
    angle = (view - yaw_angle(landmarks)) / APPARENT
    np.testing.assert_array_equal(near, turned_head(picture, landmarks, angle))
    away = turned_head(picture, landmarks, (-view - yaw_angle(landmarks)) / APPARENT)
    [found, *_] = locator.locate(away)
    assert side * yaw_angle(found.points) < -math.radians(8)
    towards = head_towards(away, found.points, view)
    mirror = np.ascontiguousarray(away[:, ::-1]), mirrored_landmarks(found.points, len(away))
    np.testing.assert_array_equal(towards, head_towards(*mirror, view))
    [seen, *_] = locator.locate(towards)
    assert side * yaw_angle(seen.points) > math.radians(8)
