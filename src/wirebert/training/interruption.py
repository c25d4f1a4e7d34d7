"""Interruptions that a training can resume from: Ctrl-C, SIGTERM, a GPU failure."""

import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final, final

import torch

from wirebert.errors import Terminated, TrainingError
from wirebert.training.checkpoint import CheckpointFolder

OUR_FAULT: Final = ("device-side assert", "illegal memory access", "misaligned address", "invalid")
"""CUDA errors caused by a bug in the program, which keep their traceback."""

DEVICE_FAILURE: Final = ("CUDA error", "CUDA driver error", "cuDNN error")


@final
class Termination:
    """Delays SIGTERM until training is between two steps; a context manager for the main thread.

    With `waits_for_others` it delays Ctrl-C too. Schedulers that pre-empt a job send SIGTERM and, about half
    a minute later, SIGKILL.
    """

    def __init__(self, *, waits_for_others: bool = False) -> None:
        """`waits_for_others`: several processes stop after the same step, so none may stop at once."""
        self.asked = 0
        """The signal received so far; 0: none."""
        self._may_raise, self._waits_for_others = False, waits_for_others
        signals = (signal.SIGTERM, *([signal.SIGINT] if waits_for_others else []))
        is_ours = threading.current_thread() is threading.main_thread()  # signals reach no other
        self._signals = signals if is_ours else ()

    def __enter__(self) -> "Termination":
        self._before = {number: signal.signal(number, self._receive) for number in self._signals}
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, before in self._before.items():
            if before is not None:  # a handler that Python did not set cannot be put back
                signal.signal(number, before)
        if kind is None:
            self.check()

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        self.asked = max(self.asked, number)
        if self._may_raise:
            stop_for(number)

    def check(self) -> None:
        """Stop here if a signal was received.

        Raises:
            KeyboardInterrupt: SIGINT was received.
            Terminated: SIGTERM was received.
        """
        stop_for(self.asked)

    @contextmanager
    def at_once(self) -> Generator[None]:
        """Let SIGTERM interrupt this block at once: for long work that changes no state."""
        if self._waits_for_others:
            yield
            return
        self._may_raise = True
        try:
            self.check()
            yield
        finally:
            self._may_raise = False


def stop_for(number: int) -> None:
    """Raise the exception of this signal number; 0 does nothing.

    Raises:
        KeyboardInterrupt: the signal is SIGINT.
        Terminated: the signal is SIGTERM.
    """
    if number == signal.SIGTERM:
        raise Terminated
    if number == signal.SIGINT:
        raise KeyboardInterrupt


@contextmanager
def sigterm_as_exception() -> Generator[None]:
    """In this block SIGTERM raises `Terminated`, as Ctrl-C raises KeyboardInterrupt."""
    with Termination() as termination, termination.at_once():
        yield


@contextmanager
def defer_signals() -> Generator[None]:
    """Delay Ctrl-C until the end of the block: training cannot resume from half an update."""
    interrupts: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield  # signals reach the main thread only, and a handler that Python did not set cannot be put back
        return
    signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupts:
        signal.raise_signal(signal.SIGINT)


@contextmanager
def device_failures_told(checkpoints: CheckpointFolder) -> Generator[None]:
    """Turn a GPU failure in this block into an error that names the last checkpoint.

    Raises:
        TrainingError: the GPU failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_device_failure(error):
            raise
        steps = checkpoints.steps()
        last = f"the last checkpoint is of step {steps[-1]:,}" if steps else "there is no checkpoint yet"
        raise TrainingError(
            f"the GPU failed ({str(error).splitlines()[0]}); {last}; go on with --resume when the GPU works "
            "again"
        ) from error


def is_device_failure(error: RuntimeError) -> bool:
    """Whether the GPU itself failed (off the bus, uncorrectable memory error), rather than the program."""
    text = str(error)
    is_of_device = isinstance(error, torch.AcceleratorError) or text.startswith(DEVICE_FAILURE)
    return is_of_device and not any(fault in text for fault in OUR_FAULT)
