"""What an evaluation by shards reports is what one pass reports, but for rounding."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet
from tests.cluster.test_ray_executor import KillAfterResults

from wirebert.cli.main import main
from wirebert.cluster import staging
from wirebert.cluster.executors import Executor, InProcess, Job, Pool
from wirebert.cluster.plan import plan_shards
from wirebert.cluster.predict import DetectorJob
from wirebert.cluster.ray_executor import RayCluster
from wirebert.cluster.results import ShardFolder
from wirebert.cluster.storage import DigestingSink, Storage
from wirebert.data.flows import Flows, open_flows
from wirebert.errors import DataError
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.report.report import Report, read_json
from wirebert.run_folder import RunFolder
from wirebert.serialization import to_builtins
from wirebert.workflows.drift import fit_reference
from wirebert.workflows.evaluate import evaluate_flows
from wirebert.workflows.evaluate_shards import ShardedScoring

NUM_ROWS = 2_500
"""More than eighty blocks of drift of 25 flows."""


@pytest.fixture(scope="module")
def rows(table: pa.Table) -> pa.Table:
    """Labelled flows, some without a label, some with one that training lacks, few of them equal."""
    rng = np.random.default_rng(1)
    rows = table.take(pa.array(rng.integers(0, table.num_rows, NUM_ROWS), pa.int64()))
    rows = rows.set_column(4, "duration", pa.array(rng.exponential(3, NUM_ROWS)))
    labels = rng.choice(["normal", "smurf", "nmap", "worm", ""], NUM_ROWS, p=[0.4, 0.3, 0.2, 0.05, 0.05])
    return rows.set_column(rows.num_columns - 1, "label", pa.array(labels))


@pytest.fixture(scope="module")
def flows_csv(rows: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labelled") / "flows.csv"
    csv.write_csv(rows, path, csv.WriteOptions(quoting_style="none"))
    path.write_text(path.read_text().replace('"', ""))
    return path


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_bytes=40_000))


def close_to(value: Any) -> Any:
    """The same, with numbers that may differ in rounding."""
    if isinstance(value, dict):
        return {name: close_to(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [close_to(one) for one in value]
    return pytest.approx(value, abs=2e-5, nan_ok=True) if isinstance(value, float) else value


def evaluated(model: Path, flows: Flows, out: Path, executor: Executor | None, settings: str = "") -> Report:
    """The report of one pass, or by shards; the predictions are written to `out`."""
    folder = RunFolder(out)
    folder.path.mkdir(exist_ok=True)
    sharded = None
    if executor is not None:
        storage = Storage.of(f"{out}.shards")
        sharded = ShardedScoring(
            executor=executor,
            model=model,
            detector={"threads": 1},
            folder=ShardFolder(storage=storage, settings=settings, ending=".parquet"),
        )
    report = evaluate_flows(
        Detector.load(model, threads=1),
        flows,
        data="flows.csv",
        model=None,
        folder=folder,
        sharded=sharded,
        tell=lambda _: None,
    )
    assert [path.name for path in folder.path.iterdir()] == ["predictions"]
    return report


@pytest.mark.usefixtures("small_shards")
def test_report_and_predictions_are_those_of_one_pass(
    artifact: Artifact, flows_csv: Path, tmp_path: Path
) -> None:
    flows = open_flows(flows_csv, schema=artifact.schema)
    reference = fit_reference(Detector(artifact), flows.blocks())
    save_artifact(replace(artifact, reference=reference), tmp_path / "model", card="")
    reports = [
        evaluated(tmp_path / "model", flows, tmp_path / "whole", None),
        evaluated(tmp_path / "model", flows, tmp_path / "shards", InProcess()),
    ]
    for one in ("splits", "data", "columns", "settings", "training"):
        whole, shards = (to_builtins(getattr(report, one)) for report in reports)
        assert shards == close_to(whole)
    assert reports[1].columns.drift["flows"]
    assert len(reports[1].splits["flows"].mistakes) > 5
    ours, theirs = (
        parquet.read_table(RunFolder(tmp_path / n).predictions("flows")) for n in ("shards", "whole")
    )
    exact = [name for name in theirs.column_names if not pa.types.is_floating(theirs[name].type)]
    assert ours.select(exact).equals(theirs.select(exact))


class Stopping:
    """Counts what is scored, and stops before a shard too many."""

    def __init__(self, most: int) -> None:
        self.most, self.num_scored = most, 0

    def run(self, job: Job, items: Sequence[Any]) -> Iterator[Any]:
        for result in InProcess().run(job, items):
            self.num_scored += isinstance(job, DetectorJob)
            if self.num_scored > self.most:
                raise KeyboardInterrupt
            yield result

    def close(self) -> None: ...


@pytest.mark.usefixtures("small_shards")
def test_a_second_start_scores_only_what_is_missing(
    artifact: Artifact, flows_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    flows = open_flows(flows_csv, schema=artifact.schema)
    reference = fit_reference(Detector(artifact), flows.blocks())
    save_artifact(replace(artifact, reference=reference), tmp_path / "model", card="")
    starts = [partial(evaluated, tmp_path / "model", flows, tmp_path / one) for one in ("alone", "twice")]
    undisturbed = starts[0](InProcess())
    with pytest.raises(KeyboardInterrupt):
        starts[1](Stopping(2))
    with pytest.raises(DataError, match="another model or other settings, which are kept"):
        starts[1](InProcess(), settings="others")
    second = Stopping(100)
    assert to_builtins(starts[1](second).splits) == to_builtins(undisturbed.splits)
    num_shards = len(plan_shards(flows, shard_bytes=40_000).shards)
    assert f"3 of {num_shards} shards were finished before" in capfd.readouterr().err
    assert second.num_scored == num_shards - 3
    ours, theirs = (RunFolder(tmp_path / one).predictions("flows") for one in ("twice", "alone"))
    assert ours.read_bytes() == theirs.read_bytes()


def test_files_of_an_object_store_are_evaluated_as_those_of_a_folder(
    artifact: Artifact, rows: pa.Table, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    save_artifact(artifact, tmp_path / "model", card="")
    (tmp_path / "day").mkdir()
    for at in range(2):
        parquet.write_table(rows.slice(at * 1_200, 1_200), tmp_path / "day" / f"{at}.parquet")
    places = {"disk": (str(tmp_path / "day"), "--workers", "1"), "store": (f"file://{tmp_path}/day/",)}
    assert main(["evaluate", str(tmp_path / "model"), *places["store"]]) == 2
    assert "URIs need --out" in capfd.readouterr().err
    for name, words in places.items():
        assert main(["evaluate", str(tmp_path / "model"), *words, "--out", str(tmp_path / name)]) == 0
    disk, store = (read_json(tmp_path / name / "report.json") for name in places)
    assert to_builtins(store.splits) == close_to(to_builtins(disk.splits))
    usage = [one.data.test_usage["day"] for one in (disk, store)]
    assert usage[0].sha256 == usage[1].sha256
    assert RunFolder(tmp_path / "store").predictions("day").exists()


@pytest.mark.usefixtures("small_shards")
def test_a_full_disk_is_told_in_a_sentence(
    artifact: Artifact, flows_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(_sink: object, _data: object) -> int:
        raise OSError(28, "No space left on device")

    save_artifact(artifact, tmp_path / "model", card="")
    monkeypatch.setattr(DigestingSink, "write", full)
    with pytest.raises(DataError, match=r"cannot write \(No space left on device\); make room"):
        evaluated(
            tmp_path / "model", open_flows(flows_csv, schema=artifact.schema), tmp_path / "out", InProcess()
        )


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore")
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("executor", "name"), [(Pool(2), "spawn_main"), (RayCluster("local", 2), "ray::_Worker")]
)
def test_an_evaluation_is_the_same_after_five_kills_of_each_job(
    executor: Executor,
    name: str,
    artifact: Artifact,
    flows_csv: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_bytes=10_000))
    save_artifact(artifact, tmp_path / "model", card="")
    flows = open_flows(flows_csv, schema=artifact.schema)
    killing = KillAfterResults(executor, name)
    with closing(executor):
        reports = [
            evaluated(tmp_path / "model", flows, tmp_path / "alone", InProcess()),
            evaluated(tmp_path / "model", flows, tmp_path / "killed", killing),
        ]
    assert killing.num_killed == 15  # while rows were counted, profiled and scored
    assert to_builtins(reports[1].splits) == to_builtins(reports[0].splits)
    ours, theirs = (RunFolder(tmp_path / one).predictions("flows") for one in ("killed", "alone"))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_an_evaluation_that_is_killed_goes_on_where_it_was(
    artifact: Artifact, flows_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_artifact(artifact, tmp_path / "model", card="")
    (tmp_path / "day").mkdir()
    for at in range(12):
        shutil.copy(flows_csv, tmp_path / "day" / f"{at:02d}.csv")
    command = ["evaluate", str(tmp_path / "model"), str(tmp_path / "day"), "--workers", "1", "--out"]
    process = subprocess.Popen([sys.executable, "-m", "wirebert", *command, str(tmp_path / "killed")])
    about = tmp_path / "killed.shards" / "_shards"
    while len([*about.glob("????????????????.json")]) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    num_finished = len([*about.glob("????????????????.json")])
    assert main([*command, str(tmp_path / "killed")]) == 0
    assert f"{num_finished} of 12 shards were finished before" in capfd.readouterr().err
    assert not about.parent.exists()
    assert main([*command, str(tmp_path / "alone")]) == 0
    ours, theirs = (read_json(tmp_path / one / "report.json") for one in ("killed", "alone"))
    assert to_builtins(ours.splits) == to_builtins(theirs.splits)
    assert main([*command, str(tmp_path / "killed")]) == 2
    assert "expected a new or empty folder" in capfd.readouterr().err


@pytest.mark.soak
@pytest.mark.usefixtures("small_shards")
def test_the_command_scores_by_a_pool_and_needs_a_folder(
    artifact: Artifact, flows_csv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    save_artifact(artifact, tmp_path / "model", card="")
    command = ["evaluate", str(tmp_path / "model"), str(flows_csv)]
    assert main([*command, "--workers", "2"]) == 2
    assert "need --out" in capfd.readouterr().err
    assert main([*command, "--out", str(tmp_path / "plain")]) == 0
    assert main([*command, "--out", str(tmp_path / "pool"), "--workers", "2"]) == 0
    plain, pool = (read_json(tmp_path / name / "report.json") for name in ("plain", "pool"))
    assert to_builtins(pool.splits) == close_to(to_builtins(plain.splits))
    assert not (tmp_path / "pool.shards").exists()
