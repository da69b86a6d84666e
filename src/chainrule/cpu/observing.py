"""A pass that adds the loops of observed values to stages that are complete, so that looking at values changes none of them.

The stages, their units and the order in which sums are added up were decided without these loops. A loop joins the stage that
makes the last of the values that it reads, behind all other calls, where its units can be cut as those of the stage are: so it
reads what is still in the cache. Where they cannot, it gets a stage of its own right behind. Stages of a single unit, which is
done call by call, are divided where a loop has to come in between. Loops of a single unit, which are small, come last of all,
as a stage of its own would make all threads wait, and so do kernels that combine the partial results of units.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from chainrule.compiler.tasks import Buffer, LoopTask
from chainrule.cpu.kernels.loops import loop_kernel
from chainrule.cpu.stages import PlannedCall, PlannedStage, Staging, copied


@dataclass
class _Place:
    """A stage, and what observes: stages ``within`` it, each with the number of calls before it, and those ``behind`` it."""

    stage: PlannedStage
    within: list[tuple[int, PlannedStage]] = field(default_factory=list)
    behind: list[PlannedStage] = field(default_factory=list)

    def pieces(self) -> list[PlannedStage]:
        """All of that in order."""
        made, begin = [], 0
        for upto, further in sorted(self.within, key=lambda one: one[0]):
            made += [replace(self.stage, calls=self.stage.calls[begin:upto]), further]
            begin = upto
        return [*made, replace(self.stage, calls=self.stage.calls[begin:]), *self.behind]


def with_observations(
    staging: Staging, tasks: Sequence[LoopTask], leaves: Collection[Buffer]
) -> tuple[list[PlannedStage], set[Buffer]]:
    """The stages of ``staging`` with ``tasks`` among them, and the buffers of observed values that could not be computed.

    That is so where a value is observed that is computed from the old value of a cell (one of ``leaves``) when it has been
    overwritten already.
    """
    places = [_Place(replace(stage, calls=list(stage.calls))) for stage in staging.stages]
    front, ends = _Place(PlannedStage(1)), PlannedStage(1)
    lost: set[Buffer] = set()
    loops = [task for task in copied(tasks) if isinstance(task, LoopTask)]
    finishing = {part.finish for task in loops for part in task.partials}
    for task in loops:
        if task in finishing:
            continue
        if not _put(staging, task, leaves, front, places, ends):
            lost |= task.writes | {part.finish.buffers[1] for part in task.partials}
            continue
        ends.calls += [_call(staging, part.finish) for part in task.partials]
    made = [piece for place in (front, *places) for piece in place.pieces()]
    for stage in (*made, ends):
        stage.calls.sort(key=lambda call: call.detail)  # so that a run of less detail does the first few of them
    return [stage for stage in (*made, ends) if stage.calls], lost


def _put(
    staging: Staging,
    task: LoopTask,
    leaves: Collection[Buffer],
    front: _Place,
    places: list[_Place],
    ends: PlannedStage,
) -> bool:
    """Add the call of ``task`` after all that it needs, and before what overwrites that; False if there is no such place."""
    reads, writes = {staging.same(one) for one in task.reads}, {staging.same(one) for one in task.writes}
    made = max((staging.last_written.get(staging.same(one), -1) for one in task.reads if one not in leaves), default=-1)
    old = {one for one in task.reads if one in leaves and one in staging.last_written}
    overwritten = min((staging.last_written[one] for one in old), default=len(places))
    if made > overwritten:
        return False
    if made == overwritten:
        calls = staging.stages[made].calls
        after = max(number for number, call in enumerate(calls) if call.writes & reads - old) + 1
        before = min(number for number, call in enumerate(calls) if call.writes & old)
        if staging.stages[made].units != 1 or task.nest.units != 1 or after > before:
            return False
        places[made].within.append((after, PlannedStage(1, [_call(staging, task)])))
        return True
    if not old and task.nest.units == 1:
        ends.calls.append(_call(staging, task))
        return True
    place = front if made < 0 else places[made]
    rows = None if made < 0 else staging.rows_to_join(task, staging.stages[made], reads, writes)
    if rows is None:
        place.behind.append(PlannedStage(task.nest.units, [_call(staging, task)]))
    else:
        task.divide(rows)
        place.stage.calls.append(_call(staging, task))
    return True


def _call(staging: Staging, task: LoopTask) -> PlannedCall:
    operands = tuple((staging.same(one), 0) for one in task.buffers)
    return PlannedCall(partial(loop_kernel, task.nest, staging.target), operands, task.writes, task.origin, task.detail)
