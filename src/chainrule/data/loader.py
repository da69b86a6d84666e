"""Batches of a data set, prepared ahead, in an order that depends on nothing but the seed and the epoch.

Where preparing them is much work, such as reading and decoding files, threads do it while a step runs. Where it is little, the
loop does it itself between steps, several batches at a time: threads would take processors and Python's lock from the step, and
single batches would have to bring their code and data back into the caches each time.
"""

from __future__ import annotations

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from chainrule.arguments import explained, explained_methods, misfit_of, whole_number
from chainrule.data.augment import AlternatingFlip, Transform
from chainrule.data.dataset import Dataset, Images, Labels
from chainrule.data.sampling import generator
from chainrule.errors import UserError

Batch: TypeAlias = tuple[Images, Labels]

_USUAL_WORKERS = 2
_MOST_TOGETHER, _BYTES_TOGETHER = 8, 4 << 20
"""Batches that are prepared between two steps, and how many bytes of them."""


@explained_methods
class Loader:
    """Iterable over batches ``(images float32 (B,C,H,W), labels int64 (B,))`` of one epoch.

    ``for images, labels in loader`` runs from the cursor to the end of the epoch; the next loop runs the next epoch. A
    loop that is left early goes on at the cursor. What is delivered depends on the data set, the batch size, the
    transforms, the seed and the cursor, never on ``workers`` and ``prefetch``.

    Args:
        dataset: where the images come from.
        batch_size: images per batch; the last batch of an epoch may be smaller.
        shuffle: a new order in each epoch; otherwise the data set's.
        seed: 0 to 2**64-1.
        transforms: callables ``(images, rng) -> images`` on whole batches, applied in order. Images that are still
            uint8 after the last one are scaled to 0..1.
        workers: threads that prepare batches; 0 for none. By default 0 for images in memory, else 2.
        prefetch: batches that threads prepare ahead.
        drop_last: leave out a last batch that is smaller than ``batch_size``.

    Raises:
        UserError: an argument does not fit. Errors of the data set or a transform reach the loop as they are.
    """

    @explained
    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        transforms: Sequence[Transform] = (),
        workers: int | None = None,
        prefetch: int = 4,
        drop_last: bool = False,
    ) -> None:
        if not isinstance(dataset, Dataset):
            raise UserError(f"Loader got a {type(dataset).__name__}: expected a Dataset, such as ArrayDataset(images, labels)")
        if not isinstance(transforms, Sequence) or not all(map(callable, transforms)):
            raise UserError(f"transforms of Loader is {transforms!r}: expected a list of callables")
        self.dataset = dataset
        self.batch_size = whole_number("batch_size of Loader", batch_size, 1)
        self.shuffle = shuffle
        self.transforms = tuple(transforms)
        usual = 0 if dataset.in_memory else _USUAL_WORKERS
        self.workers = usual if workers is None else whole_number("workers of Loader", workers, 0)
        self.prefetch = whole_number("prefetch of Loader", prefetch, 1)
        self.drop_last = drop_last
        self._seed = _word("seed of Loader", seed)
        self._epoch = 0
        self._batch = 0
        if len(self) == 0:
            raise UserError(
                f"Loader: drop_last leaves no batch, as {dataset.name} has {len(dataset)} images "
                f"and batch_size is {self.batch_size}"
            )

    def __len__(self) -> int:
        """Batches per epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def __repr__(self) -> str:
        order = f"shuffled with seed {self._seed}" if self.shuffle else "in order"
        done = ", ".join(map(_shown, self.transforms))
        whole = f" of {self.batch_size}, {'the last left out if smaller' if self.drop_last else 'the last may be smaller'}"
        return (
            f"<Loader of {self.dataset!r}: {len(self)} batches{whole}, {order}, transforms [{done}], {self.workers} workers, "
            f"next is batch {self._batch} of epoch {self._epoch}>"
        )

    @property
    def cursor(self) -> dict[str, int]:
        """Where the next loop begins: ``{"seed": ..., "epoch": ..., "batch": ...}``, plain ints that count from 0."""
        return {"seed": self._seed, "epoch": self._epoch, "batch": self._batch}

    def seek(self, cursor: Mapping[str, int]) -> None:
        """Go to a cursor that ``cursor`` gave, of a Loader over the same data with the same settings.

        Raises:
            UserError: a value is missing, negative, or the epoch has no such batch.
        """
        if not isinstance(cursor, Mapping):
            raise UserError(f"cursor must be a dict with seed, epoch and batch, got a {type(cursor).__name__}")
        missing = [key for key in ("seed", "epoch", "batch") if key not in cursor]
        if missing:
            raise UserError(f"cursor lacks {missing[0]!r}: expected seed, epoch and batch, got {dict(cursor)}")
        seed, epoch = _word("seed of the cursor", cursor["seed"]), _word("epoch of the cursor", cursor["epoch"])
        batch = whole_number("batch of the cursor", cursor["batch"], 0)
        if batch >= len(self):
            raise UserError(
                f"batch of the cursor is {batch}, but an epoch has batches 0 to {len(self) - 1}: "
                "was it saved with another batch size or data set?"
            )
        self._seed, self._epoch, self._batch = seed, epoch, batch

    def numbers(self, epoch: int, batch: int) -> NDArray[np.int64]:
        """The numbers in the data set of the images of a batch (B,), both counted from 0.

        Raises:
            UserError: the epoch has no such batch.
        """
        epoch, batch = whole_number("epoch", epoch, 0), whole_number("batch", batch, 0, len(self) - 1)
        return self._order(epoch)[batch * self.batch_size : (batch + 1) * self.batch_size]

    def __iter__(self) -> Iterator[Batch]:
        first = self._batch
        prepare = functools.partial(self._prepare, self._order(self._epoch), self._seed, self._epoch)
        batches = self._by_threads(prepare, first) if self.workers else self._between_steps(prepare, first)
        with contextlib.closing(batches):
            for number, prepared in enumerate(batches, first):
                self._advance()
                expected = self.cursor
                yield prepared
                if number + 1 < len(self) and self.cursor != expected:
                    raise UserError("this loop's Loader was moved by seek or another loop: leave the loop before that")

    def _by_threads(self, prepare: Callable[[int], Batch], first: int) -> Generator[Batch]:
        # Leaving the loop closes this generator, which drops what is not begun and waits for the threads to end.
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="chainrule-loader")
        try:
            tasks = (pool.submit(prepare, batch) for batch in range(first, len(self)))
            ahead: deque[Future[Batch]] = deque(islice(tasks, self.prefetch))
            while ahead:
                prepared = ahead.popleft().result()
                ahead.extend(islice(tasks, 1))
                yield prepared
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _between_steps(self, prepare: Callable[[int], Batch], first: int) -> Generator[Batch]:
        ready: deque[Batch] = deque()
        while first < len(self):
            try:
                ready.append(prepare(first))
                together = max(1, min(_MOST_TOGETHER, _BYTES_TOGETHER // max(1, ready[0][0].nbytes)))
                for batch in range(first + 1, min(first + together, len(self))):
                    ready.append(prepare(batch))
            except Exception:
                while ready:
                    yield ready.popleft()
                raise  # raised once these batches have been delivered, as it belongs to the next
            first += len(ready)
            while ready:
                yield ready.popleft()

    def _advance(self) -> None:
        self._batch += 1
        if self._batch == len(self):
            self._epoch, self._batch = self._epoch + 1, 0

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Image numbers in the order of an epoch (N,)."""
        if not self.shuffle:
            return np.arange(len(self.dataset))
        return generator(self._seed, epoch, stream=0).permutation(len(self.dataset))

    def _prepare(self, order: NDArray[np.int64], seed: int, epoch: int, batch: int) -> Batch:
        """One batch; may run in a thread, so it reads nothing that a loop changes."""
        indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
        images = self.dataset.images(indices)
        rng = generator(seed, epoch, stream=batch + 1)
        for transform in self.transforms:
            try:
                if isinstance(transform, AlternatingFlip):
                    images = transform.in_epoch(images, indices, seed, epoch)
                else:
                    images = transform(images, rng)
            except TypeError:
                misfit = misfit_of(transform, (images, rng), {}, f"transform {_shown(transform)}")
                if misfit is None:
                    raise
                raise misfit from None
            if not isinstance(images, np.ndarray) or images.ndim != 4 or len(images) != len(indices):
                raise UserError(
                    f"transform {_shown(transform)} gave {getattr(images, 'shape', type(images).__name__)}: "
                    f"expected an array of {len(indices)} images (B, C, H, W)"
                )
        if images.dtype == np.uint8:
            images = images / np.float32(255)
        return images.astype(np.float32, copy=False), self.dataset.labels[indices]


def _shown(transform: Transform) -> str:
    """How ``repr`` shows a transform: a function by its name, any other object by its own ``repr``."""
    return getattr(transform, "__name__", None) or repr(transform)


def _word(what: str, value: object) -> int:
    """A number that fits one of Philox's 64-bit words."""
    number = whole_number(what, value, 0)
    if number >= 2**64:
        raise UserError(f"{what} is {number}: it must be below 2**64")
    return number
