import pyarrow as pa
import pytest

from wirebert.data.schema.column_names import plain_name
from wirebert.data.schema.inference import infer_schema, take_sample
from wirebert.data.schema.schema import Column, ColumnKind
from wirebert.errors import SchemaError


def column_of(name: str, values: list[str]) -> Column:
    return infer_schema(pa.table({name: values}), name="flows").columns[0]


@pytest.mark.parametrize(
    ("name", "values", "kind", "is_feature"),
    [
        ("src_port", ["1", "65535"], "port", False),
        ("Src Port", ["1", "65535"], "port", False),
        ("id.orig_p", ["1", "2"], "port", False),
        ("dst_port", ["80", "443"], "port", True),
        ("Dport", ["80", "443"], "port", True),
        ("sport", ["80", "70000"], "count", True),
        ("SrcAddr", ["10.0.0.1", "fe80::1"], "address", True),
        ("peer", ["aa:bb:cc:dd:ee:ff", "aa:bb:cc:dd:ee:00"], "address", True),
        ("Stime", ["1421927414", "1421927413"], "time", False),
        ("seen", ["2024-01-02 10:00:00", "2024-01-01 10:00:00"], "time", False),
        ("dur", ["0.5", "1"], "duration", True),
        ("flow_duration", ["5", "1"], "duration", True),
        ("uid", ["C1", "C2"], "identifier", False),
        ("n", [str(i) for i in range(5, 30)], "identifier", False),
        ("vlan_id", ["1", "2", "1", "2", "1"], "count", True),
        ("is_ftp_login", ["0", "1"], "boolean", True),
        ("is_ftp_login", ["0", "1", "4"], "count", True),
        ("dns_AA", ["T", "F", "-"], "boolean", True),
        ("tcp_flags", ["SA", ".AP.SF"], "flags", True),
        ("flag", ["SF", "REJ", "S0"], "category", True),
        ("proto", ["6", "17", "6"], "category", True),
        ("http_status_code", ["200", "404"], "category", True),
        ("rate", ["0.1", "0.25"], "rate", True),
        ("bytes", ["5", "1", "-"], "count", True),
        ("jitter", ["5.5", "-1"], "number", True),
        ("load", ["Infinity", "1.5"], "number", True),
        ("uri", [f"/page/{i}" for i in range(200)], "text", True),
        ("payload", [*map(str, range(200, 100, -1)), *(f"' or {i}--" for i in range(150))], "text", True),
        ("server_name", ["a.example", "b.example"], "category", False),
        ("zeros", ["0", "0"], "constant", False),
        ("nothing", ["-", ""], "constant", False),
    ],
)
def test_kind_follows_from_name_and_values(name: str, values: list[str], kind: str, is_feature: bool):
    column = column_of(name, values)
    assert (str(column.kind), column.is_feature) == (kind, is_feature)
    assert is_feature or column.note


def test_a_number_column_with_one_odd_word_lists_the_word_as_missing():
    column = column_of("bytes", [*map(str, range(50, 20, -1)), "unknown", "unknown"])
    assert column.kind is ColumnKind.COUNT
    assert "unknown" in column.null_values
    assert "'unknown' read as missing" in column.note


@pytest.mark.parametrize(
    ("table", "label", "derived"),
    [
        ({"attack_cat": ["Normal", "DoS", "Worms"], "label": ["0", "1", "1"]}, "attack_cat", ["label"]),
        ({"label": ["0", "1", "1"], "type": ["normal", "ddos", "xss"]}, "type", ["label"]),
        ({"attack_cat": ["", "DoS", "Worms"], "Label": ["0", "1", "1"]}, "Label", ["attack_cat"]),
        ({"type": ["8", "0", "8", "0"], "class": ["a", "a", "b", "b"]}, "class", []),
        ({"column_1": ["tcp", "udp", "tcp"], "column_2": ["normal.", "smurf.", "normal."]}, "column_2", []),
        ({"bytes": ["1", "2"], "proto": ["tcp", "udp"]}, None, []),
    ],
)
def test_the_fullest_multi_class_label_is_chosen(
    table: dict[str, list[str]], label: str | None, derived: list[str]
):
    schema = infer_schema(pa.table(table), name="flows")
    assert schema.label == label
    assert [column.name for column in schema.columns if column.kind is ColumnKind.LABEL_DERIVED] == derived


def test_the_user_decides_the_label():
    table = pa.table({"attack_cat": ["Normal", "DoS", "Worms"], "label": ["0", "1", "1"]})
    schema = infer_schema(table, name="flows", label="label")
    assert schema.label == "label"
    assert schema.column("attack_cat").kind is ColumnKind.LABEL_DERIVED
    with pytest.raises(SchemaError, match="no label column 'lable', did you mean 'label'"):
        infer_schema(table, name="flows", label="lable")


def test_a_column_that_varies_outside_the_sample_is_not_constant():
    table = pa.table({"x": ["a", "a"]})
    assert infer_schema(table, name="f", varied=frozenset({"x"})).column("x").kind is ColumnKind.CATEGORY


def test_the_sample_reaches_from_the_first_to_the_last_rows_and_ignores_block_ends():
    rows = [str(i) for i in range(1000)]
    one, _ = take_sample([pa.table({"n": rows, "c": ["x"] * 1000})], ("n", "c"), num_rows=50)
    many = [pa.table({"n": rows[i : i + 7], "c": ["x"] * len(rows[i : i + 7])}) for i in range(0, 1000, 7)]
    other, varied = take_sample(many, ("n", "c"), num_rows=50)
    assert one["n"].to_pylist() == other["n"].to_pylist()
    assert 50 <= one.num_rows <= 100
    assert int(str(one["n"].to_pylist()[-1])) > 980
    assert varied == {"n"}


def test_names_are_compared_without_case_and_punctuation():
    assert [plain_name(name) for name in ("Src Port", "src-port", "srcPort", "id.orig_p")] == [
        "src_port", "src_port", "src_port", "id_orig_p",
    ]  # fmt: skip


def kinds_of(**columns: list[str]) -> dict[str, tuple[str, bool]]:
    schema = infer_schema(pa.table(columns), name="flows")
    return {column.name: (str(column.kind), column.is_feature) for column in schema.columns}


def test_fields_of_protocols_have_their_kinds():
    rows = range(200)
    found = kinds_of(
        src_mac=[f"00:11:22:33:44:{row % 100:02d}" for row in rows],
        resp_h=[f"fe80::{row:x}" for row in rows],
        dns_qtype=[("1", "28")[row % 2] for row in rows],
        dns_AA=["TF-"[row % 3] for row in rows],
        http_method=[("GET", "POST")[row % 2] for row in rows],
        http_status_code=[("200", "404")[row % 2] for row in rows],
        http_uri=[f"/a%20b?id={row}" for row in rows],
        user_agent=[f"agent {row % 150}" for row in rows],
        server_name=[f"host{row}.example" for row in rows],
        tls_version=[("TLSv12", "TLSv13")[row % 2] for row in rows],
        ja3=[f"{row * 7919:032x}" for row in rows],
        tcp_flags=[("SA", "S", "FA")[row % 3] for row in rows],
    )
    assert found == {
        "src_mac": ("address", True),
        "resp_h": ("address", True),
        "dns_qtype": ("category", True),
        "dns_AA": ("boolean", True),
        "http_method": ("category", True),
        "http_status_code": ("category", True),
        "http_uri": ("text", True),
        "user_agent": ("text", True),
        "server_name": ("category", False),
        "tls_version": ("category", True),
        "ja3": ("category", True),
        "tcp_flags": ("flags", True),
    }


def test_how_parts_of_a_text_are_encoded_is_noted():
    uris = [f"/a%20b?id={row}" if row % 4 else f"/{row}" for row in range(200)]
    (column,) = infer_schema(pa.table({"uri": uris}), name="flows").columns
    assert column.note == "percent-encoded in 75% of the rows"


def test_a_number_behind_the_label_that_goes_with_it_is_derived():
    labels = [("benign", "dos", "scan")[row % 3] for row in range(90)]
    table = {"bytes": [str(row % 7) for row in range(90)], "label": labels}
    related = {**table, "score": [str(len(label)) for label in labels]}
    assert kinds_of(**related)["score"] == ("label_derived", False)
    unrelated = {**table, "score": [str(row % 7) for row in range(90)]}
    assert kinds_of(**unrelated)["score"] == ("count", True)
