"""Executors of one plan: this process, or a pool of processes. Each worker loads its job once."""

import os
import signal
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import AuthenticationError, connection, current_process, get_context, parent_process
from multiprocessing.reduction import ForkingPickler
from threading import Event, Thread
from typing import Any, Final, Protocol, TypeVar, final, runtime_checkable

from wirebert.companion_process import THREADS
from wirebert.errors import DataError
from wirebert.telemetry.processors import num_processors
from wirebert.untrusted_text import warn

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_LOSSES: Final = 5
"""Times in a row that workers may die before any of them finishes a shard."""
_LOOK_S: Final = 2.0


@runtime_checkable
class Job(Protocol):
    """Work on shards, as data that can be sent to a worker."""

    def load(self) -> Callable[[Any], Any]:
        """What works on one item; called once per worker."""
        ...


@runtime_checkable
class Executor(Protocol):
    """Runs a job on many items."""

    def run(self, job: Job, items: Sequence[Any]) -> Iterator[Any]:
        """The result of each item, in any order.

        Raises:
            UserError: as raised by the job; or a DataError if workers die again and again.
        """
        ...

    def close(self) -> None:
        """Let go of what was held between jobs."""
        ...


@final
class InProcess:
    """One item after the other in this process."""

    def run(self, job: Job, items: Sequence[Any]) -> Iterator[Any]:
        """The result of each item."""
        if items:
            yield from map(job.load(), items)

    def close(self) -> None:
        """Nothing is held."""


@final
@dataclass(frozen=True)
class Pool:
    """Processes of this machine; items of one that died are done again by the others."""

    num_workers: int

    def run(self, job: Job, items: Sequence[Any]) -> Iterator[Any]:
        """The result of each item, in any order."""
        with _threads_per_process(max(1, num_processors() // self.num_workers)), serve_job(job) as address:
            yield from self._results(address, dict(enumerate(items)))

    def _results(self, address: Any, waiting: dict[int, Any]) -> Iterator[Any]:
        losses = Losses()
        while waiting:
            num_workers = min(self.num_workers, len(waiting))
            start = get_context("spawn"), _start_worker, (address, os.getpid())
            pool = ProcessPoolExecutor(num_workers, *start)
            # All at once: the pool's thread fails if a worker is added while it clears up after a dead one.
            pool._safe_to_dynamically_spawn_children = False  # pyright: ignore
            futures: dict[Future[Any], int] = {}
            unsent = iter([*waiting.items()])
            try:
                while True:
                    # Few are sent ahead: results that nobody has taken yet would fill the memory.
                    for at, item in islice(unsent, 2 * self.num_workers - len(futures)):
                        futures[pool.submit(_work, item)] = at
                    if not futures:
                        break
                    future = _first_done(pool, futures)
                    at, result = futures.pop(future), future.result()
                    del waiting[at], future
                    losses.forget()
                    yield result
            except BrokenProcessPool:
                losses.add_shards(len(waiting))
            finally:
                pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Nothing is held."""


@contextmanager
def serve_job(job: Job) -> Generator[Any]:
    """The address at which workers get the job.

    What a process is started with, multiprocessing writes into a pipe whose other end it holds itself: of
    more than a pipe holds, it would wait for ever for a worker that was killed before it had read all.
    """
    pickled, key, is_over = ForkingPickler.dumps(job), current_process().authkey, Event()
    try:
        listener = connection.Listener(authkey=key)
    except OSError:  # the path of a temporary folder may be too long for a socket
        listener = connection.Listener(("127.0.0.1", 0), authkey=key)

    def serve() -> None:
        while not is_over.is_set():
            with suppress(OSError, EOFError, AuthenticationError), listener.accept() as worker:
                worker.send_bytes(pickled)

    thread = Thread(target=serve, name="job for workers", daemon=True)
    thread.start()
    try:
        yield listener.address
    finally:
        is_over.set()
        # Wakes the thread. Without the key: it does not wait for an answer, which nobody gives if the thread,
        # with the last worker served, has ended by itself.
        with suppress(OSError):
            connection.Client(listener.address).close()
        thread.join(_LOOK_S)
        listener.close()


@contextmanager
def _threads_per_process(number: int) -> Generator[None]:
    """Let libraries of the processes started in this block use this many threads, not all cores each.

    They look once, when they are loaded; those of this process were loaded before.
    """
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, str(number)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@final
class Losses:
    """Counts workers that died since one of them finished an item."""

    def __init__(self) -> None:
        self._number = 0

    def forget(self) -> None:
        """An item was finished."""
        self._number = 0

    def add(self, what: str, goes_on: str, kept: str) -> None:
        """Tell that a worker died, how the work goes on, and what is kept if it can not.

        Raises:
            DataError: it is one too many.
        """
        self._number += 1
        if self._number > MAX_LOSSES:
            raise DataError(
                f"{what} died {self._number} times in a row, as if memory were short; use fewer workers, and "
                f"start again: {kept}"
            )
        warn(f"{what} died; {goes_on}")

    def add_shards(self, num_waiting: int, what: str = "a worker") -> None:
        """Tell that a worker died, and how many shards are left."""
        goes_on = f"what it had not finished is done again ({num_waiting:,} shards are left)"
        self.add(what, goes_on, "finished shards are kept")


@final
@dataclass(frozen=True)
class _Numbered:
    """A job on items with their numbers, which its results keep."""

    job: Job

    def load(self) -> Callable[[tuple[int, Any]], tuple[int, Any]]:
        work = self.job.load()
        return lambda numbered: (numbered[0], work(numbered[1]))


def run_in_order(executor: Executor, job: Job, items: Sequence[Any]) -> Iterator[Any]:
    """The result of each item, in the order of the items."""
    waiting: dict[int, Any] = {}
    at = 0
    for number, result in executor.run(_Numbered(job), list(enumerate(items))):
        waiting[number] = result
        while at in waiting:
            yield waiting.pop(at)
            at += 1


def _first_done(pool: ProcessPoolExecutor, futures: Collection[Future[Any]]) -> Future[Any]:
    """The first of the futures that is done. A worker that was killed within a long answer breaks the pool.

    The pool itself would wait for the rest of the answer, as long as it and other workers hold the pipe open.
    """
    while not (done := wait(futures, _LOOK_S, FIRST_COMPLETED).done):
        workers = [*pool._processes.values()]  # pyright: ignore[reportPrivateUsage]
        if not all(one.is_alive() for one in workers):
            for one in workers:
                one.kill()
            pool._result_queue._writer.close()  # pyright: ignore
    return done.pop()


_worker: dict[str, Any] = {}
"""The job of this worker process, and what it loaded."""


def _start_worker(address: Any, parent: int) -> None:
    """Set up a worker process: Ctrl-C is for the parent, and without the parent it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with connection.Client(address, authkey=current_process().authkey) as parent_side:
        _worker["job"] = parent_side.recv()
    Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    started_by = parent_process()
    if started_by is not None and started_by.pid == parent:
        connection.wait([started_by.sentinel])
        os._exit(1)


def _work(item: Any) -> Any:
    if "work" not in _worker:  # not at the start: an error of the user would break the pool
        _worker["work"] = _worker["job"].load()
    return _worker["work"](item)
