import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.store import (
    EncodedFlows,
    StoreWriter,
    find_or_encode,
    find_or_fit,
    row_hashes,
    store_key,
    tokenizer_key,
)
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import DataError


def block(rows: list[list[int]], dtype: type[np.unsignedinteger] = np.uint16) -> JaggedRows:
    offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
    return JaggedRows(np.array([token for row in rows for token in row], dtype), offsets, 1)


def write(folder: Path, blocks: list[JaggedRows]) -> None:
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
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 2', '"format": 9'), encoding="utf-8")
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


SCHEMA = FlowSchema(name="f", columns=(Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),))
TABLE = pa.table({"proto": ["tcp", "udp", "tcp"]})
TOKENIZER = FlowTokenizer.fit(SCHEMA, [TABLE])
ROWS = np.arange(3)


def fill(store: StoreWriter) -> None:
    store.append(TOKENIZER.encode(TABLE), np.zeros(3, np.int64), ROWS)


def test_a_second_run_finds_the_store(tmp_path: Path):
    key = store_key("abc", TOKENIZER, ROWS)
    first, was_there = find_or_encode(tmp_path / "cache", key, TOKENIZER, fill)
    assert not was_there

    def refuse(store: StoreWriter) -> None:
        raise AssertionError("encoded again")

    second, was_there = find_or_encode(tmp_path / "cache", key, TOKENIZER, refuse)
    assert was_there
    assert np.array_equal(first.ids, second.ids)


def test_other_data_settings_rows_or_classes_are_another_store():
    other = FlowTokenizer.fit(SCHEMA, [TABLE], EncodingConfig(max_categories=1))
    keys = [
        store_key("abc", TOKENIZER, ROWS),
        store_key("abd", TOKENIZER, ROWS),
        store_key("abc", other, ROWS),
        store_key("abc", TOKENIZER, ROWS[:2]),
        store_key("abc", TOKENIZER, ROWS, note="normal"),
    ]
    assert len(set(keys)) == len(keys)
    assert store_key("abc", FlowTokenizer.fit(SCHEMA, [TABLE]), ROWS.copy()) == keys[0]


def test_interrupted_and_damaged_stores_are_written_anew(tmp_path: Path):
    def stop(store: StoreWriter) -> None:
        fill(store)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_or_encode(tmp_path, "key", TOKENIZER, stop)
    assert find_or_encode(tmp_path, "key", TOKENIZER, fill)[1] is False
    (tmp_path / "key" / "ids.bin").write_bytes(b"")
    flows, was_there = find_or_encode(tmp_path, "key", TOKENIZER, fill)
    assert (len(flows), was_there) == (3, False)


def test_runs_that_want_the_same_store_at_once_encode_once(tmp_path: Path):
    def fill_slowly(store: StoreWriter) -> None:
        time.sleep(0.1)
        fill(store)

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(find_or_encode, tmp_path, "key", TOKENIZER, fill_slowly) for _ in range(4)]
    assert sorted(one.result()[1] for one in asked) == [False, True, True, True]


def test_a_tokenizer_is_fitted_once(tmp_path: Path):
    key = tokenizer_key("abc", SCHEMA, EncodingConfig(), ROWS)
    fitted = find_or_fit(tmp_path / "cache", key, lambda: TOKENIZER)

    def refuse() -> FlowTokenizer:
        raise AssertionError("fitted again")

    found = find_or_fit(tmp_path / "cache", key, refuse)
    assert found.to_dict() == fitted.to_dict()
    for other in ("", "[]", "{}"):
        (tmp_path / "cache" / f"{key}.tokenizer.json").write_text(other)
        assert find_or_fit(tmp_path / "cache", key, lambda: TOKENIZER).to_dict() == fitted.to_dict()


def test_other_settings_or_rows_are_another_tokenizer():
    keys = {
        tokenizer_key("abc", SCHEMA, EncodingConfig(), ROWS),
        tokenizer_key("abd", SCHEMA, EncodingConfig(), ROWS),
        tokenizer_key("abc", SCHEMA, EncodingConfig(num_bins=2), ROWS),
        tokenizer_key("abc", SCHEMA, EncodingConfig(), ROWS[:1]),
    }
    assert len(keys) == 4


def flows(*rows: list[int]) -> EncodedFlows:
    lengths = [len(row) for row in rows]
    return EncodedFlows.from_arrays(
        np.array([token for row in rows for token in row], np.uint16),
        np.cumsum([0, *lengths]).astype(np.int64),
        np.zeros(len(rows), np.int64),
        np.arange(len(rows), dtype=np.int64),
    )


def test_equal_rows_have_equal_hashes_and_others_do_not():
    hashes = row_hashes(flows([1, 2, 3], [1, 2], [3, 2, 1], [1, 2, 3], [], [0], [0, 0]))
    assert hashes[0] == hashes[3]
    assert len(set(hashes.tolist())) == 6
