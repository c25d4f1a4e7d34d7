"""`wirebert serve --workers N`: several processes behind one address, each with the model.

The kernel spreads connections over the processes (`SO_REUSEPORT`). Together they keep the limits of one
service, and each answers `/metrics` for all.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing import connection, get_context
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Final, final

from wirebert.errors import ConfigError, UserError
from wirebert.inference.detector import Detector
from wirebert.service.limits import Limits
from wirebert.service.logs import LOG, json_logs
from wirebert.service.prometheus import SHARED_FOLDER, forget_process
from wirebert.service.server import GRACE_S, ServerConfig, listen, serve, told_address
from wirebert.untrusted_text import warn

_BAD_INPUT: Final = 2
"""Exit code of a process whose sentence the user has read."""


def serve_by_workers(
    load: Callable[[], Detector], config: ServerConfig, limits: Limits, num_workers: int
) -> None:
    """Answer requests in several processes until SIGTERM or Ctrl-C; one that dies is started again.

    Raises:
        ConfigError: as `serve`, or a limit is less than the number of processes.
        SystemExit: a process could not start, and has said why.
    """
    with (
        tempfile.TemporaryDirectory(prefix="wirebert-metrics-") as folder,
        listen(config, shares_port=True) as holder,  # it takes no connection, but keeps the port
        json_logs(),
    ):
        os.environ[SHARED_FOLDER] = folder  # for the processes, before they import prometheus_client
        try:
            config = replace(config, port=holder.getsockname()[1])
            workers = _Workers(load, config, shared_out(limits, num_workers))
            workers.run(num_workers)
        finally:
            del os.environ[SHARED_FOLDER]


def shared_out(limits: Limits, num_workers: int) -> Limits:
    """The limits of one of several processes, which add up to those of the service.

    >>> shared_out(Limits(), 2).max_connections
    256
    """
    most = min(limits.max_queue, limits.max_held_bodies // 2)
    if not 1 <= num_workers <= most:
        raise ConfigError(f"--workers must be in [1, {most}], got {num_workers}")
    return replace(
        limits,
        max_queue=limits.max_queue // num_workers,
        max_held_bodies=limits.max_held_bodies // num_workers,
        max_connections=limits.max_connections // num_workers,
    )


@final
class _Workers:
    """The processes of one service, started, watched and ended."""

    def __init__(self, load: Callable[[], Detector], config: ServerConfig, limits: Limits) -> None:
        self._given = load, config, limits
        self._running: list[BaseProcess] = []
        self._is_ending = False

    def run(self, num_workers: int) -> None:
        """Start the processes, the first alone, and keep their number until a signal comes."""
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            while not self._is_ending and len(self._running) < num_workers:
                self._start()
            if not self._is_ending:
                told_address(self._given[1].host, self._given[1].port, num_workers=num_workers)
            while not self._is_ending:
                self._watch()
        finally:
            self._stop()
            for number, handler in before.items():
                signal.signal(number, handler)
        LOG.info("stopped")

    def _end(self, _number: int, _frame: FrameType | None) -> None:
        self._is_ending = True

    def _start(self) -> None:
        """Start one process and wait until it listens; SystemExit if it ends instead."""
        context = get_context("spawn")
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_serve_one, args=(*self._given, theirs), name="worker")
        process.start()
        theirs.close()
        self._running.append(process)
        while not self._is_ending and not ours.poll(0.1):
            pass
        try:
            if not self._is_ending:
                ours.recv()
        except EOFError:
            process.join()
            raise SystemExit(_BAD_INPUT if process.exitcode == _BAD_INPUT else 1) from None
        ours.close()

    def _watch(self) -> None:
        """Start another process for each one that has died."""
        connection.wait([process.sentinel for process in self._running], timeout=0.2)
        for process in list(self._running):
            if process.is_alive() or self._is_ending:
                continue
            self._running.remove(process)
            forget_process(process.pid or 0)
            LOG.error("a worker died", extra={"fields": {"code": process.exitcode}})
            self._start()

    def _stop(self) -> None:
        """End all processes, which finish the requests that they have accepted."""
        for process in self._running:
            process.terminate()
        deadline_s = time.monotonic() + GRACE_S + 5
        for process in self._running:
            process.join(max(0.0, deadline_s - time.monotonic()))
            if process.is_alive():
                process.kill()


def _serve_one(
    load: Callable[[], Detector], config: ServerConfig, limits: Limits, started: connection.Connection
) -> None:
    """One process: load the model, listen on the common port, and serve."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends the others
    try:
        serve(load(), config, limits, on_listening=lambda: started.send(None))
    except UserError as error:
        warn(str(error))
        sys.exit(_BAD_INPUT)
