from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from wirebert.cluster.plan import PlacedShard, Shard, ShardPlan
from wirebert.cluster.results import ShardFolder, ShardRecord
from wirebert.cluster.storage import Storage
from wirebert.errors import DataError

SHARDS = [
    PlacedShard(
        shard=Shard(part=at, path=f"in/day={at}/x.csv", size_bytes=9, unit="file"), index=at, first_row=2 * at
    )
    for at in range(3)
]
PLAN = ShardPlan(shards=tuple(one.shard for one in SHARDS))


def folder_at(path: Path, ending: str = ".csv", settings: str = "s") -> ShardFolder:
    return ShardFolder(storage=Storage.of(str(path)), settings=settings, ending=ending)


def finish(folder: ShardFolder, placed: PlacedShard, content: bytes, header_bytes: int = 0) -> ShardRecord:
    with folder.storage.new_file(folder.file_of(placed)) as sink:
        sink.write(content)
    record = ShardRecord(
        id=placed.shard.id,
        settings=folder.settings,
        file=folder.file_of(placed),
        num_rows=2,
        sha256=sink.sha256,
        size_bytes=len(content),
        header_bytes=header_bytes,
        engine="onnx on cpu",
        peak_mb=1,
        rejected=False,
        counted={},
    )
    folder.record(record)
    return record


def test_finished_shards_are_found_again_and_damaged_ones_are_not(tmp_path: Path):
    folder = folder_at(tmp_path / "out")
    folder.begin(PLAN)
    records = [finish(folder, one, b"h\n1\n") for one in SHARDS]
    folder.begin(PLAN)  # a second start
    assert folder.finished(SHARDS) == {record.id: record for record in records}
    (tmp_path / "out" / records[0].file).write_bytes(b"h\n2\n")
    (tmp_path / "out" / records[1].file).unlink()
    assert set(folder.finished(SHARDS)) == {records[2].id}


@pytest.mark.parametrize(
    ("plan", "settings", "sentence"),
    [
        (PLAN, "other", "another model or other settings"),
        (ShardPlan(shards=PLAN.shards[1:]), "s", "other data"),
    ],
)
def test_a_folder_of_another_plan_is_refused_and_kept(
    plan: ShardPlan, settings: str, sentence: str, tmp_path: Path
):
    folder_at(tmp_path / "out").begin(PLAN)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match=sentence):
        folder_at(tmp_path / "out", settings=settings).begin(plan)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_of_something_else_is_refused(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(DataError, match="exists and is kept"):
        folder_at(tmp_path).begin(PLAN)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_single_file_is_the_shards_in_plan_order_with_one_header(tmp_path: Path):
    folder = folder_at(tmp_path / "out")
    records = [finish(folder, one, f"h\n{one.index}\n".encode(), 2) for one in reversed(SHARDS)][::-1]
    folder.join(records, Storage.of(str(tmp_path / "all.csv")))
    assert (tmp_path / "all.csv").read_bytes() == b"h\n0\n1\n2\n"


def test_a_single_parquet_file_has_the_rows_and_row_groups_of_the_shards(tmp_path: Path):
    folder = folder_at(tmp_path / "out", ".parquet")
    records: list[ShardRecord] = []
    for one in SHARDS:
        parquet.write_table(pa.table({"row": [2 * one.index, 2 * one.index + 1]}), tmp_path / "x")
        records.append(finish(folder, one, (tmp_path / "x").read_bytes()))
    folder.join(records, Storage.of(str(tmp_path / "all.parquet")))
    assert parquet.read_table(tmp_path / "all.parquet")["row"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert parquet.ParquetFile(tmp_path / "all.parquet").num_row_groups == 3


def test_shard_files_keep_the_partitions_of_their_input():
    names = [folder_at(Path("out")).file_of(one) for one in SHARDS]
    assert names[1] == f"day=1/part-000001-{SHARDS[1].shard.id}.csv"
