"""How predictions of several kinds are added up, and when by which scales."""

from __future__ import annotations

import pytest

from idadapter.guidance import GuidanceSchedule, guidance_rows


def test_what_counts_nothing_is_left_out():
    assert guidance_rows(1.0, None) == {"conditional": 1.0}
    assert guidance_rows(3.0, 3.0) == {"unconditional": -2.0, "conditional": 3.0}
    assert guidance_rows(4.0, 1.5) == {"unconditional": -3.0, "words": 2.5, "conditional": 1.5}
    assert guidance_rows(4.0, 0.0)["conditional"] == 0.0


def test_the_first_steps_have_scales_of_their_own():
    schedule = GuidanceSchedule(2.0, None, 4.0, 1.0, early_until=800.0)
    assert schedule.rows_at(999) == schedule.rows_at(800) == guidance_rows(4.0, 1.0)
    assert schedule.rows_at(799) == guidance_rows(2.0, None)
    assert schedule.kinds() == ["unconditional", "words", "conditional"]
    assert schedule.weights_at(799) == [-1.0, 0.0, 2.0]


@pytest.mark.parametrize("schedule", [GuidanceSchedule(3.0), GuidanceSchedule(3.0, 1.5)])
def test_without_scales_of_their_own_they_are_guided_as_the_others(schedule: GuidanceSchedule):
    assert schedule.rows_at(999) == schedule.rows_at(0)
    assert schedule.kinds() == list(schedule.rows_at(0))
