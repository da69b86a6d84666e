"""Pass: orders the tasks, and decides which cells are updated in place.

The new value of a cell can be written over the old one if every task that reads the old value can run before the task that
writes the new one. Otherwise the new value gets a buffer of its own, and is copied into the cell's memory at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from chainrule.compiler.nest import Access, Instruction, Nest, Store
from chainrule.compiler.precedence import Precedence
from chainrule.compiler.tasks import Buffer, LoopTask, Lowered, Task
from chainrule.graph.dtypes import name_of


@dataclass
class Schedule:
    """Tasks in order. ``takes_over`` has, for a new value that is written over an old one, the buffer of the old one."""

    tasks: list[Task]
    takes_over: dict[Buffer, Buffer]


def schedule(lowered: Lowered, state: Sequence[tuple[Buffer, Buffer]]) -> Schedule:
    """Order the tasks of ``lowered``. ``state`` has for each assigned cell the buffers of its old and of its new value."""
    tasks = list(lowered.tasks)
    writer: dict[Buffer, list[int]] = {}
    readers: dict[Buffer, list[int]] = {}
    before = Precedence(len(tasks))
    for number, task in enumerate(tasks):
        direct: set[int] = set()
        for buffer in task.reads:
            readers.setdefault(buffer, []).append(number)
            direct.update(writer.get(buffer, ()))
        for buffer in task.writes:
            direct.update(writer.get(buffer, ()))  # if several tasks fill a buffer, their order stays
            writer.setdefault(buffer, []).append(number)
        before.put_after(number, direct)
    takes_over: dict[Buffer, Buffer] = {}
    copies: list[Task] = []
    for old, new in state:
        writers = writer.get(new, [])
        free = new not in takes_over and new is not old and len(writers) == 1 and new.elements == old.elements
        if free and _comes_last(writers[0], readers.get(old, []), tasks, before, old, new):
            takes_over[new] = old
        else:
            copies.append(_copy_task(new, old))
    return Schedule([*(tasks[number] for number in before.ordered(range(len(tasks)))), *copies], takes_over)


def _comes_last(
    writer: int, readers: list[int], tasks: list[Task], before: Precedence, old: Buffer, new: Buffer
) -> bool:  # fmt: skip
    """Whether ``writer``, which writes ``new``, can run after all readers of ``old``. If so, ``before`` is made to say so."""
    others = [reader for reader in readers if reader != writer]
    if any(before.precedes(writer, reader) for reader in others):
        return False
    if writer in readers and not _reads_where_it_writes(tasks[writer], old, new):
        return False
    before.put_after(writer, others)
    return True


def _reads_where_it_writes(task: Task, old: Buffer, new: Buffer) -> bool:
    """Whether each element of ``new`` depends on ``old`` only at the same place, so that it can be written over it."""
    if not isinstance(task, LoopTask):
        return False
    loads = [load.access for load in task.nest.body if load.access is not None and task.buffers[load.access.operand] is old]
    stores = [store.access for store in task.nest.stores if task.buffers[store.access.operand] is new]
    return len(stores) == 1 and all((a.start, a.strides) == (stores[0].start, stores[0].strides) for a in loads)


def _copy_task(source: Buffer, target: Buffer) -> LoopTask:
    """The task that copies all elements of ``source`` to ``target``."""
    name = name_of(source.dtype)
    load = Instruction("load", name, access=Access(1, name, 0, (1,)))
    nest = Nest((source.elements,), max(source.elements, 1), (load,), (Store(0, Access(0, name, 0, (1,))),))
    return LoopTask(nest, (target, source), frozenset({target}), "assignment")
