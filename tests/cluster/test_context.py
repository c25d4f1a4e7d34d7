"""Context columns of shards against one pass, which `tests/data/context` holds to a slow reference."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from wirebert.cli.main import main
from wirebert.cluster import context, staging
from wirebert.cluster.context import context_in_order
from wirebert.cluster.executors import InProcess
from wirebert.cluster.plan import PlacedShard, plan_shards
from wirebert.cluster.profile import profile_by_shards
from wirebert.cluster.staging import placed_shards, staged
from wirebert.cluster.storage import DigestingSink, Storage
from wirebert.data.checks.profile import profile_table
from wirebert.data.context.context import FlowContext, with_context
from wirebert.data.flows import Flows, open_flows
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.windows import ContextWindows
from wirebert.errors import DataError
from wirebert.inference.artifact import save_artifact

KINDS = {
    "ts": ColumnKind.TIME,
    "src_ip": ColumnKind.ADDRESS,
    "dst_ip": ColumnKind.ADDRESS,
    "dst_port": ColumnKind.PORT,
    "conn_state": ColumnKind.CATEGORY,
    "src_bytes": ColumnKind.COUNT,
    "note": ColumnKind.CATEGORY,
}
BARE = FlowSchema(
    name="flows",
    columns=tuple(
        Column(name=name, kind=kind, is_feature=kind.can_be_feature) for name, kind in KINDS.items()
    ),
)
WINDOWS = ContextWindows(short_s=5, long_s=40, max_flows=30)
SCHEMA = with_context(BARE, WINDOWS)


def random_log(seed: int, num_rows: int) -> pa.Table:
    """Flows of few hosts: late records, silences, another day, and some without time or source."""
    rng = np.random.default_rng(seed)
    steps = rng.choice([-9.0, 0.0, 0.2, 1.0, 4.0, 60.0], num_rows, p=[0.1, 0.1, 0.4, 0.3, 0.08, 0.02])
    steps[rng.random(num_rows) < 0.01] = -100_000.0
    present = rng.random(num_rows) < 0.95
    return pa.table(
        {
            "ts": pa.array((1.7e9 + np.cumsum(steps)).round(3), mask=rng.random(num_rows) < 0.05),
            "src_ip": pa.array(rng.choice(["10.0.0.1", "10.0.0.2", "10.0.0.3"], num_rows), mask=~present),
            "dst_ip": rng.choice(["10.0.1.1", "10.0.1.2", "10.0.0.1"], num_rows),
            "dst_port": rng.choice([22.0, 80.0], num_rows),
            "conn_state": rng.choice(["SF", "REJ"], num_rows),
            "src_bytes": rng.choice([0.0, 40.0, 1e6], num_rows),
            "note": rng.choice(["x", "y"], num_rows),
        }
    )


def written(folder: Path, log: pa.Table, cuts: Sequence[int], group_rows: int) -> Path:
    """The log in several Parquet files."""
    folder.mkdir(parents=True)
    bounds = sorted({0, *(min(cut, log.num_rows) for cut in cuts), log.num_rows})
    for start, stop in pairwise(bounds):
        part = log.slice(start, stop - start)
        parquet.write_table(part, folder / f"{start:04}.parquet", row_group_size=group_rows)
    return folder


def has_columns_of_one_pass(flows: Flows, placed: Sequence[PlacedShard]) -> bool:
    """Whether shards have equal rows; no bare `==` of tables, whose differences take minutes to print."""
    tables: list[pa.Table] = []
    for one in placed:
        with staged(flows, one) as some:
            tables += some.blocks()
    return pa.concat_tables(tables).to_pydict() == pa.concat_tables(flows.blocks()).to_pydict()


@settings(max_examples=8, phases=[Phase.generate])  # shrinking takes minutes
@given(
    seed=st.integers(0, 1_000),
    cuts=st.lists(st.integers(0, 60), max_size=2),
    group_rows=st.integers(5, 30),
    shard_rows=st.integers(1, 40),
    max_flows=st.sampled_from([3, 1_000]),
)
def test_columns_of_shards_equal_those_of_one_pass_bit_for_bit(
    seed: int,
    cuts: list[int],
    group_rows: int,
    shard_rows: int,
    max_flows: int,
    tmp_path_factory: pytest.TempPathFactory,
):
    folder = tmp_path_factory.mktemp("log")
    schema = with_context(BARE, ContextWindows(short_s=5, long_s=40, max_flows=max_flows))
    flows = open_flows(written(folder / "in", random_log(seed, 60), cuts, group_rows), schema=schema)
    placed = plan_shards(flows, shard_rows=shard_rows).placed({})
    placed = context_in_order(flows, placed, InProcess(), Storage.of(f"{folder}/context"))
    assert has_columns_of_one_pass(flows, placed)


class Refuses:
    """An executor that must not be used."""

    def run(self, job: Any, items: Sequence[Any]) -> Iterator[Any]:
        raise AssertionError(f"{len(items)} items of {job} are run")

    def close(self) -> None:
        """Nothing is held."""


def test_text_is_cut_too_and_what_was_computed_is_kept(tmp_path: Path):
    csv.write_csv(random_log(5, 400), tmp_path / "log.csv")
    (tmp_path / "log.csv").write_text((tmp_path / "log.csv").read_text().replace('"', ""))
    flows = open_flows(tmp_path / "log.csv", schema=SCHEMA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(staging, "plan_shards", partial(plan_shards, shard_bytes=4_000))
        _, placed = placed_shards(flows, InProcess())
    assert len(placed) > 3
    kept = Storage.of(f"{tmp_path}/context")
    first = context_in_order(flows, placed, InProcess(), kept)
    again = context_in_order(flows, placed, Refuses(), kept)
    assert has_columns_of_one_pass(flows, first)
    assert has_columns_of_one_pass(flows, again)


def test_a_single_shard_and_a_schema_without_context_need_no_pass(tmp_path: Path):
    folder = written(tmp_path / "in", random_log(1, 50), [], 50)
    kept = Storage.of(f"{tmp_path}/context")
    for schema, rows in ((SCHEMA, 50), (BARE, 10)):
        flows = open_flows(folder, schema=schema)
        placed = plan_shards(flows, shard_rows=rows).placed({})
        assert context_in_order(flows, placed, Refuses(), kept) is placed
    assert not kept.exists()


def test_verdicts_of_a_log_in_shards_are_those_of_one_pass(
    make_artifact: Callable[..., tuple[Any, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = random_log(3, 300)
    typed = log.set_column(0, "ts", log["ts"].cast(pa.string()))
    labelled = FlowContext(WINDOWS).append(typed).append_column("label", pa.array(["normal", "smurf"] * 150))
    label = Column(name="label", kind=ColumnKind.LABEL, is_feature=False)
    schema = with_context(FlowSchema(name="flows", columns=(*BARE.columns, label)), WINDOWS)
    save_artifact(make_artifact(schema, labelled)[0], tmp_path / "model", card="")
    folder = written(tmp_path / "in", log, [120], 40)
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_rows=30))
    command = ["predict", str(tmp_path / "model"), str(folder), "--out"]
    assert main([*command, str(tmp_path / "plain.parquet")]) == 0
    assert main([*command, f"{tmp_path}/shards/"]) == 0
    assert not (tmp_path / "shards" / "_shards" / "context").exists()
    plain = parquet.read_table(tmp_path / "plain.parquet")
    files = sorted((tmp_path / "shards").glob("part-*"))
    shards = pa.concat_tables(parquet.read_table(path) for path in files)
    assert len(files) > 5
    assert shards["row"].equals(plain["row"])
    for name in [name for name in plain.column_names if name.startswith("p_")]:
        np.testing.assert_allclose(shards[name].to_numpy(), plain[name].to_numpy(), atol=1e-6)


def test_the_profile_of_a_log_in_shards_is_that_of_one_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flows = open_flows(written(tmp_path / "in", random_log(4, 300), [120], 40), schema=SCHEMA)
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_rows=30))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    shards, whole = profile_by_shards(flows, InProcess()), profile_table(flows)
    assert shards.columns == whole.columns
    assert shards.sample.table.equals(whole.sample.table)
    np.testing.assert_array_equal(shards.feature_hashes, whole.feature_hashes)
    assert not list(temporary.iterdir())


def test_a_folder_that_a_node_does_not_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flows = open_flows(written(tmp_path / "in", random_log(4, 90), [], 40), schema=SCHEMA)
    placed = plan_shards(flows, shard_rows=30).placed({})
    nowhere = Storage.of(f"{tmp_path}/on_another_node")
    monkeypatch.setattr(context.ReadEndpoints, "load", lambda _: lambda placed: None)  # pyright: ignore
    with pytest.raises(DataError, match="that all of them reach"):
        context_in_order(flows, placed, InProcess(), nowhere)


def test_a_full_disk_is_told_while_context_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    flows = open_flows(written(tmp_path / "in", random_log(4, 90), [], 40), schema=SCHEMA)
    monkeypatch.setattr(staging, "plan_shards", partial(plan_shards, shard_rows=30))

    def full(_sink: object, _data: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DigestingSink, "write", full)
    with pytest.raises(DataError, match=r"cannot write \(No space left on device\); make room"):
        profile_by_shards(flows, InProcess())
