import multiprocessing.spawn
import multiprocessing.util
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import AuthenticationError, current_process
from multiprocessing.connection import Client, Connection
from pathlib import Path
from threading import Thread

import pyarrow as pa
import pytest

from wirebert.cluster.executors import MAX_LOSSES, InProcess, Losses, Pool, serve_job
from wirebert.cluster.staging import CountRows
from wirebert.data.flows import open_flows
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError


@dataclass(frozen=True)
class Squares:
    """A job that counts how often it is loaded."""

    loaded: list[int]

    def load(self) -> Callable[[int], int]:
        self.loaded.append(1)
        return lambda number: number * number


def test_this_process_loads_a_job_once_and_not_for_nothing():
    job = Squares([])
    assert list(InProcess().run(job, [])) == []
    assert job.loaded == []
    assert list(InProcess().run(job, [1, 2, 3])) == [1, 4, 9]
    assert job.loaded == [1]


@dataclass(frozen=True)
class ThreadsOfArrow:
    """A job that tells how many threads a library of the worker uses."""

    def load(self) -> Callable[[int], int]:
        return lambda _: pa.cpu_count()


@pytest.mark.slow
def test_libraries_of_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wirebert.cluster.executors.num_processors", lambda: 12)
    before = dict(os.environ)
    assert set(Pool(2).run(ThreadsOfArrow(), [1, 2])) == {6}
    assert dict(os.environ) == before


@pytest.mark.slow
def test_a_refusal_in_a_worker_is_the_one_of_the_command(
    traffic_files: dict[str, Path], schema: FlowSchema, tmp_path: Path
):
    path = tmp_path / "flows.parquet"
    path.write_bytes(traffic_files["parquet"].read_bytes())
    from wirebert.cluster.plan import Shard

    flows = open_flows(path, schema=schema)
    path.write_bytes(b"PAR1" * 9)
    shard = Shard(part=0, path="x", size_bytes=36, unit="file")
    with pytest.raises(DataError, match="damaged"):
        list(Pool(1).run(CountRows(flows), [shard]))


def test_workers_that_die_again_and_again_end_the_work(capfd: pytest.CaptureFixture[str]):
    losses = Losses()
    for _ in range(MAX_LOSSES):
        losses.add_shards(7)
    assert "7 shards are left" in capfd.readouterr().err
    losses.forget()
    for _ in range(MAX_LOSSES):
        losses.add_shards(7)
    with pytest.raises(DataError, match="fewer workers"):
        losses.add_shards(7)


@dataclass(frozen=True)
class Leaves:
    """A job that leaves a file for each item it was given."""

    folder: Path

    def load(self) -> Callable[[int], int]:
        return self._leave

    def _leave(self, number: int) -> int:
        (self.folder / str(number)).touch()
        return number


@pytest.mark.slow
def test_results_that_nobody_takes_hold_up_the_pool(tmp_path: Path):
    results = Pool(2).run(Leaves(tmp_path), range(40))
    first = next(results)
    time.sleep(1)
    assert len([*tmp_path.iterdir()]) <= 4
    assert sorted([first, *results]) == [*range(40)]


@dataclass(frozen=True)
class DiesWithinAnswer:
    """A job whose worker is killed when it has sent the beginning of its first answer."""

    killed: Path

    def load(self) -> Callable[[int], bytes]:
        return self._answer

    def _answer(self, number: int) -> bytes:
        if number == 0 and not self.killed.exists():
            self.killed.touch()

            def begin(connection: Connection, content: bytes) -> None:
                os.write(connection.fileno(), bytes(content[:1_000]))
                os.kill(os.getpid(), signal.SIGKILL)

            Connection._send = begin  # pyright: ignore
        return bytes([number]) * 100_000


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_a_worker_that_is_killed_within_its_answer_does_not_hold_up_the_pool(tmp_path: Path):
    answers = Pool(2).run(DiesWithinAnswer(tmp_path / "killed"), range(6))
    assert sorted(answer[0] for answer in answers) == [*range(6)]
    assert (tmp_path / "killed").exists()


@dataclass(frozen=True)
class Long:
    """A job of more bytes than a pipe holds."""

    text: str

    def load(self) -> Callable[[int], int]:
        return lambda number: number + len(self.text)


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_that_are_killed_before_they_read_anything_do_not_hold_up_the_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_workers: int
):
    python = tmp_path / "python"
    python.write_text(
        f"""#!/bin/sh
        case "$*" in *spawn_main*)  # not Python's own helper
            for number in 1 2 3; do mkdir {tmp_path}/$number 2>/dev/null && kill -9 $$; done
        esac
        exec {sys.executable} "$@"
        """
    )
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(multiprocessing.spawn, "_python_exe", os.fsencode(python))
    job = Long("x" * 3_000_000)
    assert sorted(Pool(num_workers).run(job, range(5))) == [3_000_000 + number for number in range(5)]
    assert (tmp_path / "3").exists()


@pytest.mark.slow
def test_no_worker_is_added_to_a_pool_that_works(monkeypatch: pytest.MonkeyPatch):
    def fail(_: ProcessPoolExecutor) -> None:
        raise AssertionError

    monkeypatch.setattr(ProcessPoolExecutor, "_adjust_process_count", fail)
    assert sorted(Pool(2).run(Long("abc"), [1, 2, 3])) == [4, 5, 6]


def test_a_job_is_handed_only_to_those_with_the_key():
    with serve_job(Long("abc")) as address:
        assert Path(address).parent.stat().st_mode & 0o077 == 0
        with pytest.raises(AuthenticationError):
            Client(address, authkey=b"another")
        with Client(address, authkey=current_process().authkey) as connection:
            assert connection.recv() == Long("abc")
    assert not Path(address).exists()


def test_a_job_that_ends_as_the_last_worker_fetches_it_holds_up_nobody():
    key = current_process().authkey

    def fetch_often() -> None:
        for _ in range(300):
            with serve_job(Long("abc")) as address, Client(address, authkey=key) as connection:
                connection.recv()

    thread = Thread(target=fetch_often, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()


@pytest.mark.slow
def test_a_temporary_folder_may_have_a_long_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    monkeypatch.setattr(multiprocessing.util, "get_temp_dir", lambda: str(folder))
    assert sorted(Pool(1).run(Long("abc"), [1, 2])) == [4, 5]
