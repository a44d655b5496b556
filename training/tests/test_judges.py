"""The judges: face-api's expressions, realism, attributes, skin tone, and those of the data folder on real photos."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from idadapter.data.alignment import similarity_transform
from idadapter.data.facts import read_facts
from idadapter.data.records import (
    HELD_OUT_BY_ANOTHER_NAME,
    FaceRecord,
    data_folder,
    held_out_identities,
    read_photos,
    read_records,
)
from idadapter.data.templates import PORTRAIT_SIZE, PORTRAIT_TEMPLATE, portrait_template
from idadapter.data.turned_heads import APPARENT, turned_head
from idadapter.evaluation.people import held_out_people, open_photos
from idadapter.faces.locate import FaceLocator
from idadapter.judges import attributes
from idadapter.judges.attributes import attribute_judge_key, fit, train_attribute_judge
from idadapter.judges.colours import hair_colour, skin_colour, skin_tone
from idadapter.judges.expression import EXPRESSIONS, SMILING_ABOVE, ExpressionClassifier, ExpressionJudge, face_square
from idadapter.judges.face_finder import FaceFinder
from idadapter.judges.head_pose import HeadPose
from idadapter.judges.realism import kernel_distance, kernel_distance_interval

FACE = Path(__file__).resolve().parents[2] / "tests" / "fixtures" / "face.png"
EVALUATORS = data_folder() / "evaluators"
needs_evaluators = pytest.mark.skipif(not EVALUATORS.exists(), reason="needs the data folder's photos and evaluators")


def test_the_astronaut_smiles():
    photo = cv2.cvtColor(cv2.imread(str(FACE)), cv2.COLOR_BGR2RGB)
    [face] = FaceLocator().locate(photo)
    probabilities = ExpressionJudge().probabilities(photo, face.points)
    assert probabilities.shape == (len(EXPRESSIONS),)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities[EXPRESSIONS.index("happy")] > SMILING_ABOVE


def test_expressions_are_probabilities_of_each_face():
    faces = torch.rand(3, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    model = ExpressionClassifier.from_package()
    together = model(faces)
    assert together.shape == (3, 7)
    torch.testing.assert_close(together[1:2], model(faces[1:2]))
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_a_turned_head_keeps_its_size():
    turned = (PORTRAIT_TEMPLATE - 64) * [0.6, 1] + 64
    assert face_square(turned)[1] == pytest.approx(face_square(PORTRAIT_TEMPLATE)[1], rel=0.12)


def test_kernel_distance_is_zero_among_equals_and_grows_with_the_difference():
    random = np.random.default_rng(0)
    real, again = random.normal(size=(300, 40)), random.normal(size=(300, 40))
    distances = [kernel_distance(real, again + shift) for shift in (0, 0.5, 1)]
    assert abs(distances[0]) < 0.02 < distances[1] < distances[2]
    # Scale and place of the features do not matter.
    assert kernel_distance(real * 5 + 3, (again + 1) * 5 + 3) == pytest.approx(distances[2], rel=1e-3)
    low, high = kernel_distance_interval(real, again + 0.5)
    assert low < distances[1] < high and high - low < distances[1]


def test_many_pictures_of_few_people_do_not_make_the_kernel_distance_surer():
    random = np.random.default_rng(0)
    real, people = random.normal(size=(300, 40)), random.normal(size=(60, 40)) + 0.5

    def width(*arguments) -> float:
        low, high = kernel_distance_interval(real, *arguments)
        return high - low

    made = np.repeat(people, 5, axis=0) + 0.01 * random.normal(size=(300, 40))
    of_people = width(made, np.repeat(np.arange(60), 5))
    assert of_people == pytest.approx(width(people), rel=0.4)
    assert of_people > 1.5 * width(made)


def test_a_linear_classifier_learns_rare_classes_too():
    random = np.random.default_rng(0)
    labels = random.choice(3, 600, p=[0.85, 0.1, 0.05])
    features = random.normal(size=(600, 12)).astype(np.float32)
    features[np.arange(600), labels] += 4
    classifier = fit(features[:400], labels[:400], classes=3)
    found = classifier.probabilities(features[400:])
    assert found.sum(1) == pytest.approx(1)
    for k in range(3):
        assert (found.argmax(1) == k)[labels[400:] == k].mean() > 0.7, k
    assert np.array_equal(found, fit(features[:400], labels[:400], classes=3).probabilities(features[400:]))


def test_the_kept_judge_is_named_by_what_it_is_trained_on(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    records = read_records(data)
    recognizer = tmp_path / "evaluators" / "mobilefacenet.onnx"
    recognizer.parent.mkdir()
    recognizer.write_bytes(b"one")
    keys = [attribute_judge_key(tmp_path, records)]
    assert attribute_judge_key(tmp_path, read_records(data)) == keys[0]
    glasses = 1 - records[0].attributes["Eyeglasses"]
    relabelled = replace(records[0], attributes={**records[0].attributes, "Eyeglasses": glasses})
    moved = replace(records[0], landmarks=records[0].landmarks + 1)
    keys += [attribute_judge_key(tmp_path, [changed, *records[1:]]) for changed in (relabelled, moved)]
    # Hair is none of its business.
    other = replace(records[0], attributes={**records[0].attributes, "Black_Hair": 0.5})
    assert attribute_judge_key(tmp_path, [other, *records[1:]]) == keys[0]
    recognizer.write_bytes(b"another")
    keys.append(attribute_judge_key(tmp_path, records))
    recognizer.write_bytes(b"one")
    code = tmp_path / "renditions.py"
    code.write_bytes(Path(attributes.renditions.__file__).read_bytes() + b"\n")
    monkeypatch.setattr(attributes.renditions, "__file__", str(code))
    keys.append(attribute_judge_key(tmp_path, records))
    assert len(set(keys)) == len(keys)


def test_a_held_out_person_by_another_name_teaches_no_judge(data: Path, monkeypatch: pytest.MonkeyPatch):
    records = [
        replace(record, attributes={**record.attributes, "Wearing_Hat": float(index % 2)})
        for index, record in enumerate(read_records(data))
    ]
    another = next(record.identity for record in records if record.identity not in held_out_identities(records))

    def identities_read() -> list[str]:
        asked: list[str] = []

        def noted(folder: Path, some: list[FaceRecord]) -> Iterator[tuple[int, np.ndarray]]:
            asked.extend(record.identity for record in some)
            return read_photos(folder, some)

        monkeypatch.setattr(attributes, "read_photos", noted)
        train_attribute_judge(data, records, lambda portrait: portrait.mean((0, 1), dtype=np.float32))
        return asked

    before = identities_read()
    monkeypatch.setitem(HELD_OUT_BY_ANOTHER_NAME, another, "somebody held out")
    assert identities_read() == [identity for identity in before if identity != another] != before


@pytest.mark.parametrize(
    ("colour", "tone"), [((90, 60, 45), "dark"), ((190, 140, 110), "medium"), ((240, 205, 185), "light")]
)
def test_skin_tone_is_that_of_the_cheeks(colour: tuple[int, int, int], tone: str):
    portrait = np.zeros((PORTRAIT_SIZE, PORTRAIT_SIZE, 3), np.uint8)
    portrait[58:96] = colour
    assert skin_tone(skin_colour(portrait, PORTRAIT_TEMPLATE)) == tone


def test_hair_is_above_the_forehead_however_the_head_is_tilted():
    portrait = np.zeros((PORTRAIT_SIZE, PORTRAIT_SIZE, 3), np.uint8)
    portrait[:, :] = (200, 30, 30)
    portrait[:16] = (30, 60, 160)
    lab = hair_colour(portrait, PORTRAIT_TEMPLATE)
    blue = cv2.cvtColor(np.full((1, 1, 3), (30, 60, 160), np.float32) / 255, cv2.COLOR_RGB2LAB)[0, 0]
    assert lab == pytest.approx(blue, abs=0.5)
    middle = (PORTRAIT_SIZE - 1) / 2
    tilt = cv2.getRotationMatrix2D((middle, middle), 20, 1)
    tilted = cv2.warpAffine(portrait, tilt, (PORTRAIT_SIZE, PORTRAIT_SIZE), borderMode=cv2.BORDER_REPLICATE)
    landmarks = PORTRAIT_TEMPLATE @ tilt[:, :2].T + tilt[:, 2]
    assert hair_colour(tilted, landmarks) == pytest.approx(blue, abs=0.5)
    # A face that fills the picture: the forehead's edge is all there is.
    high = PORTRAIT_TEMPLATE - [0, 30]
    assert hair_colour(portrait, high) == pytest.approx(blue, abs=0.5)


@needs_evaluators
def test_heads_of_real_photos_are_turned_where_their_labels_say():
    records = read_records(data_folder())
    facts = read_facts(records)
    rows = [row for rows in held_out_people(records) for row in rows if facts[row].view in ("left", "right")][:30]
    finder, pose, right = FaceFinder(EVALUATORS), HeadPose(EVALUATORS), []
    for photo in open_photos(data_folder(), records, facts, rows).values():
        portrait = photo.portrait(PORTRAIT_SIZE)
        found = finder.find(portrait)
        assert found is not None
        yaw, pitch, _ = pose.angles(portrait, found.box)
        assert abs(yaw) < 90 and abs(pitch) < 60
        right.append((yaw < 0) == (photo.facts.view == "left"))
    assert len(right) == 30 and np.mean(right) > 0.9


@needs_evaluators
def test_turned_photos_look_as_far_turned_as_their_turn_promises():
    records = read_records(data_folder())
    facts = read_facts(records)
    rows = [row for rows in held_out_people(records) for row in rows if facts[row].view == "front"][:30]
    finder, pose = FaceFinder(EVALUATORS), HeadPose(EVALUATORS)

    def yaw(portrait: np.ndarray) -> float:
        found = finder.find(portrait)
        assert found is not None
        return pose.angles(portrait, found.box)[0]

    apparent = []
    for photo in open_photos(data_folder(), records, facts, rows).values():
        portrait, template = photo.portrait(PORTRAIT_SIZE), portrait_template(PORTRAIT_SIZE)
        matrix = similarity_transform(photo.record.landmarks, template)
        landmarks = photo.record.landmarks @ matrix[:, :2].T + matrix[:, 2]
        left, right = (turned_head(portrait, landmarks, math.radians(degrees)) for degrees in (-20, 20))
        apparent.append((yaw(right) - yaw(left)) / 40)
    assert len(apparent) == 30 and np.mean(apparent) == pytest.approx(APPARENT, abs=0.06)
