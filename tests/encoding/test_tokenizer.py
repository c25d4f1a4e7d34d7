import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from wirebert.data.flows import open_flows
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.synthetic import write_csv
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ConfigError, DataError, SchemaError

UGLY = [
    *(
        "[SEP]",
        "[CLS] service:http",
        "   ",
        "\0",
        "😀",
        "\u2028",
        "x" * 500,
        "100%25",
        "",
        "<missing>",
        "a:b",
    ),
    *("[UNK]", "é\u00a0ü", "'\"\\", "\r\n\t", "##ing", "%", "漢字", "service:http src_ip:private"),
]


def schema(**kinds: ColumnKind) -> FlowSchema:
    columns = [Column(name=name, kind=kind, is_feature=True) for name, kind in kinds.items()]
    return FlowSchema(name="test", columns=tuple(columns))


def table(**columns: list[Any]) -> pa.Table:
    arrays = {
        name: pa.array(
            values, None if any(isinstance(value, str | float) for value in values) else pa.string()
        )
        for name, values in columns.items()
    }
    return pa.table(arrays)


def row(block: JaggedRows, index: int = 0) -> np.ndarray:
    return block.ids[block.offsets[index] : block.offsets[index + 1]]


def texts(tokenizer: FlowTokenizer, rows: pa.Table) -> list[str]:
    block = tokenizer.encode(rows)
    return [tokenizer.to_text(row(block, index)) for index in range(len(block))]


@pytest.fixture(scope="module")
def web_table() -> pa.Table:
    return table(
        duration=[0.0, 0.0, 1.5, 2.5, None],
        service=["http", "http", "dns", "ssh", None],
        dst_port=[80.0, 80.0, 53.0, 22.0, None],
        src_ip=["10.0.0.1", "10.0.0.2", "8.8.8.8", "fe80::1", None],
        tcp_flags=["SA", "SA", "S", "0x12", None],
        uri=["/index.html?q=1", "/login", "/a%20b", "", None],
    )


@pytest.fixture(scope="module")
def web(web_schema: FlowSchema, web_table: pa.Table) -> FlowTokenizer:
    return FlowTokenizer.fit(web_schema, [web_table], EncodingConfig(subword_vocab_size=300))


@pytest.fixture(scope="module")
def extended(web_schema: FlowSchema, web_table: pa.Table, wordpieces: str) -> FlowTokenizer:
    config = EncodingConfig(vocabulary="extend", wordpieces=wordpieces)
    return FlowTokenizer.fit(web_schema, [web_table], config)


# Layout


def test_a_row_is_cls_then_features_in_schema_order_then_text(web: FlowTokenizer, web_table: pa.Table):
    block = web.encode(web_table)
    words = ["[CLS]", *web.to_text(row(block)).split(" ")]
    assert words[:5] == ["[CLS]", "duration:0", "service:http", "dst_port:http", "src_ip:private"]
    assert words[5:13] == [
        f"tcp_flags.{bit}" for bit in ("fin:0", "syn:1", "rst:0", "psh:0", "ack:1", "urg:0", "ece:0", "cwr:0")
    ]
    assert words[13] == "uri:"
    assert row(block)[0] == web.cls_id == 2
    assert web.slot_names[-1] == "uri"
    assert web.decode(row(block))["uri"] == "/index.html?q=1"


def test_missing_empty_and_absent_texts_differ(web: FlowTokenizer):
    rows = table(uri=["", None])
    assert [text.split(" ")[-1] for text in texts(web, rows)] == ["uri:<empty>", "uri:<missing>"]
    assert texts(web, table(service=["http"]))[0].split(" ")[-1] == "uri:<absent>"


def test_wordpieces_keep_their_ids_and_domain_tokens_come_after(extended: FlowTokenizer):
    assert extended.vocabulary[0] == "[PAD]"
    assert extended.vocabulary[1] == "%5Bunused0%5D"
    assert extended.vocabulary[2000] == "to"
    assert (extended.pad_id, extended.cls_id) == (0, 101)
    assert int(extended.slot_special.min()) >= 30_522
    ids, starts = extended.new_token_subwords()
    assert ids.tolist() == list(range(30_522, extended.num_tokens))
    service = int(extended.vocabulary.index("service:http"))
    words = [extended.vocabulary[index] for index in starts[service - 30_522]]
    assert words == ["service", "http"]


def test_a_compact_vocabulary_has_no_new_tokens(web: FlowTokenizer):
    ids, starts = web.new_token_subwords()
    assert len(ids) == len(starts) == 0


@pytest.mark.parametrize("which", ["web", "extended"])
def test_every_slot_owns_its_tokens_and_pieces_belong_to_none(which: str, request: pytest.FixtureRequest):
    tokenizer: FlowTokenizer = request.getfixturevalue(which)
    slots = tokenizer.token_slots
    for index, name in enumerate(tokenizer.slot_names):
        owned = np.flatnonzero(slots == index)
        key = name.replace(":", "%3A") + ":"
        assert all(tokenizer.vocabulary[token].startswith(key) for token in owned)
        assert set(tokenizer.slot_special_states[index]) <= set(owned)
        assert tokenizer.default_ids[index] in owned
    others = [token for token, slot in zip(tokenizer.vocabulary, slots, strict=True) if slot < 0]
    assert {token for token in others if ":" in token} <= {":", "##:"}


def test_no_two_marks_of_any_slot_share_an_id(web: FlowTokenizer):
    marks = np.concatenate(web.slot_special_states)
    assert len(np.unique(marks)) == len(marks)
    assert len(np.unique(web.slot_special)) == web.slot_special.size
    duration = [web.vocabulary[token] for token in web.slot_special[0]]
    assert duration == ["duration:<missing>", "duration:<above>", "duration:<absent>"]


def test_bins_and_exact_values_are_listed_in_order():
    tokenizer = FlowTokenizer.fit(schema(n=ColumnKind.NUMBER), [table(n=[0.0, 0.0, 1.0, 2.0, 9.0])])
    (numbers,) = tokenizer.ordered_numbers
    assert [tokenizer.vocabulary[token] for token in numbers] == ["n:0", "n:q0", "n:q1", "n:q2"]


# Leave-out


def test_a_feature_that_holds_its_usual_value_is_not_written_and_absence_means_it():
    kinds = schema(proto=ColumnKind.CATEGORY, bytes=ColumnKind.COUNT)
    tokenizer = FlowTokenizer.fit(kinds, [table(proto=["tcp", "tcp", "udp"], bytes=[0.0, 0.0, 7.0])])
    assert tokenizer.omits_most_frequent
    assert texts(tokenizer, table(proto=["tcp", "udp", None], bytes=[0.0, 7.0, 0.0])) == [
        "",
        "proto:udp bytes:q0",
        "proto:<missing>",
    ]
    assert tokenizer.decode(np.array([tokenizer.cls_id], np.uint16)) == {"proto": "tcp", "bytes": "0"}


def test_missing_can_be_the_usual_value_and_absent_is_always_written():
    kinds = schema(proto=ColumnKind.CATEGORY, note=ColumnKind.CATEGORY)
    tokenizer = FlowTokenizer.fit(kinds, [table(proto=["tcp"] * 3, note=[None, None, "x"])])
    assert texts(tokenizer, table(proto=["tcp"], note=[None])) == [""]
    assert texts(tokenizer, table(proto=["tcp"])) == ["note:<absent>"]


def test_tables_with_text_write_every_feature_unless_asked(web: FlowTokenizer, web_table: pa.Table):
    assert not web.omits_most_frequent
    config = EncodingConfig(omit_most_frequent=True, subword_vocab_size=300)
    asked = FlowTokenizer.fit(web.schema, [web_table], config)
    assert texts(asked, web_table.slice(0, 1))[0].startswith("uri: ")
    usual = web_table.set_column(5, "uri", pa.array([None] * 5, pa.string()))
    assert texts(asked, usual)[0] == ""
    assert texts(asked, usual.drop_columns("uri"))[0] == "uri:<absent>"
    assert texts(asked, usual.set_column(5, "uri", pa.array([""] * 5)))[0] == "uri:<empty>"


def test_leave_out_off_writes_every_feature():
    config = EncodingConfig(omit_most_frequent=False)
    tokenizer = FlowTokenizer.fit(schema(p=ColumnKind.CATEGORY), [table(p=["a"])], config)
    assert texts(tokenizer, table(p=["a"])) == ["p:a"]


# Ugly values


@pytest.mark.parametrize("which", ["web", "extended"])
@pytest.mark.parametrize("column", ["service", "src_ip", "tcp_flags", "uri"])
def test_an_ugly_value_changes_no_other_token(which: str, column: str, request: pytest.FixtureRequest):
    tokenizer: FlowTokenizer = request.getfixturevalue(which)
    base = {"service": "http", "src_ip": "10.0.0.1", "tcp_flags": "SA", "uri": "/"}
    usual = tokenizer.encode(pa.table({name: [value] for name, value in base.items()}))
    slots = [index for index, name in enumerate(tokenizer.slot_names) if name.split(".")[0] == column]
    for value in UGLY:
        block = tokenizer.encode(pa.table({name: [value if name == column else base[name]] for name in base}))
        for ids, other in ((row(block), row(usual)), (row(usual), row(block))):
            is_own = np.isin(tokenizer.token_slots[ids], [*slots, -1])
            assert np.isin(ids[~is_own], other).all()
        specials = np.isin(
            row(block), [tokenizer.vocabulary.index(token) for token in ("[UNK]", "[SEP]", "[PAD]")]
        )
        assert not specials.any()
        assert (row(block) == tokenizer.cls_id).sum() == 1


@pytest.mark.parametrize("vocabulary", ["compact", "extend"])
@pytest.mark.parametrize("leave_out", [True, False])
def test_transformers_maps_canonical_text_back_to_the_same_ids(
    vocabulary: Any, leave_out: bool, wordpieces: str, tmp_path: Path
):
    kinds = {"ser vice:x": ColumnKind.CATEGORY, "n": ColumnKind.NUMBER, "uri": ColumnKind.TEXT}
    rows = table(**{"ser vice:x": UGLY, "n": [float(index) for index in range(len(UGLY))], "uri": UGLY})
    config = EncodingConfig(
        vocabulary=vocabulary,
        wordpieces=wordpieces if vocabulary == "extend" else None,
        omit_most_frequent=leave_out,
        subword_vocab_size=300,
    )
    tokenizer = FlowTokenizer.fit(schema(**kinds), [rows], config)
    tokenizer.write_hugging_face(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "distilbert"}', encoding="utf-8")
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    block = tokenizer.encode(rows)
    for index, text in enumerate(texts(tokenizer, rows)):
        assert loaded(text)["input_ids"] == row(block, index).tolist()
        assert loaded.unk_token_id not in row(block, index)


def test_column_names_that_clash_are_refused_by_name():
    kinds = {"f": ColumnKind.FLAGS, "f.syn": ColumnKind.CATEGORY}
    with pytest.raises(SchemaError, match=r"f\.syn"):
        FlowTokenizer.fit(schema(**kinds), [table(**{"f.syn": ["1"]})]).vocabulary  # noqa: B018


# Texts and lengths


def test_long_texts_keep_head_and_tail_within_the_budget_and_are_counted():
    config = EncodingConfig(max_text_tokens=8, subword_vocab_size=256)
    tokenizer = FlowTokenizer.fit(schema(uri=ColumnKind.TEXT), [table(uri=["ab"])], config)
    block = tokenizer.encode(table(uri=["".join(map(chr, range(97, 123))), "abc", "".join("/" * 9)]))
    assert tokenizer.decode(row(block, 0))["uri"] == "abcdefyz"
    assert tokenizer.decode(row(block, 1))["uri"] == "abc"
    assert block.num_truncated == 2


@pytest.mark.parametrize("max_length", [6, 20, 512])
def test_no_row_is_longer_than_max_length_and_no_feature_is_cut(max_length: int):
    kinds = schema(a=ColumnKind.TEXT, b=ColumnKind.TEXT, n=ColumnKind.NUMBER)
    config = EncodingConfig(max_length=max_length, max_text_tokens=400, subword_vocab_size=256)
    rows = table(a=["?" * 1000, "x"], b=["!" * 1000, None], n=[1.0, 2.0])
    tokenizer = FlowTokenizer.fit(kinds, [rows], config)
    block = tokenizer.encode(rows)
    assert np.diff(block.offsets).max() <= max_length
    assert tokenizer.decode(row(block))["n"] == "1"


def test_more_features_than_a_row_holds_are_refused_at_once():
    kinds = {f"n{index}": ColumnKind.CATEGORY for index in range(8)}
    with pytest.raises(ConfigError, match=r"raise encoding\.max_length to 9"):
        FlowTokenizer.fit(schema(**kinds), [], EncodingConfig(max_length=8))


# Key-value text


def test_key_value_text_encodes_like_the_row_and_a_key_that_is_not_there_is_absent():
    kinds = schema(protocol_type=ColumnKind.CATEGORY, service=ColumnKind.CATEGORY, src_bytes=ColumnKind.COUNT)
    rows = table(protocol_type=["tcp", "udp"], service=["http", "dns"], src_bytes=[181.0, 44.0])
    tokenizer = FlowTokenizer.fit(kinds, [rows], EncodingConfig(omit_most_frequent=False))
    lines = ["protocol_type:tcp, service=http, src_bytes:181", "src_bytes = 44, protocol_type=udp"]
    block = tokenizer.encode_key_values(lines)
    assert row(block, 0).tolist() == row(tokenizer.encode(rows), 0).tolist()
    assert tokenizer.to_text(row(block, 1)) == "protocol_type:udp service:<absent> src_bytes:44"
    assert len(tokenizer.encode_key_values([])) == 0


def test_lines_of_unknown_keys_are_rows_of_absent_features():
    tokenizer = FlowTokenizer.fit(schema(p=ColumnKind.CATEGORY), [table(p=["a"])])
    block = tokenizer.encode_key_values(["x=1", "y=2"])
    assert [tokenizer.to_text(row(block, index)) for index in range(len(block))] == ["p:<absent>"] * 2


def test_what_is_no_key_value_line_is_refused():
    tokenizer = FlowTokenizer.fit(schema(p=ColumnKind.CATEGORY), [table(p=["a"])])
    with pytest.raises(DataError):
        tokenizer.encode_key_values(["GET /index.html"])


# Saving


@pytest.mark.parametrize("which", ["web", "extended"])
def test_a_saved_tokenizer_encodes_the_same(which: str, web_table: pa.Table, request: pytest.FixtureRequest):
    tokenizer: FlowTokenizer = request.getfixturevalue(which)
    again = FlowTokenizer.from_dict(json.loads(json.dumps(tokenizer.to_dict(), allow_nan=False)))
    assert again.vocabulary == tokenizer.vocabulary
    assert again.encode(web_table).ids.tolist() == tokenizer.encode(web_table).ids.tolist()
    assert again.to_dict() == tokenizer.to_dict()
    assert again.config == tokenizer.config


# Any table

PLAIN_TEXT = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=8)
ROWS = st.lists(
    st.tuples(
        st.none() | PLAIN_TEXT,
        st.none() | st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0]),
        st.none() | st.integers(0, 65535).map(float),
        st.none() | PLAIN_TEXT,
    ),
    min_size=1,
    max_size=12,
)


def any_table(rows: list[tuple[Any, ...]], *, dictionary: bool) -> pa.Table:
    types = [pa.string(), pa.float64(), pa.float64(), pa.string()]
    arrays = [pa.array([cells[at] for cells in rows], kind) for at, kind in enumerate(types)]
    chosen = [array.dictionary_encode() if dictionary else array for array in arrays]
    return pa.table(dict(zip(["c", "n", "p", "t"], chosen, strict=True)))


@given(training=ROWS, asked=ROWS, dictionary=st.booleans(), leave_out=st.booleans())
def test_decoding_keeps_every_category_the_bin_of_every_number_and_the_text(
    training: list[tuple[Any, ...]], asked: list[tuple[Any, ...]], dictionary: bool, leave_out: bool
):
    kinds = schema(c=ColumnKind.CATEGORY, n=ColumnKind.NUMBER, p=ColumnKind.PORT, t=ColumnKind.TEXT)
    config = EncodingConfig(omit_most_frequent=leave_out, num_bins=4, subword_vocab_size=256)
    tokenizer = FlowTokenizer.fit(kinds, [any_table(training, dictionary=dictionary)], config)
    known = {cells[0] for cells in training} - {None}
    numbers = tokenizer.encoders[1]
    block = tokenizer.encode(any_table(asked, dictionary=not dictionary))
    assert tokenizer.vocabulary.index("[UNK]") not in block.ids
    for index, cells in enumerate(asked):
        said = tokenizer.decode(row(block, index))
        category = "<missing>" if cells[0] is None else cells[0] if cells[0] in known else "<unseen>"
        assert said["c"] == category
        token = int(numbers.encode(pa.array([cells[1]], pa.float64()))[0, 0])
        assert said["n"] == numbers.slots[0].texts[token]
        assert said["t"] == ("<missing>" if cells[3] is None else cells[3] or "<empty>")


@given(rows=ROWS)
def test_rows_encode_the_same_alone_and_together(rows: list[tuple[Any, ...]]):
    kinds = schema(c=ColumnKind.CATEGORY, n=ColumnKind.NUMBER, p=ColumnKind.PORT, t=ColumnKind.TEXT)
    whole = any_table(rows, dictionary=True)
    tokenizer = FlowTokenizer.fit(kinds, [whole], EncodingConfig(subword_vocab_size=256))
    together = tokenizer.encode(pa.concat_tables([whole, whole.slice(0, 1)]))
    alone = [tokenizer.encode(whole.slice(index, 1)).ids for index in [*range(len(rows)), 0]]
    assert together.ids.tolist() == np.concatenate(alone).tolist()


def test_an_empty_table_encodes_to_nothing(web: FlowTokenizer, web_table: pa.Table):
    for empty in (web_table.slice(0, 0), web_table.schema.empty_table(), pa.table({})):
        block = web.encode(empty)
        assert (len(block), len(block.ids)) == (0, 0)


# Real data


def test_no_token_of_nsl_kdd_is_unknown_and_rows_are_short(data_dir: Path):
    flows = open_flows(data_dir / "nsl-kdd" / "KDDTrain+.txt.gz")
    tokenizer = FlowTokenizer.fit(flows.schema, flows.blocks)
    test = open_flows(data_dir / "nsl-kdd" / "KDDTest+.txt.gz", schema=flows.schema)
    for part in (flows, test):
        blocks = [tokenizer.encode(block) for block in part.blocks()]
        assert all(tokenizer.vocabulary.index("[UNK]") not in block.ids for block in blocks)
        lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
        assert lengths.max() <= 25
        assert lengths.mean() < 12


@pytest.mark.parametrize("vocabulary", ["compact", "extend"])
def test_no_token_of_generated_traffic_is_unknown_and_no_row_too_long(
    vocabulary: Any, wordpieces: str, tmp_path: Path
):
    write_csv(tmp_path / "flows.csv", 2000, 0)
    flows = open_flows(tmp_path / "flows.csv")
    source = wordpieces if vocabulary == "extend" else None
    config = EncodingConfig(vocabulary=vocabulary, wordpieces=source, subword_vocab_size=500)
    tokenizer = FlowTokenizer.fit(flows.schema, flows.blocks, config)
    for table in flows.blocks():
        block = tokenizer.encode(table)
        assert tokenizer.vocabulary.index("[UNK]") not in block.ids
        assert np.diff(block.offsets).max() <= 512
