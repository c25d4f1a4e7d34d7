"""Batching: requests that arrive at about the same time are scored together, in order, on one thread."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, final

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")

MAX_JOBS: Final = 64
"""Most requests in one batch."""


class QueueFull(Exception):  # noqa: N818 -- it is no error
    """The queue of waiting requests is full."""


@dataclass(frozen=True)
class _Waiting(Generic[Job, Outcome]):
    job: Job
    outcome: "asyncio.Future[Outcome]"


@final
class Batcher(Generic[Job, Outcome]):
    """Collects jobs and runs them in batches, on a separate thread. Use it from one event loop.

    Args:
        work: runs several jobs and returns one outcome each, in order. If it raises, each job is run by
            itself, so that one cannot spoil the others.
        size: size of a job. A batch never exceeds `max_size`, unless it is a single job.
        max_waiting: queue length; further jobs raise `QueueFull`.
        wait_s: how long the first job of a batch waits for others when the thread is idle.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Job]], Sequence[Outcome]],
        *,
        size: Callable[[Job], int],
        max_size: int,
        max_queue: int,
        wait_s: float,
    ) -> None:
        self._work, self._size = work, size
        self._max_size, self._max_waiting, self._wait_s = max_size, max_queue, wait_s
        self._waiting: deque[_Waiting[Job, Outcome]] = deque()
        self._has_come = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="wirebert-score")
        self.num_batches = 0
        """Number of batches done so far."""

    @property
    def num_waiting(self) -> int:
        """Number of waiting jobs."""
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether the next job would raise `QueueFull`."""
        return len(self._waiting) >= self._max_waiting

    async def do(self, job: Job) -> Outcome:
        """The outcome of a job. A caller that is cancelled while the job waits removes it from the queue.

        Raises:
            QueueFull: too many jobs are waiting.
        """
        if self.is_full:
            raise QueueFull
        waiting: _Waiting[Job, Outcome] = _Waiting(job, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._has_come.set()
        return await waiting.outcome

    async def run(self) -> None:
        """Run jobs until cancelled."""
        try:
            while True:
                await self._has_come.wait()
                if len(self._waiting) == 1:
                    await asyncio.sleep(self._wait_s)
                batch = self._take()
                if batch:
                    await self._do(batch)
        finally:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def _take(self) -> list[_Waiting[Job, Outcome]]:
        batch: list[_Waiting[Job, Outcome]] = []
        size = 0
        while self._waiting and len(batch) < MAX_JOBS:
            size += self._size(self._waiting[0].job)
            if batch and size > self._max_size:
                break
            first = self._waiting.popleft()
            if not first.outcome.done():
                batch.append(first)
        if not self._waiting:
            self._has_come.clear()
        return batch

    async def _do(self, batch: list[_Waiting[Job, Outcome]]) -> None:
        self.num_batches += 1
        work = asyncio.get_running_loop().run_in_executor(
            self._pool, self._work, [waiting.job for waiting in batch]
        )
        await asyncio.wait([work])
        error = work.exception()
        if error is None:
            for waiting, outcome in zip(batch, work.result(), strict=True):
                if not waiting.outcome.done():
                    waiting.outcome.set_result(outcome)
        elif len(batch) > 1:
            for waiting in batch:
                await self._do([waiting])
        elif not batch[0].outcome.done():
            batch[0].outcome.set_exception(error)
