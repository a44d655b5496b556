"""The split by identity, and what is read of the data folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from drawn_faces import PEOPLE, PHOTOS_EACH, draw_face

from idadapter.data.alignment import align_face
from idadapter.data.embeddings import by_identity, clean_identities
from idadapter.data.facts import read_facts, yaw_offset
from idadapter.data.portraits import Portraits
from idadapter.data.records import (
    HELD_OUT_BY_ANOTHER_NAME,
    data_folder,
    held_out_identities,
    read_photos,
    read_records,
    training_identities,
)
from idadapter.data.templates import PORTRAIT_SIZE, PORTRAIT_TEMPLATE

needs_data = pytest.mark.skipif(
    not (data_folder() / "faces" / "faces.csv.gz").exists(), reason="IDADAPTER_DATA names no data folder"
)


def assert_no_leak(portraits: Portraits):
    train = {portraits.records[row].identity for row in portraits.train}
    held_out = {portraits.records[row].identity for row in portraits.held_out}
    assert train and held_out and not train & held_out
    assert sorted([*portraits.train, *portraits.held_out]) == list(range(len(portraits.records)))


def test_no_identity_is_on_both_sides(portraits: Portraits):
    assert_no_leak(portraits)


def test_every_twentieth_identity_is_held_out(portraits: Portraits):
    identities = sorted({record.identity for record in portraits.records})
    assert len(identities) == PEOPLE
    assert held_out_identities(portraits.records) == {identities[0], identities[20]}
    # Not the order of the file, and not the number of photos.
    assert held_out_identities(portraits.records[::-1]) == {identities[0], identities[20]}


@needs_data
def test_no_identity_is_on_both_sides_of_the_real_data_needs_the_data_folder():
    records = read_records(data_folder())
    held_out = held_out_identities(records)
    identities = {record.identity for record in records}
    assert len(held_out) == -(-len(identities) // 20)
    train = training_identities(records)
    assert len(train) == len(identities) - len(held_out) - len(HELD_OUT_BY_ANOTHER_NAME)
    assert not train & held_out
    for other_name, name in HELD_OUT_BY_ANOTHER_NAME.items():
        assert other_name in identities - train and name in held_out


def test_photos_are_aligned_in_the_records_order(portraits: Portraits, data: Path):
    assert len(portraits.records) == sum(PHOTOS_EACH[person % 3] for person in range(PEOPLE))
    for row, record in enumerate(portraits.records):
        person, photo = (int(number) for number in Path(record.file).stem.split("_")[1:])
        image, points, _ = draw_face(person, photo)
        np.testing.assert_allclose(record.landmarks, points, atol=0.06)
        expected = align_face(image, record.landmarks, PORTRAIT_TEMPLATE, PORTRAIT_SIZE)
        np.testing.assert_array_equal(portraits.photos[row], expected)


def test_only_the_wanted_photos_are_read(portraits: Portraits, data: Path):
    wanted = portraits.records[3:6]
    found = dict(read_photos(data, wanted))
    assert sorted(found) == [0, 1, 2]


def test_a_missing_data_folder_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="IDADAPTER_DATA"):
        read_records(tmp_path)


def test_facts_follow_the_labels(portraits: Portraits):
    for record, facts in zip(portraits.records, read_facts(portraits.records), strict=True):
        assert facts.noun == ("man" if record.attributes["Male"] else "woman")
        assert facts.smiling is bool(record.attributes["Smiling"])
        assert facts.glasses is bool(record.attributes["Eyeglasses"])
        assert facts.beard is not bool(record.attributes["No_Beard"])
        assert facts.yaw == yaw_offset(record.landmarks)


def test_view_is_that_of_the_picture():
    eyes, mouth = [[70.0, 80.0], [110.0, 80.0]], [[75.0, 120.0], [105.0, 120.0]]
    for nose, sign in ((75.0, -1), (105.0, 1)):
        assert np.sign(yaw_offset(np.array([*eyes, [nose, 100.0], *mouth]))) == sign


def test_mislabelled_photos_are_left_out():
    random = np.random.default_rng(0)

    def near(direction: np.ndarray) -> np.ndarray:
        found = direction + 0.1 * random.normal(size=(2, 16))
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    one, other = np.eye(16)[:2]
    embeddings = np.stack([near(one), near(one), near(one), near(-one), near(other)]).astype(np.float32)
    groups, means = clean_identities(embeddings, {0: np.arange(4), 1: np.array([4])})
    assert groups[0].tolist() == [0, 1, 2] and groups[1].tolist() == [4]
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 1, atol=1e-6)
    assert means[3] @ one > 0.9 and means[4] @ other > 0.9


def test_identities_are_numbered_completely(portraits: Portraits):
    identity, groups = by_identity(portraits)
    assert sorted(row for rows in groups.values() for row in rows) == list(range(len(portraits.records)))
    for number, rows in groups.items():
        assert len({portraits.records[row].identity for row in rows}) == 1
        assert (identity[rows] == number).all()
