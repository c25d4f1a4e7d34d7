import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.cluster.executors import InProcess
from wirebert.cluster.plan import (
    SHARD_ROWS,
    Shard,
    ShardCounts,
    ShardPlan,
    can_be_cut,
    head_of,
    num_head_lines,
    plan_shards,
)
from wirebert.cluster.staging import CountRows
from wirebert.data.flows import Flows, open_flows
from wirebert.data.schema.schema import FlowSchema


def opened(path: Path, schema: FlowSchema) -> Flows:
    return open_flows(path, schema=schema)


def test_an_id_comes_from_path_size_and_range_alone():
    shard = Shard(part=0, path="a.csv", size_bytes=10, unit="bytes", start=0, stop=5)
    assert replace(shard, part=3, num_rows=4).id == shard.id
    others = [
        replace(shard, path="b.csv"),
        replace(shard, size_bytes=11),
        replace(shard, start=1),
        replace(shard, stop=6),
        replace(shard, unit="row_groups"),
    ]
    assert len({shard.id, *(one.id for one in others)}) == 6


@pytest.mark.parametrize("name", ["csv", "jsonl"])
def test_ranges_of_text_are_whole_lines_that_cover_the_file(
    name: str, traffic_files: dict[str, Path], schema: FlowSchema
):
    content = traffic_files[name].read_bytes()
    flows = opened(traffic_files[name], schema)
    for shard_bytes in np.random.default_rng(0).integers(300, len(content), 20).tolist():
        shards = plan_shards(flows, shard_bytes=shard_bytes).shards
        if len(shards) > 1:
            assert b"".join(content[one.start : one.stop] for one in shards) == content
            assert all(content[one.stop - 1 : one.stop] == b"\n" for one in shards[:-1])
        else:
            assert shard_bytes > len(content) - 2_000


def test_row_groups_make_shards_of_enough_rows(traffic_files: dict[str, Path], schema: FlowSchema):
    shards = plan_shards(opened(traffic_files["parquet"], schema), shard_rows=300).shards
    assert [(one.start, one.stop, one.num_rows) for one in shards] == [
        (0, 3, 360),
        (3, 6, 360),
        (6, 8, 180),
    ]


@pytest.mark.parametrize(
    ("line_end", "mended", "num_shards"),
    [
        ("\n", '"a, b"', 10),
        ("\n", '"a\nb"', 1),  # a value holds a line end
        ("\n", '5" disk', 1),  # it may, for all that one range tells
        ("\r", "a", 1),  # no line ends with a line feed, so there is nowhere to cut
    ],
)
def test_text_is_cut_unless_a_line_end_may_be_inside_of_a_row(
    line_end: str, mended: str, num_shards: int, tmp_path: Path, schema: FlowSchema, many: pa.Table
):
    many = many.drop_columns(["other"])
    rows = [",".join(str(value) for value in row.values()) for row in many.slice(0, 50).to_pylist()]
    path = tmp_path / "flows.csv"
    head = ",".join([*many.column_names, "note"])
    lines = [head, *(f"{row},{mended if at % 9 == 7 else 'x'}" for at, row in enumerate(rows)), ""]
    path.write_bytes(line_end.join(lines).encode())
    flows = opened(path, schema)
    plan = plan_shards(flows, shard_bytes=300)
    counts = {one.id: one for one in InProcess().run(CountRows(flows), plan.uncounted())}
    shards = plan.exact(counts).shards
    assert shards[0].start == 0
    assert len(shards) >= num_shards if num_shards > 1 else len(shards) == 1


def test_packed_text_cannot_be_cut(tmp_path: Path, traffic_files: dict[str, Path], schema: FlowSchema):
    path = tmp_path / "flows.csv.gz"
    path.write_bytes(gzip.compress(traffic_files["csv"].read_bytes()))
    assert not can_be_cut(opened(path, schema).parts[0])


def test_the_head_of_text_is_what_stands_before_its_rows(traffic_files: dict[str, Path], schema: FlowSchema):
    part = opened(traffic_files["csv"], schema).parts[0]
    head = head_of(part)
    assert head == traffic_files["csv"].read_bytes().splitlines(keepends=True)[0]
    assert num_head_lines(head, part.dialect) == 1


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
def test_shards_are_placed_behind_the_rows_before_them(
    name: str, traffic_files: dict[str, Path], schema: FlowSchema
):
    flows = opened(traffic_files[name], schema)
    plan = plan_shards(flows, shard_bytes=9_000, shard_rows=200)
    assert len(plan.shards) > 3
    counts = {one.id: one for one in InProcess().run(CountRows(flows), plan.uncounted())}
    assert plan.exact(counts) is plan
    placed = plan.placed(counts)
    total = sum(table.num_rows for table in flows.blocks())
    last = placed[-1]
    own = counts[last.shard.id].num_rows if last.shard.id in counts else last.shard.num_rows
    assert own is not None
    assert last.first_row + own == total
    assert set(last.time_units) == {"ts"}


def test_a_range_that_is_read_in_another_way_makes_the_file_one_shard():
    ranges = [
        Shard(part=0, path="a", size_bytes=9, unit="bytes", start=start, stop=start + 3)
        for start in (0, 3, 6)
    ]
    whole = Shard(part=1, path="b", size_bytes=9, unit="file")
    plan = ShardPlan(shards=(*ranges, whole))
    fine = {one.id: ShardCounts(id=one.id, num_rows=1, time_units={}) for one in ranges}
    assert plan.exact(fine) is plan
    for wrong in ({"is_exact": False}, {"time_units": None}):
        counts = {**fine, ranges[0].id: replace(fine[ranges[0].id], **wrong)}
        exact = plan.exact(counts)
        assert [(one.path, one.unit) for one in exact.shards] == [("a", "file"), ("b", "file")]
        assert "cannot be cut" in exact.reasons[0]


def test_the_plan_of_a_billion_rows_is_placed_within_seconds():
    shards = tuple(
        Shard(
            part=at,
            path=f"day=2026-11-29/sensor={at % 40}/{at:05d}.parquet",
            size_bytes=10**8 + at,
            unit="row_groups",
            start=0,
            stop=1,
            num_rows=SHARD_ROWS,
        )
        for at in range(10**9 // SHARD_ROWS + 1)
    )
    plan = ShardPlan(shards=shards)
    assert plan.uncounted() == ()
    placed = plan.placed({})
    assert placed[-1].first_row + SHARD_ROWS >= 10**9
    assert len({one.shard.id for one in placed}) == len(shards)
