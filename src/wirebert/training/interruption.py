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
"""Failures that come from what a program asks of a GPU: a bug, which keeps its traceback."""

DEVICE_FAILURE: Final = ("CUDA error", "CUDA driver error", "cuDNN error")


@final
class Termination:
    """Delays SIGTERM, and Ctrl-C if asked, until training is between two steps. A context of the main thread.

    Machines that take a job away (pre-emption) send SIGTERM and, after half a minute or so, SIGKILL.
    """

    def __init__(self, *, waits_for_others: bool = False) -> None:
        """`waits_for_others`: several processes stop after the same step, so none may stop at once."""
        self.asked = 0
        """The number of the signal that has come; 0: none."""
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
        """Stop here if a signal has come.

        Raises:
            KeyboardInterrupt: it has; SIGTERM is `Terminated`.
        """
        stop_for(self.asked)

    @contextmanager
    def at_once(self) -> Generator[None]:
        """SIGTERM does not wait until this block is done: for what takes long and changes nothing."""
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
    """Stop here for the signal of this number, if it is one.

    Raises:
        KeyboardInterrupt: it is SIGINT.
        Terminated: it is SIGTERM.
    """
    if number == signal.SIGTERM:
        raise Terminated
    if number == signal.SIGINT:
        raise KeyboardInterrupt


@contextmanager
def sigterm_as_exception() -> Generator[None]:
    """SIGTERM raises `Terminated` in this block, as Ctrl-C raises KeyboardInterrupt."""
    with Termination() as termination, termination.at_once():
        yield


@contextmanager
def defer_signals() -> Generator[None]:
    """Ctrl-C waits until the block is done: a half-made update could not be continued from."""
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
    """A GPU that fails in this block is a sentence that names the last checkpoint.

    Raises:
        TrainingError: it failed.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_device_failure(error):
            raise
        steps = checkpoints.steps()
        kept = f"the last checkpoint is of step {steps[-1]:,}" if steps else "there is no checkpoint yet"
        raise TrainingError(
            f"the GPU failed ({str(error).splitlines()[0]}); {kept}; go on with --resume when the GPU works "
            "again"
        ) from error


def is_device_failure(error: RuntimeError) -> bool:
    """Whether a GPU failed (fell off the bus, an uncorrectable memory error), rather than was asked for
    nonsense."""
    text = str(error)
    is_of_device = isinstance(error, torch.AcceleratorError) or text.startswith(DEVICE_FAILURE)
    return is_of_device and not any(fault in text for fault in OUR_FAULT)
