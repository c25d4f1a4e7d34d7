"""The plan on a Ray cluster: actors that load their job once. Needs the extra `ray`."""

import logging
import os
import socket
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from ctypes import CDLL
from dataclasses import dataclass, field
from importlib import import_module
from itertools import islice
from typing import Any, Final, final

from wirebert.cluster.executors import Job, Losses
from wirebert.errors import ConfigError, DataError
from wirebert.untrusted_text import warn

WORKER_BYTES: Final = 1 << 30
"""Memory asked for by hand for a worker: Ray's accounts do not see Arrow's."""
_LOOK_S: Final = 5.0
"""Time between two looks at the nodes while nothing is finished."""
_ITEMS_AHEAD: Final = 2
"""Items that a worker has at most, with the one it works on."""
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
"""Numbers in GNU's `mallopt(3)`."""
_KEPT_BYTES: Final = 1 << 30
_LARGEST_KEPT_BYTES: Final = 32 << 20
"""The largest threshold that every version of the library takes."""


@final
@dataclass(frozen=True)
class RayCluster:
    """Actors on the nodes of a cluster, or of one started on this machine ("local")."""

    address: str
    num_workers: int | None = None
    """None: as many as the cluster has cores and memory for."""
    worker_bytes: int = WORKER_BYTES
    is_fresh: bool = False
    """Whether each item has a process of its own."""
    dead_nodes: set[str] = field(default_factory=set, compare=False)
    """Ids of nodes that died in jobs before: Ray itself learns it later."""
    _kept: dict[Any, str] = field(default_factory=dict[Any, str], init=False, compare=False)
    """Workers of the job before, which wait for the next, with their nodes."""

    def run(
        self, job: Job, items: Sequence[Any], *, is_due: Callable[[Any], bool] = lambda _: True
    ) -> Iterator[Any]:
        """The result of each item, in any order; those of an actor or node that died are done again.

        An item that is not due any more when a worker is free for it is left out.

        Raises:
            ConfigError: Ray is not installed; the cluster has no room for a worker, or is not reached.
            DataError: workers die again and again, or the cluster does not answer any more.
        """
        if not items:
            return
        ray = self.connect()
        try:
            yield from self._run(ray, job, items, is_due)
        except (ray.exceptions.RaySystemError, ConnectionError) as error:
            raise DataError(
                f"--cluster {self.address}: the cluster does not answer any more ({_first_line(error)}); "
                "start again: finished shards are kept"
            ) from error

    def end_workers(self) -> None:
        """Let the workers end that wait for another job, and so make room for other work."""
        self._kept.clear()

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        self.end_workers()
        import_ray().shutdown()

    def connect(self) -> Any:
        """The package `ray`, connected to the cluster.

        Raises:
            ConfigError: Ray is not installed, or the cluster is not reached.
        """
        ray = import_ray()
        if ray.is_initialized():
            return ray
        options: dict[str, Any] = {} if self.address != "local" else {"include_dashboard": False}
        if self.address == "local" and self.num_workers is not None:
            options["num_cpus"] = self.num_workers
        # Ray prints on standard output what `Losses` tells, and has no setting that stops it.
        printing: Any = import_module("ray._private.worker")
        printing.print_to_stdstream = _print_nothing
        host, _, port = self.address.rpartition(":")
        try:
            if host and port.isdecimal() and "/" not in host:  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=_LOOK_S).close()
            ray.init(
                address=self.address,
                logging_level=logging.ERROR,
                log_to_driver=False,
                configure_logging=False,
                **options,
            )
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(
                f"--cluster {self.address}: cannot be reached ({_first_line(error)}); give the address of a "
                "running Ray cluster, such as 10.0.0.1:6379, or local"
            ) from error
        return ray

    def _run(self, ray: Any, job: Job, items: Sequence[Any], is_due: Callable[[Any], bool]) -> Iterator[Any]:
        new = ray.remote(_Worker).options(num_cpus=1, memory=self.worker_bytes).remote
        shared, losses, nodes = ray.put(job), Losses(), _Nodes(ray, self.dead_nodes)
        waiting, number = list(reversed(items)), min(self.room(ray), len(items))
        kept = dict(islice(self._kept.items(), number))
        self._kept.clear()
        workers = [*kept, *(new() for _ in range(number - len(kept)))]
        starting = {worker.begin.remote(shared): worker for worker in workers}
        num_dead = dict.fromkeys(workers, len(self.dead_nodes))
        homes: dict[Any, str] = {}
        busy: dict[Any, tuple[Any, Any]] = {}
        while waiting or busy:
            while waiting and (worker := self._next(homes, busy, len(waiting))) is not None:
                if is_due(item := waiting.pop()):
                    busy[worker.work.remote(item)] = (worker, item)
            if not busy and not waiting:
                break
            done, _ = ray.wait([*busy, *starting], num_returns=1, timeout=_LOOK_S)
            nodes.look()
            if not done:
                continue
            is_item = done[0] in busy
            worker = busy[done[0]][0] if is_item else starting.pop(done[0])
            try:
                result = ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except (
                ray.exceptions.RayActorError,
                ray.exceptions.OutOfMemoryError,
                ray.exceptions.ObjectLostError,  # a result that lay on a node that died
            ) as error:
                lost = [task for task, (one, _) in busy.items() if one == worker]
                waiting += [busy.pop(task)[1] for task in reversed(lost)]
                home = homes.pop(worker, None) or kept.get(worker)
                if not nodes.have_died(home, num_dead.pop(worker)):
                    losses.add_shards(len(waiting) + len(busy), _dead(ray, error))
                worker = new()  # it gets work when it has started, for which there may be no room
                starting[worker.begin.remote(shared)], num_dead[worker] = worker, len(self.dead_nodes)
                continue
            if not is_item:
                homes[worker] = result
                continue
            del busy[done[0]]
            if self.is_fresh:
                del homes[worker], num_dead[worker]
                ray.kill(worker)
                worker = new()
                starting[worker.begin.remote(shared)], num_dead[worker] = worker, len(self.dead_nodes)
            losses.forget()
            yield result
        if not self.is_fresh:
            self._kept.update(homes)

    def _next(self, homes: dict[Any, str], busy: dict[Any, tuple[Any, Any]], num_waiting: int) -> Any | None:
        """The worker that gets the next item, if there is one.

        While many wait, a worker has the next item before it has finished one: who takes the results may
        be long at one of them.
        """
        most = 1 if self.is_fresh or num_waiting < len(homes) else _ITEMS_AHEAD
        loads = Counter(worker for worker, _ in busy.values())
        worker = min(homes, key=lambda one: loads[one], default=None)
        return worker if worker is not None and loads[worker] < most else None

    def room(self, ray: Any) -> int:
        """Number of workers that the cluster has cores and memory for.

        Raises:
            ConfigError: it has none.
        """
        has = ray.cluster_resources()
        room = int(min(has.get("CPU", 0), has.get("memory", 0) // self.worker_bytes))
        if room < 1:
            raise ConfigError(
                f"--cluster {self.address}: expected a core and {self.worker_bytes >> 20} MB for a worker, "
                f"found {has.get('CPU', 0):.0f} cores and {int(has.get('memory', 0)) >> 20} MB; add a node"
            )
        return room if self.num_workers is None else min(room, self.num_workers)


@final
class _Nodes:
    """The nodes of a cluster; each that dies is told once, not for each of its workers."""

    def __init__(self, ray: Any, dead: set[str]) -> None:
        self._ray, self._dead = ray, dead
        dead.update(node["NodeID"] for node in ray.nodes() if not node["Alive"])
        self._num_dead = len(dead)

    def look(self, is_suspect: Callable[[str], bool] = lambda _: False) -> None:
        """Tell which nodes have died; of a suspect Ray itself may not know yet."""
        nodes = {node["NodeID"]: node for node in self._ray.nodes()}
        dead = {name for name, node in nodes.items() if not node["Alive"]}
        suspects = filter(is_suspect, nodes.keys() - dead - self._dead)
        dead |= {name for name in suspects if not _answers(nodes[name])}
        if died := dead - self._dead:
            num_nodes = len(nodes) - self._num_dead
            warn(f"{len(died)} of {num_nodes} nodes died; their shards are done again elsewhere")
        self._dead |= died

    def have_died(self, home: str | None, num_dead: int) -> bool:
        """Whether a worker has died with its node.

        Args:
            home: the node; None: it has not told it yet, so a node that died since it was made may be it.
            num_dead: nodes that had died when the worker was made.
        """
        self.look(lambda node: home in (None, node))
        return len(self._dead) > num_dead if home is None else home in self._dead


@final
class _Worker:
    """An actor: a job, loaded once."""

    def begin(self, job: Job) -> str:
        """Take up a job; returns the id of the node."""
        self._work, self._job = None, job
        _keep_freed_memory()
        return import_ray().get_runtime_context().get_node_id()

    def work(self, item: Any) -> Any:
        """The result of an item."""
        if self._work is None:  # not at the beginning, which tells that the worker has started
            self._work = self._job.load()
        return self._work(item)


def _keep_freed_memory() -> None:
    """Let the C library keep what one item frees for the next.

    In a worker of Ray it gave memory back to the system at once, and getting it again took a fifth of the
    processor time (docs/experiments.md, 2026-12-01).
    """
    with suppress(OSError, AttributeError):  # not GNU's C library
        libc = CDLL(None)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)


def import_ray() -> Any:
    """The package `ray`, which is quiet.

    Raises:
        ConfigError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        return import_module("ray")
    except ModuleNotFoundError as error:
        raise ConfigError(
            "--cluster needs Ray, which is not installed; install it with `pip install 'wirebert[ray]'`, or "
            "use --workers"
        ) from error


def _answers(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), _LOOK_S).close()
    except OSError:
        return False
    return True


def _print_nothing(*_: object, **__: object) -> None:
    pass


def _dead(ray: Any, error: Exception) -> str:
    is_memory = isinstance(error, ray.exceptions.OutOfMemoryError)
    return "a worker whose node ran out of memory" if is_memory else "a worker"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
