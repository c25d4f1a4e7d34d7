import asyncio
import threading
from collections.abc import Sequence

import pytest

from wirebert.service.batching import MAX_JOBS, Batcher, QueueFull

pytestmark = pytest.mark.usefixtures("loop_of_its_own")


class Gate:
    """Work that waits until it is let through, and remembers which jobs came together."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.batches: list[list[int]] = []

    def __call__(self, jobs: Sequence[int]) -> list[int]:
        self.batches.append(list(jobs))
        self.opened.wait(10)
        if 13 in jobs:
            raise RuntimeError("unlucky")
        return [job * 2 for job in jobs]


def batcher(gate: Gate, *, max_waiting: int = 100, max_size: int = 1000) -> Batcher[int, int]:
    return Batcher(gate, size=lambda job: job, max_size=max_size, max_queue=max_waiting, wait_s=0.01)


def outcomes(jobs: Sequence[int], **bounds: int) -> tuple[list[int | BaseException], list[list[int]]]:
    """What comes of jobs that are given at once."""

    async def run() -> list[int | BaseException]:
        made = batcher(gate, **bounds)
        running = asyncio.create_task(made.run())
        gate.opened.set()
        found = await asyncio.gather(*(made.do(job) for job in jobs), return_exceptions=True)
        running.cancel()
        return found

    gate = Gate()
    return asyncio.run(run()), gate.batches


def test_jobs_that_come_together_are_done_together_each_with_its_own_outcome():
    assert outcomes([1, 2, 3]) == ([2, 4, 6], [[1, 2, 3]])


def test_a_batch_ends_before_it_is_too_large():
    assert outcomes([600, 300, 200, 2000])[1] == [[600, 300], [200], [2000]]


def test_a_batch_holds_no_more_jobs_than_may():
    assert [len(batch) for batch in outcomes([1] * (MAX_JOBS + 1))[1]] == [MAX_JOBS, 1]


def test_a_job_that_fails_spoils_no_other():
    found, _ = outcomes([1, 13, 3])
    assert found[0::2] == [2, 6]
    assert str(found[1]) == "unlucky"


def test_more_jobs_than_may_wait_are_turned_away():
    found, _ = outcomes([1, 2, 3], max_waiting=2)
    assert found[:2] == [2, 4]
    assert isinstance(found[2], QueueFull)


def test_a_job_whose_client_has_gone_is_not_done():
    async def run() -> None:
        made = batcher(gate)
        running = asyncio.create_task(made.run())
        first = asyncio.create_task(made.do(1))
        await asyncio.sleep(0.1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await made.do(2)
        third = asyncio.create_task(made.do(3))
        await asyncio.sleep(0)
        gate.opened.set()
        assert [await first, await third] == [2, 6]
        running.cancel()

    gate = Gate()
    asyncio.run(run())
    assert gate.batches == [[1], [3]]
