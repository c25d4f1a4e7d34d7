import os
import signal
import threading
from pathlib import Path

import pytest
import torch

from wirebert.errors import Terminated
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.interruption import (
    Termination,
    defer_signals,
    device_failures_told,
    is_device_failure,
    sigterm_as_exception,
)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_waits_until_it_is_asked_for():
    reached: list[str] = []

    def step() -> None:
        with Termination() as termination:
            terminate()
            reached.append("the end of the step")
            termination.check()
            reached.append("the next step")

    with pytest.raises(Terminated):
        step()
    assert reached == ["the end of the step"]


def test_sigterm_stops_at_once_what_changes_nothing():
    reached: list[str] = []

    def evaluate() -> None:
        with Termination() as termination, termination.at_once():
            terminate()
            reached.append("the end")

    with pytest.raises(Terminated):
        evaluate()
    assert reached == []


def test_sigterm_that_came_before_stops_what_would_take_long():
    reached: list[str] = []

    def evaluate() -> None:
        with Termination() as termination:
            terminate()
            with termination.at_once():
                reached.append("the beginning")

    with pytest.raises(Terminated):
        evaluate()
    assert reached == []


def test_sigterm_that_no_one_asked_for_is_not_forgotten():
    with pytest.raises(Terminated), Termination():
        terminate()


def test_handler_before_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with sigterm_as_exception():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_in_another_thread_nothing_is_changed():
    before = signal.getsignal(signal.SIGTERM)
    found: list[object] = []

    def look() -> None:
        with Termination():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert found == [before]


def test_ctrl_c_waits_for_the_end_of_the_update():
    done: list[bool] = []

    def update() -> None:
        with defer_signals():
            signal.raise_signal(signal.SIGINT)
            done.append(True)

    with pytest.raises(KeyboardInterrupt):
        update()
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("error", "is_failure"),
    [
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), True),
        (torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling cublasGemmEx"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False),
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered"), False),
        (torch.OutOfMemoryError("CUDA out of memory."), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_a_gpu_that_fails_is_told_from_a_bug(error: RuntimeError, is_failure: bool):
    assert is_device_failure(error) is is_failure


def test_a_bug_keeps_its_own_words(tmp_path: Path):
    with pytest.raises(RuntimeError, match=r"^mat1"), device_failures_told(CheckpointFolder(tmp_path)):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")
