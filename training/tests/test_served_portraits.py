"""What the service serves, judged by a detector it never saw."""

from __future__ import annotations

import numpy as np
import pytest

from idadapter.data.facts import read_facts
from idadapter.data.records import data_folder, read_records
from idadapter.evaluate import make_portraits
from idadapter.judges import FaceFinder
from idadapter.service import REPOSITORY, running_service

PEOPLE = 100

needs_service = pytest.mark.skipif(
    not (REPOSITORY / "models" / "default" / "bundle.json").exists() or not (data_folder() / "evaluators").exists(),
    reason="needs models/default and the data folder's held-out photos and evaluators",
)


@needs_service
def test_a_face_is_found_in_95_of_100_portraits_of_held_out_people() -> None:
    records = read_records(data_folder())
    finder = FaceFinder(data_folder() / "evaluators")
    with running_service() as service:
        made = make_portraits(service, records, read_facts(records), PEOPLE)
    assert len(made) == PEOPLE
    found = [finder.landmarks(portrait.picture) is not None for _, _, portrait in made]
    assert np.sum(found) >= 95
