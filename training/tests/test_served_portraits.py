"""What the service serves, judged by a detector it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from idadapter.data.facts import read_facts
from idadapter.data.records import data_folder, read_records
from idadapter.evaluation.asks import plan_asks
from idadapter.evaluation.people import held_out_people, open_photos
from idadapter.evaluation.portraits import ask_for_portraits, usable_references
from idadapter.judges.face_finder import FaceFinder
from idadapter.service import REPOSITORY, running_service

PEOPLE = 40

needs_service = pytest.mark.skipif(
    not (REPOSITORY / "models" / "default" / "bundle.json").exists() or not (data_folder() / "evaluators").exists(),
    reason="needs models/default and the data folder's held-out photos and evaluators",
)


@needs_service
def test_a_face_is_found_in_95_percent_of_portraits_of_held_out_people() -> None:
    records = read_records(data_folder())
    facts = read_facts(records)
    first = [rows[0] for rows in held_out_people(records)[: 2 * PEOPLE]]
    photos = open_photos(data_folder(), records, facts, first)
    with running_service() as service:
        references, _ = usable_references(service, [photos[row] for row in first], PEOPLE)
        asks = [ask for ask in plan_asks([photo.facts for photo in references]) if ask.kind == "noun"]
        served = ask_for_portraits(service, references, asks)
        one, other = (photo.picture for photo in references[:2])
        alone, twice, mixed = (
            service.generate(photos, "man", "man", seed=1)[0].picture.astype(float)
            for photos in (one, [one, one], [one, other])
        )
    # A photo stands for all N references, whether it is sent once or twice (up to what 8 bits round).
    assert np.abs(twice - alone).mean() < 6 < np.abs(mixed - alone).mean()
    assert len(served) == PEOPLE
    finder = FaceFinder(data_folder() / "evaluators")
    assert np.sum([finder.find(one.portrait.picture) is not None for one in served]) >= 0.95 * PEOPLE
