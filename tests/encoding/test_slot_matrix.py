import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import (Column, ColumnKind, FlowSchema)
from wirebert.encoding.settings import EncodingConfig
from wirebert.encoding.slot_matrix import Ranks, slot_ids
from wirebert.encoding.tokenizer import FlowTokenizer

SCHEMA = FlowSchema(
    name="test",
    columns=(
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="bytes", kind=ColumnKind.NUMBER, is_feature=True),
    ),
)
TABLE = pa.table({"proto": ["tcp"] * 6 + ["udp"] * 2, "bytes": [0, 0, 0, 0, 10, 20, 30, 40]})


def fitted(*, leave_out: bool) -> FlowTokenizer:
    config = EncodingConfig(leave_out=leave_out, num_bins=4, frequent_values=1)
    return FlowTokenizer.fit(SCHEMA, lambda: iter([TABLE]), config)


@pytest.mark.parametrize("leave_out", [False, True])
def test_each_slot_has_its_token_also_where_the_row_leaves_it_out(leave_out: bool):
    tokenizer = fitted(leave_out=leave_out)
    found = slot_ids(tokenizer, tokenizer.encode(TABLE))
    whole = fitted(leave_out=False).encode(TABLE)
    assert found.tolist() == whole.ids.reshape(len(TABLE), 3)[:, 1:].tolist()


def test_numbers_rank_as_they_grow_and_those_above_training_rank_highest():
    tokenizer = fitted(leave_out=True)
    ranks = Ranks.of(tokenizer)
    assert ranks.is_ordered.tolist() == [False, True]
    table = pa.table({"proto": ["tcp"] * 4, "bytes": [0, 15, 40, 4000]})
    assert np.all(np.diff(ranks.matrix(tokenizer.encode(table))[:, 1]) > 0)


def test_a_missing_number_has_no_rank_and_an_unseen_category_has_one_of_its_own():
    tokenizer = fitted(leave_out=True)
    table = pa.table({"proto": ["tcp", "udp", "icmp", None], "bytes": pa.array([None, 1, 2, 3], pa.int64())})
    found = Ranks.of(tokenizer).matrix(tokenizer.encode(table))
    assert np.isnan(found[0, 1])
    assert len(set(found[:, 0].tolist())) == 4
    assert found[:, 0].min() >= 0


def test_of_a_text_column_only_the_first_token_counts():
    schema = FlowSchema(
        name="test",
        columns=(*SCHEMA.columns, Column(name="payload", kind=ColumnKind.TEXT, is_feature=True)),
    )
    table = TABLE.append_column("payload", pa.array(["select 1 from a", "a", "", None, "b", "c", "d", "e e"]))
    tokenizer = FlowTokenizer.fit(schema, lambda: iter([table]), EncodingConfig(num_pieces=256))
    found = slot_ids(tokenizer, tokenizer.encode(table))
    assert found.shape == (8, 3)
    assert found[0, 2] == found[1, 2] != found[2, 2]
