from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.cluster.executors import InProcess
from wirebert.cluster.plan import plan_shards
from wirebert.cluster.staging import CountRows, line_shift, staged
from wirebert.data.flows import open_flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError


@pytest.mark.parametrize("name", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("size", [700, 9_000])
def test_rows_of_staged_shards_are_the_rows_of_the_file(
    name: str, size: int, traffic_files: dict[str, Path], schema: FlowSchema
):
    if name == "jsonl" and size == 700:
        size = 4_000  # reading JSON with a damaged line takes long
    flows = open_flows(traffic_files[name], schema=schema)
    plan = plan_shards(flows, shard_bytes=size, shard_rows=size // 6)
    counts = {one.id: one for one in InProcess().run(CountRows(flows), plan.uncounted())}
    whole, tables, lines = InvalidValues(), list[pa.Table](), list[int]()
    whole.lines.finds_lines = True
    expected: list[int] = []
    for block in flows.blocks(whole):
        tables.append(block)
        expected += [] if whole.lines.row_lines is None else whole.lines.row_lines.tolist()
    staged_tables: list[pa.Table] = []
    for one in plan.exact(counts).placed(counts):
        own = InvalidValues()
        own.lines.finds_lines = True
        with staged(flows, one) as some:
            assert one.first_row == sum(table.num_rows for table in staged_tables)
            for block in some.blocks(own):
                staged_tables.append(block)
                if own.lines.row_lines is not None:
                    lines += (own.lines.row_lines + line_shift(flows, one)).tolist()
    assert (
        pa.concat_tables(staged_tables)
        .unify_dictionaries()
        .equals(pa.concat_tables(tables).unify_dictionaries())
        or pa.concat_tables(staged_tables).to_pylist() == pa.concat_tables(tables).to_pylist()
    )
    assert lines == expected


def test_a_file_that_became_shorter_is_refused(
    tmp_path: Path, traffic_files: dict[str, Path], schema: FlowSchema
):
    path = tmp_path / "flows.csv"
    content = traffic_files["csv"].read_bytes()
    path.write_bytes(content)
    flows = open_flows(path, schema=schema)
    plan = plan_shards(flows, shard_bytes=9_000)
    path.write_bytes(content[: len(content) // 2])
    placed = plan.placed({})[-1]
    with pytest.raises(DataError, match="shorter"), staged(flows, placed):
        pass
