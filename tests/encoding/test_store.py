from pathlib import Path

import numpy as np
import pytest

from wirebert.encoding.rows import EncodedBlock
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.errors import DataError


def block(rows: list[list[int]], dtype: type[np.unsignedinteger] = np.uint16) -> EncodedBlock:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return EncodedBlock(np.array([token for row in rows for token in row], dtype), offsets, 1)


def write(folder: Path, blocks: list[EncodedBlock]) -> None:
    with StoreWriter(folder, np.dtype(np.uint16)) as writer:
        row = 0
        for one in blocks:
            rows = np.arange(row, row + len(one))
            writer.append(one, rows % 3, rows * 10)
            row += len(one)


def test_blocks_come_back_as_one_store(tmp_path: Path):
    write(tmp_path / "s", [block([[2, 7], [2]]), block([]), block([[2, 8, 9]])])
    flows = EncodedFlows.open(tmp_path / "s")
    assert len(flows) == 3
    assert flows.ids.tolist() == [2, 7, 2, 2, 8, 9]
    assert flows.offsets.tolist() == [0, 2, 3, 6]
    assert flows.lengths.tolist() == [2, 1, 3]
    assert flows.class_ids.tolist() == [0, 1, 2]
    assert flows.rows.tolist() == [0, 10, 20]
    assert flows.num_truncated == 3
    assert isinstance(flows.ids, np.memmap)


def test_an_empty_store_opens(tmp_path: Path):
    write(tmp_path / "s", [])
    assert len(EncodedFlows.open(tmp_path / "s")) == 0


def test_a_store_in_memory_reads_the_same(tmp_path: Path):
    one = block([[2, 7], [2]])
    flows = EncodedFlows.from_arrays(one.ids, one.offsets, np.array([0, 1]), np.array([5, 6]))
    assert (len(flows), flows.lengths.tolist()) == (2, [2, 1])


@pytest.mark.parametrize("name", ["ids.bin", "offsets.bin", "class_ids.bin", "rows.bin"])
@pytest.mark.parametrize("damage", ["truncate", "remove", "extend"])
def test_a_file_of_another_length_is_refused_by_name(name: str, damage: str, tmp_path: Path):
    write(tmp_path / "s", [block([[2, 7], [2]])])
    path = tmp_path / "s" / name
    content = path.read_bytes()
    path.unlink()
    if damage != "remove":
        path.write_bytes(content[:-1] if damage == "truncate" else content + b"\0")
    with pytest.raises(DataError, match=name):
        EncodedFlows.open(tmp_path / "s")


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format": 1'])
def test_a_damaged_index_is_refused_by_name(content: str, tmp_path: Path):
    write(tmp_path / "s", [])
    (tmp_path / "s" / "store.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=r"store\.json"):
        EncodedFlows.open(tmp_path / "s")


def test_a_store_of_another_format_is_refused(tmp_path: Path):
    write(tmp_path / "s", [])
    path = tmp_path / "s" / "store.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 1', '"format": 9'), encoding="utf-8")
    with pytest.raises(DataError, match="format 9"):
        EncodedFlows.open(tmp_path / "s")


def test_a_writer_that_fails_leaves_nothing_and_keeps_what_was_there(tmp_path: Path):
    write(tmp_path / "s", [block([[2, 7]])])
    writer = StoreWriter(tmp_path / "s", np.dtype(np.uint16))
    with pytest.raises(ValueError, match="uint32"), writer:
        writer.append(block([[2]], np.uint32), np.array([0]), np.array([0]))
    assert EncodedFlows.open(tmp_path / "s").ids.tolist() == [2, 7]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


def test_a_new_store_replaces_the_old_one(tmp_path: Path):
    write(tmp_path / "s", [block([[2, 7]])])
    write(tmp_path / "s", [block([[2, 9]])])
    assert EncodedFlows.open(tmp_path / "s").ids.tolist() == [2, 9]


def test_flows_without_their_classes_are_refused(tmp_path: Path):
    writer = StoreWriter(tmp_path / "s", np.dtype(np.uint16))
    with pytest.raises(ValueError, match="2 flows"), writer:
        writer.append(block([[2], [2]]), np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match="uint32"), writer:
        writer.append(block([[2]], np.uint32), np.array([0]), np.array([0]))
