"""The verdicts of shards are those of the whole file: every executor writes the same bytes."""

import hashlib
import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv, parquet

from wirebert.cli.main import main
from wirebert.cluster import staging
from wirebert.cluster.plan import plan_shards
from wirebert.cluster.predict import fingerprint
from wirebert.data.flows import open_flows
from wirebert.inference.artifact import load_artifact
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import predict_blocks


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these tests have several shards."""
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_bytes=12_000, shard_rows=200))


def predict(model: Path, data: Path | str, out: str, *more: str) -> int:
    return main(["predict", str(model), str(data), "--out", out, *more])


def digests(folder: Path) -> dict[str, str]:
    """The shard files below a folder and their sha256."""
    files = sorted(path for path in folder.rglob("part-*") if "_shards" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_a_single_file_is_the_shards_of_the_plan_one_after_the_other(
    name: str, model: Path, traffic_files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    data = traffic_files[name]
    assert predict(model, data, str(tmp_path / "plain.csv"), "--workers", "1") == 0
    plain = capfd.readouterr().err
    assert predict(model, data, str(tmp_path / "one.csv")) == 0
    whole, single = (csv.read_csv(tmp_path / file) for file in ("plain.csv", "one.csv"))
    assert whole.column_names == single.column_names
    for ours, theirs in zip(whole.columns, single.columns, strict=True):  # batches change last digits
        if pa.types.is_floating(ours.type):
            np.testing.assert_allclose(ours.to_numpy(), theirs.to_numpy(), atol=1e-5)
        else:
            assert ours.equals(theirs)
    capfd.readouterr()
    assert predict(model, data, f"{tmp_path}/shards.csv/") == 0
    sharded = capfd.readouterr().err
    files = sorted((tmp_path / "shards.csv").glob("part-*"))
    assert len(files) > 3
    header = (tmp_path / "plain.csv").read_bytes().partition(b"\n")[0] + b"\n"
    texts = [path.read_bytes() for path in files]
    assert all(text.startswith(header) for text in texts)
    joined = header + b"".join(text.removeprefix(header) for text in texts)
    assert joined == (tmp_path / "plain.csv").read_bytes()
    rejected = [tmp_path / f"{name}.csv.rejected.jsonl" for name in ("plain", "shards")]
    if name == "csv":
        assert rejected[0].read_bytes() == rejected[1].read_bytes()
        assert "set_aside" in plain
    told = [{line for line in text.splitlines() if " flows by " not in line} for text in (plain, sharded)]
    assert told[0] == told[1]


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_rows_lines_and_findings_are_those_of_one_pass_over_the_file(
    name: str, model: Path, traffic_files: dict[str, Path], tmp_path: Path
):
    detector = Detector(load_artifact(model), threads=1)
    flows = open_flows(traffic_files[name], schema=detector.schema)
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    whole = pa.concat_tables(predict_blocks(detector, flows, fit))
    assert predict(model, traffic_files[name], f"{tmp_path}/shards/") == 0
    shards = [parquet.read_table(path) for path in sorted((tmp_path / "shards").glob("part-*"))]
    sharded = pa.concat_tables(shards)
    assert sharded.column_names == whole.column_names
    exact = [column for column in whole.column_names if not pa.types.is_floating(whole[column].type)]
    assert sharded.select(exact).equals(whole.select(exact).cast(sharded.select(exact).schema))
    for column in set(whole.column_names) - set(exact):
        ours, theirs = sharded[column].to_numpy(), whole[column].to_numpy()
        assert ours == pytest.approx(theirs, abs=1e-6, nan_ok=True)


@pytest.mark.slow
def test_a_pool_writes_the_bytes_of_one_process(model: Path, traffic_files: dict[str, Path], tmp_path: Path):
    folder = tmp_path / "in" / "day=2026-11-29" / "sensor=a"
    folder.mkdir(parents=True)
    for at in range(2):
        shutil.copy(traffic_files["csv"], folder / f"{at}.csv")
    assert predict(model, tmp_path / "in", f"{tmp_path}/alone/") == 0
    assert predict(model, tmp_path / "in", f"{tmp_path}/pool/", "--workers", "2") == 0
    alone = digests(tmp_path / "alone")
    assert alone == digests(tmp_path / "pool")
    assert all(name.startswith("day=2026-11-29/sensor=a/part-") for name in alone)
    about = [tmp_path / name / "_shards" / "manifest.json" for name in ("alone", "pool")]
    assert about[0].read_bytes() == about[1].read_bytes()
    manifest = json.loads(about[0].read_text())
    assert [one["sha256"] for one in manifest["shards"]] == list(alone.values())


def test_a_fingerprint_names_model_and_settings_but_not_threads(model: Path, tmp_path: Path):
    settings: dict[str, Any] = {"fpr": None, "threads": 1}
    one = fingerprint(model, settings, None)
    assert fingerprint(model, {"fpr": None, "threads": 2}, None) == one
    other = tmp_path / "other"
    other.mkdir()
    (other / "wirebert.json").write_text("{}")
    assert len({one, fingerprint(model, {"fpr": 0.01}, None), fingerprint(model, settings, "all")}) == 3
    assert fingerprint(other, settings, None) != one
