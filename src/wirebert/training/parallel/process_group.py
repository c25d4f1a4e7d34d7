"""Several processes that train one model: a GPU each, on one or several machines.

`torchrun` starts them and sets each one's rank in environment variables. They communicate in three ways: CPU
tensors and objects through gloo, GPU gradients through NCCL, and messages to a process that may be busy (a
job, a failure) through torchrun's store.
"""

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar, cast, final, runtime_checkable

import torch
import torch.distributed as dist
from torch import Tensor

from wirebert.errors import ConfigError, RankLostError, Terminated

Value = TypeVar("Value")

LOOK_EVERY_S: Final = 0.2
"""Interval at which a process checks for a failed rank."""

LOOK_FOR_JOB_S: Final = 0.02
"""Interval at which a rank checks for a new job, while the first one waits for it."""

GRACE_S: Final = 10.0
"""Time for a process to end by itself after another has failed; then it is killed."""

JOB: Final = b"job"
END: Final = b"end"
"""Messages of rank 0 to waiting ranks: a job follows, or there are no more."""

CONNECTION_LOST: Final = ("gloo", "Connection", "NCCL", "Broken pipe", "Socket", "socket")
"""Words in the errors that the end of another process causes."""


@final
@dataclass(frozen=True, slots=True)
class Communicator:
    """Collective operations of the processes of one training; all ranks call them in the same order."""

    rank: int = 0
    size: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this process reads, decides, writes and reports; the others only train."""
        return self.rank == 0

    def all_reduce_sum(self, numbers: Tensor) -> None:
        """Replace the tensor by the sum over all ranks."""
        if self.size > 1:
            dist.all_reduce(numbers)

    def begin_all_reduce_sum(self, numbers: Tensor) -> dist.Work:
        """The same beside further work of the device; the sum is there after the result's `wait`."""
        work = dist.all_reduce(numbers, async_op=True)
        assert work is not None
        return work

    def all_reduce_min(self, number: int) -> int:
        """The minimum over all ranks."""
        if self.size == 1:
            return number
        box = torch.tensor(number)
        dist.all_reduce(box, op=dist.ReduceOp.MIN)
        return int(box)

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.all_reduce_min(0)

    def all_gather(self, value: Value) -> list[Value]:
        """Every rank's value, by rank."""
        if self.size == 1:
            return [value]
        values: list[Value | None] = [None] * self.size
        dist.all_gather_object(values, value)
        return cast("list[Value]", values)

    def broadcast_object(self, make: Callable[[], Value]) -> Value:
        """The result of `make`, which only rank 0 calls."""
        if self.size == 1:
            return make()
        box: list[Value | None] = [make() if self.is_main else None]
        dist.broadcast_object_list(box, src=0)
        return cast("Value", box[0])

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Overwrite CPU tensors with those of rank 0."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)


SINGLE_RANK: Final = Communicator()
"""A training in one process."""


@final
class StopVote:
    """Stops all ranks after the same step, whichever of them received the signal.

    The result comes one step late, so that its transfer overlaps with the computation.
    """

    def __init__(self, world: Communicator) -> None:
        self._world = world
        self._ballot: Tensor | None = None
        self._work: dist.Work | None = None

    def result(self, mine: int) -> int:
        """The maximum over all ranks' numbers of the previous call; a single process gets its own back."""
        if self._world.size == 1:
            return mine
        decided = self.close()
        self._ballot = torch.tensor(mine)
        self._work = dist.all_reduce(self._ballot, op=dist.ReduceOp.MAX, async_op=True)
        return decided

    def close(self) -> int:
        """The last call's result; call it before the process group ends."""
        if self._work is None or self._ballot is None:
            return 0
        self._work.wait()
        self._work = None
        return int(self._ballot)


@runtime_checkable
class Store(Protocol):
    """torch.distributed's store: a key-value store that one process serves to all."""

    def set(self, key: str, value: bytes) -> None:
        """Store a value."""
        ...

    def get(self, key: str) -> bytes:
        """The value of an existing key."""
        ...

    def check(self, keys: list[str]) -> bool:
        """Whether all keys exist."""
        ...

    def add(self, key: str, amount: int) -> int:
        """Add `amount` to the counter `key` and return it."""
        ...


@final
class JobQueue:
    """Messages between the processes outside of training: there is a job; a rank has failed."""

    def __init__(self, world: Communicator, environment: Mapping[str, str]) -> None:
        self.world = world
        self._address = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        self._prefix = f"wirebert/{environment.get('TORCHELASTIC_RESTART_COUNT', '0')}/"
        self._store = self._connect()
        self._num_words = 0
        self._is_over = threading.Event()
        self._one_failed = threading.Event()
        # In another thread this is a worker of Ray, which ends all workers itself when one of them fails.
        self._is_in_main_thread = threading.current_thread() is threading.main_thread()
        threading.Thread(target=self._watch, name="other ranks", daemon=True).start()

    def _connect(self) -> Store:
        stores = cast(Any, dist)  # missing in torch's types
        return stores.PrefixStore(self._prefix, stores.TCPStore(*self._address, is_master=False))

    def send(self, job: object) -> None:
        """Hand a job to the other ranks."""
        self._say(JOB)
        self.world.broadcast_object(lambda: job)

    def _say(self, word: bytes) -> None:
        # Unlike a collective, waiting for a key of the store has no timeout.
        self._num_words += 1
        self._store.set(f"word{self._num_words}", word)

    def receive(self) -> object:
        """Wait for the next job of rank 0, without a timeout; None: there are no more."""
        self._num_words += 1
        key = f"word{self._num_words}"
        while not self._store.check([key]):
            if self._one_failed.wait(LOOK_FOR_JOB_S):
                raise SystemExit(2)
        return self.world.broadcast_object(lambda: None) if self._store.get(key) == JOB else None

    def claim_failure(self) -> bool:
        """Report this rank's failure and wait until the others know; return whether it is the first."""
        try:
            is_first = self._store.add("failed", 1) == 1
        except RuntimeError:  # the store is gone, with the process that served it
            return not self._one_failed.is_set()
        self._one_failed.wait(GRACE_S / 2)
        deadline_s = time.monotonic() + GRACE_S / 2
        with suppress(RuntimeError):  # the store may end with the first process that leaves
            while (
                is_first and self._store.add("heard", 0) < self.world.size and time.monotonic() < deadline_s
            ):
                time.sleep(LOOK_EVERY_S / 4)
        return is_first

    @property
    def is_over(self) -> bool:
        """Whether the process group has ended."""
        return self._is_over.is_set()

    def has_failed(self, within_s: float) -> bool:
        """Whether a rank reports a failure within this time."""
        return self._one_failed.wait(within_s)

    def part(self) -> None:
        """End the process group; all ranks call this once rank 0 has no more jobs."""
        if not self._is_over.is_set():
            self._is_over.set()
            if self.world.is_main:
                self._say(END)
            dist.destroy_process_group()

    def _watch(self) -> None:
        """End this process when another rank has failed: by SIGTERM, then, after a grace period, at once."""
        with suppress(RuntimeError):  # the store is gone: torchrun is about to end this process
            store = self._connect()
            while not self._is_over.wait(LOOK_EVERY_S):
                if store.check(["failed"]):
                    store.add("heard", 1)
                    break
        if self._is_over.is_set():
            return
        self._one_failed.set()
        if self._is_in_main_thread:
            _thread.interrupt_main(signal.SIGTERM)
            end_after(GRACE_S)


def end_after(seconds: float) -> None:
    """End this process after this time, even if it hangs."""

    def end() -> None:
        time.sleep(seconds)
        os._exit(2)

    threading.Thread(target=end, name="end", daemon=True).start()


@final
@dataclass(frozen=True, slots=True)
class ProcessGroup:
    """The processes of one command: their communicator, and the queue of rank 0's jobs."""

    communicator: Communicator = SINGLE_RANK
    queue: JobQueue | None = None

    def send_job(self, job: object) -> None:
        """Start a job on the other ranks."""
        if self.queue is not None:
            self.queue.send(job)

    def receive_job(self) -> object:
        """The next job of rank 0; None: there are no more."""
        return None if self.queue is None else self.queue.receive()

    def release_workers(self) -> None:
        """Release the other ranks; only rank 0 continues."""
        if self.queue is not None:
            self.queue.part()


SINGLE_PROCESS: Final = ProcessGroup()
"""A command in one process."""


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether torchrun, or a similar launcher, has started this process as one of several."""
    return int(environment.get("WORLD_SIZE", "1")) > 1 and "RANK" in environment


def init_process_group(environment: Mapping[str, str]) -> AbstractContextManager[ProcessGroup]:
    """The process group described by torchrun's variables; without them, this process alone.

    If one process fails in this block, all end: the failed one with its error, the others silently.
    """
    return Membership(environment) if is_launched(environment) else nullcontext(SINGLE_PROCESS)


@final
class Membership:
    """The context manager of `init_process_group`.

    Raises:
        ConfigError: there are more processes than GPUs on this machine.
        RankLostError: another process ended without saying why.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._world = Communicator(int(environment["RANK"]), int(environment["WORLD_SIZE"]))

    def __enter__(self) -> ProcessGroup:
        local_rank, num_gpus = int(self._environment.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local_rank < num_gpus:
            torch.cuda.set_device(local_rank)
        if not dist.is_initialized():  # a worker of Ray Train has joined already
            dist.init_process_group("cpu:gloo,cuda:nccl" if num_gpus else "gloo")
        self._queue = JobQueue(self._world, self._environment)
        if 0 < num_gpus <= local_rank:
            error = ConfigError(
                "the processes on this machine (--gpus, or torchrun --nproc-per-node) must be at most its "
                f"number of GPUs, {num_gpus}, got {local_rank + 1} or more; to train on CPUs, hide the GPUs "
                "with CUDA_VISIBLE_DEVICES='' and use torchrun"
            )
            self.__exit__(ConfigError, error)
            raise error
        return ProcessGroup(self._world, self._queue)

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, *_: object) -> None:
        if error is None:
            self._queue.part()
        if error is None or self._queue.is_over:
            return
        if isinstance(error, KeyboardInterrupt):
            # All ranks received the signal, or torchrun stops the others once this one has ended.
            if self._queue.has_failed(0.0):
                code = 2
            elif self._world.is_main:
                code = 0
            else:
                code = 143 if isinstance(error, Terminated) else 130
            end_after(GRACE_S)
            if code:
                raise SystemExit(code) from error
            return  # rank 0 prints how to resume
        is_lost = _is_lost(error)
        # A failed rank reports its failure before its connections close.
        is_reported = self._queue.has_failed(5 * LOOK_EVERY_S if is_lost else 0.0)
        is_reported = is_reported or not self._queue.claim_failure()
        end_after(GRACE_S)
        if is_reported:
            raise SystemExit(2) from error
        if is_lost:
            raise RankLostError(
                f"rank {self._world.rank}: another process of this training ended without saying why "
                "(killed, for lack of memory?); go on with --resume"
            ) from error


def _is_lost(error: BaseException) -> bool:
    """Whether the error comes from another process being gone."""
    is_of_torch = type(error) is RuntimeError or isinstance(error, dist.DistError)
    return is_of_torch and any(word in str(error) for word in CONNECTION_LOST)
