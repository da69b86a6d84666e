"""Pass: in which order tasks run, and which new values of cells are written straight over the old ones.

A cell's new value may take the place of the old one if every task that reads the old one can run before the task that
writes the new one. Where two readings wait for each other, the new value is made elsewhere and copied at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.compiler.nest import Access, Instruction, Nest, Store
from chainrule.compiler.tasks import Buffer, LoopTask, Lowered, Task


@dataclass
class Schedule:
    """Tasks in order; ``takes_over`` says which new buffer lies where which old one lies."""

    tasks: list[Task]
    takes_over: dict[Buffer, Buffer]


def schedule(lowered: Lowered, state: Sequence[tuple[Buffer, Buffer]]) -> Schedule:
    """``state``: per cell that is assigned, the buffer of its old value and that of the new one."""
    tasks = list(lowered.tasks)
    writer: dict[Buffer, list[int]] = {}
    readers: dict[Buffer, list[int]] = {}
    before = [0] * len(tasks)
    for number, task in enumerate(tasks):
        for one in task.reads:
            readers.setdefault(one, []).append(number)
            for earlier in writer.get(one, ()):
                before[number] |= before[earlier] | 1 << earlier
        for one in task.writes:
            for earlier in writer.get(one, ()):  # several tasks fill one buffer, in this order
                before[number] |= before[earlier] | 1 << earlier
            writer.setdefault(one, []).append(number)
    takes_over: dict[Buffer, Buffer] = {}
    copies: list[Task] = []
    for old, new in state:
        writers = writer.get(new, [])
        free = new not in takes_over and new is not old and len(writers) == 1 and new.elements == old.elements
        if free and _comes_last(writers[0], readers.get(old, []), tasks, before, old, new):
            takes_over[new] = old
        else:
            copies.append(_copy_task(new, old))
    return Schedule([*_ordered(tasks, before), *copies], takes_over)


def _comes_last(
    writer: int, readers: list[int], tasks: list[Task], before: list[int], old: Buffer, new: Buffer
) -> bool:  # fmt: skip
    """Whether the writer can wait for all readers of the old value; if so it does from now on."""
    others = [one for one in readers if one != writer]
    if any(before[one] >> writer & 1 for one in others):
        return False
    if writer in readers and not _reads_where_it_writes(tasks[writer], old, new):
        return False
    gained = 0
    for one in others:
        gained |= before[one] | 1 << one
    before[writer] |= gained
    for later in range(len(tasks)):
        if before[later] >> writer & 1:
            before[later] |= gained
    return True


def _reads_where_it_writes(task: Task, old: Buffer, new: Buffer) -> bool:
    """Every element of the new value is made of the old one at the same place, so that nothing is lost."""
    if not isinstance(task, LoopTask):
        return False
    loads = [one.access for one in task.nest.body if one.access is not None and task.buffers[one.access.operand] is old]
    stores = [one.access for one in task.nest.stores if task.buffers[one.access.operand] is new]
    return len(stores) == 1 and all((a.start, a.strides) == (stores[0].start, stores[0].strides) for a in loads)


def _copy_task(source: Buffer, target: Buffer) -> LoopTask:
    name = source.dtype.name
    load = Instruction("load", name, access=Access(1, name, 0, (1,)))
    nest = Nest((source.elements,), max(source.elements, 1), (load,), (Store(0, Access(0, name, 0, (1,))),))
    return LoopTask(nest, (target, source), frozenset({target}), "assignment")


def _ordered(tasks: list[Task], before: list[int]) -> list[Task]:
    """Each after those it needs, else as they came."""
    done, order = 0, []
    waiting = list(range(len(tasks)))
    while waiting:
        rest = []
        for number in waiting:
            if before[number] & ~done:
                rest.append(number)
            else:
                done |= 1 << number
                order.append(tasks[number])
        assert len(rest) < len(waiting), "tasks wait for each other"
        waiting = rest
    return order
