"""``AliveUnits``: the last step at which each unit was above 0, from the sums of each step."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from chainrule.train.diagnosis.alive_units import AliveUnits

F = np.float32


def test_units_of_several_layers_and_several_sums_each() -> None:
    like = [np.zeros((2, 3), F), np.zeros(3, F)]
    units = AliveUnits(like, None)
    assert repr(units) == "<AliveUnits: 5 units, 0 rows of sums to look at>"
    for step, (wide, narrow) in enumerate(
        [
            ([[0, 0, 2], [0, 0, 0]], [1, 0, 0]),
            ([[0, 0, 0], [0, 0, 0]], [0, 0, np.nan]),
            ([[0, 0, 0], [-0.0, 0, 1e-45]], [0, 0, np.inf]),
        ],
        start=1,
    ):
        units.begin()
        units.put(step, [np.array(wide, F).reshape(-1), np.array(narrow, F)])
        units.end()
    assert repr(units) == "<AliveUnits: 5 units, 3 rows of sums to look at>"
    assert units.last().tolist() == [1, 3, 1, 0, 3]


def test_a_step_that_is_left_out_does_not_count_and_parts_of_a_step_count_together() -> None:
    units = AliveUnits([np.zeros(2, F)], np.array([5, 6]))
    units.begin()
    units.put(7, [np.ones(2, F)])  # this step does not end
    units.begin()
    units.put(8, [np.array([1, 0], F)])
    units.put(8, [np.array([0, 0], F)])
    assert units.last().tolist() == [5, 6], "it has not ended yet"
    units.end()
    assert units.last().tolist() == [8, 6]
    assert units.last() is not None


@given(st.lists(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=150), max_size=20), st.data())
def test_as_a_plain_loop_does_it(steps: list[list[list[bool]]], data: st.DataObject) -> None:
    units, expected = AliveUnits([np.zeros(3, F)], None), np.zeros(3, np.int64)
    for step, parts in enumerate(steps, start=1):
        counts = data.draw(st.booleans())
        units.begin()
        for part in parts:
            units.put(step, [np.array(part, F)])
        if counts:
            units.end()
            expected[np.any(parts, 0)] = step
        if data.draw(st.booleans()):
            assert units.last().tolist() == expected.tolist()
    assert units.last().tolist() == expected.tolist()
