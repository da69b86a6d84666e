"""What must run before what, against the same relation as sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compiler.precedence import Precedence


class _Sets:
    """The relation as a set for each thing."""

    def __init__(self, count: int) -> None:
        self.before: list[set[int]] = [set() for _ in range(count)]

    def put_after(self, later: int, earlier: set[int]) -> None:
        self._gain(later, earlier.union(*(self.before[one] for one in earlier)))

    def merge(self, number: int, target: int) -> None:
        self._gain(target, self.before[number] - {target})

    def _gain(self, number: int, gained: set[int]) -> None:
        for later, before in enumerate(self.before):
            if later == number or number in before:
                before |= gained

    def ordered(self, numbers: list[int]) -> list[int]:
        order: list[int] = []
        waiting = numbers
        while waiting:
            rest = []
            for number in waiting:
                if self.before[number] & set(numbers) - set(order):
                    rest.append(number)
                else:
                    order.append(number)
            waiting = rest
        return order


@given(st.data())
def test_it_is_the_relation_as_sets(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 40))
    made, right = Precedence(count), _Sets(count)
    alive = list(range(count))
    for number in range(count):
        free = [one for one in alive if one != number and number not in right.before[one]]
        for one in (number, data.draw(st.sampled_from(alive))):  # also for something that others run after already
            earlier = set(data.draw(st.lists(st.sampled_from(free), max_size=4))) if free else set()
            earlier = {each for each in earlier if each != one and one not in right.before[each]}
            made.put_after(one, earlier)
            right.put_after(one, earlier)
        fit = [
            one
            for one in alive
            if one < number
            and number in alive
            and not any(number in before for before in right.before)
            and not any(one in right.before[each] for each in right.before[number] - {one})
        ]
        if fit and data.draw(st.booleans()):
            target = data.draw(st.sampled_from(fit))
            made.merge(number, target)
            right.merge(number, target)
            alive.remove(number)
    for later in alive:
        assert {earlier for earlier in range(count) if made.precedes(earlier, later)} == right.before[later]
    assert made.ordered(alive) == right.ordered(alive)


def test_things_that_wait_for_each_other_are_a_bug() -> None:
    made = Precedence(2)
    made.put_after(0, [1])
    made.put_after(1, [0])
    with pytest.raises(AssertionError, match="wait for each other"):
        made.ordered([0, 1])


def test_nothing_is_in_order() -> None:
    assert Precedence(0).ordered([]) == []
