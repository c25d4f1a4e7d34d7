"""The profile by shards is that of one pass, whatever the format; and inspect says the same of it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wirebert.cli.main import main
from wirebert.cluster import staging
from wirebert.cluster.executors import InProcess, Job
from wirebert.cluster.plan import plan_shards
from wirebert.cluster.profile import profile_by_shards
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import DataConfig, open_flows
from wirebert.errors import DataError, SchemaError


class Backwards:
    """The last shard first."""

    def run(self, job: Job, items: Sequence[Any]) -> Iterator[Any]:
        return map(job.load(), reversed(items))

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these tests have several shards."""
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_bytes=12_000, shard_rows=200))


LENIENT = DataConfig(max_invalid_fraction=0.5)


HEADER = "#separator \\x09\n#path\tconn\n#fields\t"
FIELDS = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration conn_state history".split()


def zeek_log(kind: str) -> str:
    """A conn.log, with a header and an end within, that may change the layout; and with broken rows."""
    rng = np.random.default_rng(3)
    rows: list[str] = []
    for at in range(900):
        ends = [f"10.0.0.{rng.integers(9)}", str(rng.integers(1024, 9000)), "10.1.0.1", "80", "tcp", "-"]
        row = [f"{1.7e9 + at:.6f}", f"C{at}", *ends, f"{rng.exponential():.3f}", "SF", "ShAD"]
        rows.append(json.dumps(dict(zip(FIELDS, row, strict=True))) if kind == "json" else "\t".join(row))
    for at in range(40, 900, 97):
        rows[at] = ("broken", "", "caf\ufffd")[at % 3]
    if kind == "json":
        return "\n".join(rows) + "\n"
    header = HEADER + "\t".join(FIELDS)
    other = header if kind == "tabs" else header.removesuffix("\thistory")
    rows[500:500] = ["#close\t2026-11-30-00-00-00", other]
    return "\n".join([header, *rows, "#close\t2026-11-30-01-00-00", ""])


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet", "tabs", "json", "tabs, then others"])
def test_the_profile_by_shards_is_that_of_one_pass(
    name: str, traffic_files: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    path = traffic_files.get(name, tmp_path / "conn.log")
    if name not in traffic_files:
        path.write_text(zeek_log(name))
    flows = open_flows(path, LENIENT)
    assert len(plan_shards(flows, shard_bytes=12_000, shard_rows=200).shards) > 3
    ours, theirs = profile_by_shards(flows, Backwards()), profile_table(flows)
    for array in ("feature_hashes", "labels", "inner_hashes", "shape_hashes"):
        np.testing.assert_array_equal(getattr(ours, array), getattr(theirs, array))
    assert ours.columns == theirs.columns
    assert ours.label_names == theirs.label_names
    assert ours.sample.rows.tolist() == theirs.sample.rows.tolist()
    assert ours.sample.table.equals(theirs.sample.table)
    counted = [one.invalid_values.to_dict() for one in (ours, theirs)]
    of_block = dict.fromkeys(("row_file", "num_emptied"))
    lines = [{**one.pop("lines"), **of_block} for one in counted]
    assert lines[0] == lines[1]
    assert counted[0] == counted[1]
    assert ("1 files cannot be cut" in capfd.readouterr().err) is (name == "tabs, then others")


def test_files_are_refused_as_in_one_pass(traffic_files: dict[str, Path], tmp_path: Path):
    opened = open_flows(traffic_files["csv"], LENIENT)
    flows = replace(opened, config=DataConfig(max_invalid_fraction=0.001))
    with pytest.raises(DataError) as theirs:
        profile_table(flows)
    with pytest.raises(DataError) as ours:
        profile_by_shards(flows, InProcess())
    assert str(ours.value) == str(theirs.value)
    for at, words in enumerate((("normal", "dos"), ("0", "1"))):
        rows = "".join(f"{word},{at + count}\n" for word in words for count in range(40))
        (tmp_path / f"{at}.csv").write_text(f"label,bytes\n{rows}")
    with pytest.raises(SchemaError, match="one vocabulary"):
        profile_by_shards(open_flows(tmp_path), InProcess())


@pytest.mark.slow
def test_inspect_prints_the_same_bytes_with_workers(
    traffic_files: dict[str, Path], capfd: pytest.CaptureFixture[str]
):
    words = ["inspect", str(traffic_files["csv"]), "--set", "data.max_invalid_fraction=0.5", "--json"]
    assert main(words) == 0
    plain = capfd.readouterr().out
    assert main([*words, "--workers", "2"]) == 0
    sharded = capfd.readouterr()
    assert sharded.out == plain
    assert "MB a worker" in sharded.err
    assert main(["inspect", "-", "--workers", "2"]) == 2
    assert "no standard input" in capfd.readouterr().err
