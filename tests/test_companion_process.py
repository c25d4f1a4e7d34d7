import gc
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wirebert.companion_process import CompanionProcess
from wirebert.errors import DataError


def add(receive: Callable[[], int]) -> tuple[int, int]:
    return receive() + receive(), os.getpid()


def refuse(receive: Callable[[], str]) -> None:
    raise DataError(f"no {receive()}")


def start_and_wait(receive: Callable[[], Path]) -> int:
    path = receive()
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "":  # the other process
        path.write_text(str(os.getpid()))
        receive()
    return os.getpid()


def pid_in(path: Path) -> int:
    limit_s = time.monotonic() + 60
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < limit_s
        time.sleep(0.02)
    return int(path.read_text())


@pytest.mark.parametrize("is_separate", [False, True])
def test_a_function_gets_its_messages_in_order_in_the_process_asked_for(is_separate: bool):
    companion = CompanionProcess(add, is_separate=is_separate)
    companion.send(1)
    companion.send(2)
    assert companion.result()[0] == 3
    assert (companion.result()[1] != os.getpid()) == is_separate


@pytest.mark.parametrize("is_separate", [False, True])
def test_an_error_is_raised_where_the_result_is_awaited(is_separate: bool):
    companion: CompanionProcess[Any] = CompanionProcess(refuse, is_separate=is_separate)
    companion.send("rows")
    with pytest.raises(DataError, match="no rows"):
        companion.result()


def test_the_work_of_a_killed_process_is_done_here(tmp_path: Path):
    companion = CompanionProcess(start_and_wait, is_separate=True)
    companion.send(tmp_path / "pid")
    os.kill(pid_in(tmp_path / "pid"), signal.SIGKILL)
    assert companion.result() == os.getpid()


def test_a_process_ends_with_the_last_reference_to_it(tmp_path: Path):
    companion = CompanionProcess(start_and_wait, is_separate=True)
    companion.send(tmp_path / "pid")
    pid = pid_in(tmp_path / "pid")
    del companion
    gc.collect()
    assert not Path(f"/proc/{pid}").exists()
