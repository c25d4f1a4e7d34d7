import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.categorical import ValueCounts
from wirebert.encoding.columns import (
    TrainingCounts,
    count_values,
    distinct,
    encoder_from_dict,
    encoder_to_dict,
    fit_encoder,
    new_counts,
)
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.numeric import NumberCounts

COLUMNS = {
    ColumnKind.NUMBER: pa.chunked_array([[0.1, 0.1, None, 1e-300], [3.0, 1 / 3]], pa.float64()),
    ColumnKind.CATEGORY: pa.chunked_array([["a", "b", None], ["a"]], pa.string()),
    ColumnKind.PORT: pa.chunked_array([[80.0, 53.0, None]], pa.float64()),
    ColumnKind.ADDRESS: pa.chunked_array([["10.0.0.1", "x", None]], pa.string()),
    ColumnKind.FLAGS: pa.chunked_array([["SA", "F", None]], pa.string()),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_an_encoder_survives_json_and_encodes_the_same(kind: ColumnKind):
    values = COLUMNS[kind]
    counts = new_counts(kind)
    count_values(values, counts)
    column = Column(name="c", kind=kind, is_feature=True)
    encoder = fit_encoder(
        column, counts, num_bins=4, frequent_values=0, max_categories=5, networks=("10.0.0.0/8",)
    )
    again = encoder_from_dict(json.loads(json.dumps(encoder_to_dict(encoder))))
    assert again == encoder
    whole = pa.concat_arrays(values.chunks)
    assert again.encode(whole).tolist() == encoder.encode(whole).tolist()
    assert encoder.encode(whole)[whole.is_null().to_numpy(zero_copy_only=False)].max() == 0


def test_dictionary_plain_and_chunked_columns_count_the_same():
    plain = pa.chunked_array([["a", None, "b"], [], ["a"]], pa.string())
    forms = [plain, plain.dictionary_encode(), plain.combine_chunks().dictionary_encode()]
    for form in forms:
        counts = ValueCounts()
        count_values(form if isinstance(form, pa.ChunkedArray) else pa.chunked_array([form]), counts)
        assert (dict(counts.counts_), counts.num_missing_) == ({"a": 2, "b": 1}, 1)


def test_numbers_count_the_same_plain_and_through_a_dictionary():
    plain = pa.chunked_array([[1.0, None, float("nan"), 1.0, -0.0]], pa.float64())
    for form in (plain, plain.dictionary_encode()):
        counts = NumberCounts()
        count_values(form, counts)
        assert (counts.values_.tolist(), counts.counts_.tolist()) == ([0.0, 1.0], [1, 2])
        assert counts.num_missing_ == 2


def test_a_part_of_a_table_has_the_values_of_its_rows():
    column = pa.chunked_array([pa.array(["a", "b", "c", None, "b"]).dictionary_encode().slice(3)])
    (part,) = distinct(column)
    assert part.values.to_pylist() == ["b"]
    assert part.codes is not None
    assert part.codes.tolist() == [1, 0]


def test_a_null_inside_a_dictionary_is_a_null():
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, None], pa.int32()), pa.array([None, "a"]))
    (part,) = distinct(pa.chunked_array([coded]))
    assert part.codes is not None
    values = np.array([*part.values.to_pylist(), None], object)
    assert values[part.codes].tolist() == [None, "a", None]


def counted(schema: FlowSchema, blocks: Sequence[pa.Table]) -> TrainingCounts:
    counts = TrainingCounts(schema.features)
    for block in blocks:
        counts.add(block)
    return counts


def test_columns_are_fitted_over_all_blocks_whatever_their_order(web_schema: FlowSchema):
    blocks = [
        pa.table({"duration": [0.0, 1.5], "service": ["http", "dns"], "uri": ["/a b", None]}),
        pa.table({"duration": [2.5, None], "service": ["dns", "http"], "uri": ["/c", "/a b"]}),
    ]
    config = EncodingConfig(subword_vocab_size=300)
    fitted = counted(web_schema, blocks).fit(config)
    assert counted(web_schema, blocks[::-1]).fit(config) == fitted
    merged = counted(web_schema, [])
    for block in blocks:
        merged.merge(counted(web_schema, [block]))
    assert merged.fit(config) == fitted
    assert [encoder.column for encoder in fitted.encoders] == [
        "duration",
        "service",
        "dst_port",
        "src_ip",
        "tcp_flags",
    ]
    assert fitted.subwords is not None


def test_a_table_without_text_columns_has_no_pieces(web_schema: FlowSchema):
    fitted = TrainingCounts(web_schema.features[:2]).fit(EncodingConfig())
    assert fitted.subwords is None
    assert len(fitted.encoders) == 2
