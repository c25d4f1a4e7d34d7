import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import (Column, ColumnKind, FlowSchema)
from wirebert.encoding.cache import find_or_encode, find_or_fit, store_key, tokenizer_key
from wirebert.encoding.settings import EncodingConfig
from wirebert.encoding.store import StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer

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
