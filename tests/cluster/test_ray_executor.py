"""Ray starts slowly, so what needs it is run by `make soak`; what is said without it, always."""

import hashlib
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cluster.test_context import SCHEMA, random_log, written

from wirebert.cli.main import main
from wirebert.cluster import executors, staging
from wirebert.cluster.executors import Executor, InProcess, Job, Pool
from wirebert.cluster.plan import plan_shards
from wirebert.cluster.profile import profile_by_shards
from wirebert.cluster.ray_executor import RayCluster, import_ray
from wirebert.config import resolve_run
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import DataConfig, open_flows
from wirebert.inference.artifact import load_artifact
from wirebert.run_folder import RunFolder
from wirebert.serialization import to_builtins
from wirebert.workflows.inspect import inspect_data
from wirebert.workflows.prepare import encode, fit_tokenizer, prepare, write_typed_rows


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_bytes=3_000, shard_rows=200))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("part-*"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def predict(model: Path, data: Path, out: Path, *more: str) -> int:
    return main(["predict", str(model), str(data), "--out", f"{out}/", *more])


def test_without_ray_the_extra_is_named_before_anything_is_read(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert predict(model, tmp_path / "missing.csv", tmp_path / "out", "--cluster", "local") == 2
    assert "pip install 'wirebert[ray]'" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="a setting of GNU's C library")
def test_a_worker_that_has_taken_up_a_job_keeps_the_memory_that_an_item_frees():
    script = """
import numpy as np, psutil
from unittest.mock import MagicMock
from wirebert.cluster import ray_executor

def left_of_an_item():
    before = psutil.Process().memory_info().rss
    blocks = [np.ones(20 << 20, np.uint8) for _ in range(4)]
    del blocks
    return (psutil.Process().memory_info().rss - before) >> 20

print(left_of_an_item())
ray_executor.import_ray = MagicMock()
ray_executor._Worker().begin(None)
print(left_of_an_item())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert given_back < 10
    assert kept > 60


@pytest.fixture
def two_nodes() -> Iterator[Any]:
    """A cluster of two nodes, as processes of this machine, of one core each."""
    ray = import_ray()
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "memory": 2 << 30, "object_store_memory": 100 << 20}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    cluster.add_node(**node)
    cluster.wait_for_nodes()
    yield cluster
    ray.shutdown()
    cluster.shutdown()


def children(names: tuple[str, ...]) -> list[int]:
    """The processes below this one whose command holds one of the names."""
    found: list[int] = []
    parents: dict[int, int] = {}
    commands: dict[int, str] = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            commands[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    for process, command in commands.items():
        above = process
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() and process != os.getpid() and any(name in command for name in names):
            found.append(process)
    return found


class Killer(threading.Thread):
    """Kills a worker each time that new shards are there, five times."""

    def __init__(self, out: Path, names: tuple[str, ...]) -> None:
        super().__init__(daemon=True)
        self.out, self.names, self.num_killed, self.is_over = out, names, 0, False

    def run(self) -> None:
        seen = 0
        while not self.is_over and self.num_killed < 5:
            time.sleep(0.02)
            finished = len(list(self.out.glob("part-*")))
            workers = children(self.names)
            if finished > seen and workers:
                os.kill(workers[-1], signal.SIGKILL)
                self.num_killed, seen = self.num_killed + 1, finished


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("options", "names"),
    [
        (("--workers", "2"), ("spawn_main",)),
        (("--cluster", "local", "--workers", "2"), ("ray::_Worker",)),
    ],
)
def test_workers_that_are_killed_five_times_leave_the_same_bytes(
    options: tuple[str, ...],
    names: tuple[str, ...],
    model: Path,
    traffic_files: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    assert predict(model, traffic_files["csv"], tmp_path / "alone") == 0
    killer = Killer(tmp_path / "killed", names)
    killer.start()
    assert predict(model, traffic_files["csv"], tmp_path / "killed", *options) == 0
    killer.is_over = True
    killer.join()
    assert killer.num_killed == 5, capfd.readouterr().err
    assert "a worker died" in capfd.readouterr().err
    assert digests(tmp_path / "killed") == digests(tmp_path / "alone")
    assert len(digests(tmp_path / "alone")) > 15
    left = [path.name for path in (tmp_path / "killed").iterdir() if not path.name.startswith("part-")]
    assert left == ["_shards"]


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_two_nodes_write_the_shard_files_of_one_process_and_go_on_when_one_dies(
    model: Path,
    two_nodes: Any,
    traffic_files: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    data = tmp_path / "in"
    data.mkdir()
    for at in range(15):  # enough that the node dies before all is done
        shutil.copy(traffic_files["csv"], data / f"{at}.csv")
    assert predict(model, data, tmp_path / "alone") == 0
    address = ("--cluster", two_nodes.address)
    assert predict(model, data, tmp_path / "nodes", *address) == 0
    assert digests(tmp_path / "nodes") == digests(tmp_path / "alone")
    second = two_nodes.list_all_nodes()[-1]

    def end_node() -> None:
        while not list((tmp_path / "dying").glob("part-*")):
            time.sleep(0.05)
        two_nodes.remove_node(second, allow_graceful=False)

    ending = threading.Thread(target=end_node, daemon=True)
    ending.start()
    assert predict(model, data, tmp_path / "dying", *address) == 0
    ending.join()
    assert digests(tmp_path / "dying") == digests(tmp_path / "alone")
    told = capfd.readouterr().err
    assert "died" in told


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_address_where_no_cluster_is_told_in_a_sentence(
    model: Path, traffic_files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    data = traffic_files["csv"]
    assert predict(model, data, tmp_path / "out", "--cluster", "127.0.0.1:1") == 2
    assert "cannot be reached" in capfd.readouterr().err


class KillAfterResults:
    """Kills a worker after each of the first five results of a job."""

    def __init__(self, executor: Executor, name: str) -> None:
        self.executor, self.name, self.num_killed = executor, name, 0

    def run(self, job: Job, items: Sequence[Any]) -> Iterator[Any]:
        before = self.num_killed
        for result in self.executor.run(job, items):
            workers = children((self.name,))
            if self.num_killed < before + 5 and workers:
                os.kill(workers[-1], signal.SIGKILL)
                self.num_killed += 1
            yield result

    def close(self) -> None:
        self.executor.close()


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("executor", "name"), [(Pool(2), "spawn_main"), (RayCluster("local", 2), "ray::_Worker")]
)
def test_profile_tokenizer_and_store_are_the_same_after_five_kills_each(
    executor: Executor,
    name: str,
    traffic_files: dict[str, Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
):
    given: dict[str, object] = {"train": str(traffic_files["csv"]), "data": {"max_invalid_fraction": 0.5}}
    run = resolve_run(None, [], given)
    plain = inspect_data(run.train, run.data).to_json()
    killing = KillAfterResults(executor, name)
    assert (
        inspect_data(run.train, run.data, (), partial(profile_by_shards, executor=killing)).to_json() == plain
    )
    assert killing.num_killed == 10  # while rows were counted, and while they were profiled
    stores: list[dict[str, bytes]] = []
    with closing(executor):
        for which, one in (("plain", InProcess()), ("killed", executor)):
            folder = RunFolder(tmp_path / which)
            folder.path.mkdir()
            data, cache = prepare(run, write_typed_rows(run, folder, one)), folder.encoded
            steps = [KillAfterResults(one, name if which == "killed" else "none") for _ in range(2)]
            tokenizer = fit_tokenizer(run, data, cache, steps[0])
            encode(data.train, data, tokenizer, cache, (), steps[1])
            assert [step.num_killed for step in steps] == ([5, 5] if which == "killed" else [0, 0])
            files = [*cache.glob("*.tokenizer.json"), *cache.glob("*/*.bin"), *cache.glob("*/store.json")]
            stores.append({str(path.relative_to(cache)): path.read_bytes() for path in files})
    assert stores[0] == stores[1]
    told = capfd.readouterr()
    assert told.err.count("a worker died") >= 5  # workers that die together are told once
    assert not told.out


class TakesTurns:
    """A job whose results tell the process, and which item it worked on before within this job."""

    def load(self) -> Callable[[int], tuple[int, int]]:
        before = [-1]

        def work(item: int) -> tuple[int, int]:
            time.sleep(0.2)
            before.append(item)
            return os.getpid(), before[-2]

        return work


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
def test_workers_stay_for_the_next_job_and_go_on_while_a_result_is_looked_at():
    with closing(RayCluster("local", 2)) as cluster:
        first = list(cluster.run(TakesTurns(), range(8)))
        second: list[tuple[int, int]] = []
        start = time.monotonic()
        for result in cluster.run(TakesTurns(), range(8)):
            second.append(result)
            if len(second) == 1:
                time.sleep(2.0)  # meanwhile each worker finishes the item it has and the next one
                start = time.monotonic()
            if len(second) == 4:
                assert time.monotonic() - start < 0.15
        workers = {process for process, _ in first}
        assert len(workers) == 2
        assert {process for process, _ in second} == workers
        assert sorted(before for _, before in second)[:2] == [-1, -1]  # the job before is forgotten
        cluster.end_workers()
        assert not {process for process, _ in cluster.run(TakesTurns(), range(8))} & workers


class WithNode:
    """A job whose results tell on which node they were made; slow, so that all nodes have a part of it.

    Its second item on the node that ends takes a worker longer than the end of the node.
    """

    def __init__(self, job: Job, ending: str) -> None:
        self.job, self.ending = job, ending

    def load(self) -> Callable[[Any], tuple[str, Any]]:
        work, node = self.job.load(), import_ray().get_runtime_context().get_node_id()
        is_first = True

        def slow(item: Any) -> tuple[str, Any]:
            nonlocal is_first
            time.sleep(0.3 if is_first or node != self.ending else 20.0)
            is_first = False
            return node, work(item)

        return slow


class EndNode:
    """Ends a node of two workers as soon as it has a result of a job."""

    def __init__(self, cluster: Any, job: str) -> None:
        self.cluster, self.executor, self.job, self.is_over = cluster, RayCluster(cluster.address), job, False
        self.node = cluster.add_node(num_cpus=2, memory=2 << 30, object_store_memory=100 << 20)
        cluster.wait_for_nodes()

    def run(self, job: Job, items: Sequence[Any]) -> Iterator[Any]:
        if self.is_over or type(getattr(job, "job", job)).__name__ != self.job:
            yield from self.executor.run(job, items)
            return
        for node, result in self.executor.run(WithNode(job, self.node.node_id), items):
            if node == self.node.node_id and not self.is_over:
                self.cluster.remove_node(self.node, allow_graceful=False)
                self.is_over = True
            yield result

    def close(self) -> None: ...


def inspected(executor: Executor, traffic: Path, _folder: Path, _model: Path) -> object:
    """What `inspect --json` prints."""
    config = DataConfig(max_invalid_fraction=0.5)
    return inspect_data(str(traffic), config, (), partial(profile_by_shards, executor=executor)).to_json()


def encoded(executor: Executor, traffic: Path, folder: Path, _model: Path) -> object:
    """The files of tokenizer and encoded flows."""
    given: dict[str, object] = {"train": str(traffic), "data": {"max_invalid_fraction": 0.5}}
    run, made = resolve_run(None, [], given), RunFolder(folder)
    data, cache = prepare(run, write_typed_rows(run, made, executor)), made.encoded
    encode(data.train, data, fit_tokenizer(run, data, cache, executor), cache, (), executor)
    files = [*cache.glob("*.tokenizer.json"), *cache.glob("*/*.bin"), *cache.glob("*/store.json")]
    return {str(path.relative_to(cache)): path.read_bytes() for path in files}


def scored_with_labels(executor: Executor, traffic: Path, folder: Path, model: Path) -> object:
    """Metrics and predictions of `evaluate`."""
    from tests.workflows.test_evaluate_shards import evaluated

    flows = open_flows(traffic, DataConfig(max_invalid_fraction=0.5), schema=load_artifact(model).schema)
    report = evaluated(model, flows, folder / "out", executor)
    return to_builtins(report.splits), RunFolder(folder / "out").predictions(flows.name).read_bytes()


def with_context(executor: Executor, _traffic: Path, folder: Path, _model: Path) -> object:
    """Columns of a log with context."""
    flows = open_flows(written(folder / "log", random_log(4, 600), [120], 40), schema=SCHEMA)
    found = profile_by_shards(flows, executor)
    return found.columns, found.feature_hashes.tobytes()


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("job", "do"),
    [
        ("ProfileShards", inspected),
        ("CountValues", encoded),
        ("EncodePieces", encoded),
        ("DetectorJob", scored_with_labels),
        ("ReadEndpoints", with_context),
    ],
)
def test_a_node_that_dies_is_told_in_one_sentence_and_the_others_go_on(
    job: str,
    do: Callable[[Executor, Path, Path, Path], object],
    two_nodes: Any,
    model: Path,
    traffic_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setattr(executors, "MAX_LOSSES", 0)  # its workers are no losses
    if job == "ReadEndpoints":
        monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_rows=30))
    ending, found = EndNode(two_nodes, job), list[object]()
    for name, executor in (("alone", InProcess()), ("dying", ending)):
        (tmp_path / name).mkdir()
        found.append(do(executor, traffic_files["csv"], tmp_path / name, model))
    assert ending.is_over
    assert found[0] == found[1]
    told = capfd.readouterr().err
    assert told.count(" nodes died; their shards are done again elsewhere") == 1, told
    assert "a worker" not in told.replace("MB a worker", "")


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("executor", "name"), [(Pool(2), "spawn_main"), (RayCluster("local", 2), "ray::_Worker")]
)
def test_context_columns_are_the_same_after_five_kills_each(
    executor: Executor, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_rows=30))
    flows = open_flows(written(tmp_path / "in", random_log(4, 600), [120], 40), schema=SCHEMA)
    killing = KillAfterResults(executor, name)
    with closing(executor):
        ours, theirs = profile_by_shards(flows, killing), profile_table(flows)
    assert killing.num_killed >= 10  # while ends were read, and while their columns were appended
    assert ours.columns == theirs.columns
    assert ours.sample.table.equals(theirs.sample.table)
    np.testing.assert_array_equal(ours.feature_hashes, theirs.feature_hashes)
