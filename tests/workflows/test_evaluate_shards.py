"""What an evaluation by shards reports is what one pass reports, but for rounding."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from wirebert.cli.main import main
from wirebert.cluster import staging
from wirebert.cluster.executors import InProcess
from wirebert.cluster.plan import plan_shards
from wirebert.cluster.storage import Storage
from wirebert.data.flows import open_flows
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.report.report import read_json
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


@pytest.mark.usefixtures("small_shards")
def test_report_and_predictions_are_those_of_one_pass(
    artifact: Artifact, flows_csv: Path, tmp_path: Path
) -> None:
    flows = open_flows(flows_csv, schema=artifact.schema)
    reference = fit_reference(Detector(artifact), flows.blocks())
    save_artifact(replace(artifact, reference=reference), tmp_path / "model", card="")
    reports: list[Any] = []
    for name in ("whole", "shards"):
        folder = RunFolder(tmp_path / name)
        folder.path.mkdir()
        detector = Detector.load(tmp_path / "model")
        sharded = ShardedScoring(
            executor=InProcess(),
            model=tmp_path / "model",
            detector={},
            folder=Storage.of(str(folder.path / "shards")),
        )
        report = evaluate_flows(
            detector,
            flows,
            data="flows.csv",
            model=None,
            folder=folder,
            sharded=None if name == "whole" else sharded,
            tell=lambda _: None,
        )
        assert [path.name for path in folder.path.iterdir()] == ["predictions"]
        reports.append(report)
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
    assert not (tmp_path / "pool" / "shards").exists()
