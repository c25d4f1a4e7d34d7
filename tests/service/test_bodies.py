import json
from collections.abc import Callable
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wirebert.service import bodies
from wirebert.service.bodies import CSV, JSON, JSON_LINES, TEXT, BodyReader, arrays
from wirebert.service.limits import Limits, RequestError
from wirebert.service.raw_logs import RawFlows

if TYPE_CHECKING:
    from wirebert.data.schema.schema import FlowSchema

Read = Callable[[str, bytes], RawFlows]
LIMITS = Limits(max_rows=4, max_columns=12, max_field_characters=30)


@pytest.fixture(scope="module")
def read(schema: "FlowSchema") -> Callable[[str, bytes], RawFlows]:
    return BodyReader(schema, LIMITS).read


def plain(flows: RawFlows) -> dict[str, list[object]]:
    columns = flows.columns
    return columns.to_pydict() if isinstance(columns, pa.Table) else {k: list(v) for k, v in columns.items()}


def named(flows: RawFlows) -> dict[str, list[object]]:
    """The columns that have a value: those of a feature that no row names have none."""
    return {name: values for name, values in plain(flows).items() if values != [None] * len(values)}


def test_json_rows_become_columns_in_the_order_of_the_schema_and_omitted_keys_missing_values(read: Read):
    flows = read(
        JSON, b'{"flows": [{"service": "http", "bytes": 3, "other": 1}, {"bytes": null, "duration": 1.5}]}'
    )
    assert flows.num_rows == 2
    assert list(plain(flows).items()) == [
        ("src_ip", [None, None]),
        ("dst_port", [None, None]),
        ("duration", [None, 1.5]),
        ("bytes", [3, None]),
        ("service", ["http", None]),
        ("flags", [None, None]),
    ]
    assert flows.coverage.present == ("duration", "bytes", "service")
    assert flows.coverage.absent == ("src_ip", "dst_port", "flags")
    assert flows.coverage.ignored == ("other",)


def test_rows_in_the_names_of_the_model_alone_are_read_once(read: Read, monkeypatch: pytest.MonkeyPatch):
    looked_at: list[bytes] = []

    def look(body: bytes) -> bool:
        looked_at.append(body)
        return False

    monkeypatch.setattr(bodies, "is_sensor_log", look)
    assert named(read(JSON, b'{"flows": [{"bytes": 3, "service": "http"}]}'))["bytes"] == [3]
    assert not looked_at
    read(JSON, b'{"flows": [{"bytes": 3, "id.orig_h": "10.0.0.1"}]}')
    assert len(looked_at) == 1


def test_json_lines_are_read_like_json(read: Read):
    assert named(read(JSON_LINES, b'{"bytes": 3}\n{"bytes": 4}\n')) == {"bytes": [3, 4]}


def test_csv_is_read_with_a_header_and_by_position(read: Read, schema: "FlowSchema"):
    assert plain(read(CSV, b"service;bytes\nhttp;3\ndns;4\n")) == {
        "service": ["http", "dns"],
        "bytes": [3, 4],
    }
    assert plain(read(CSV, b"t,u,10.0.0.1,80,1.5,7,http,SF\nt,u,10.0.0.2,81,1.6,8,dns,S\n"))["bytes"] == [
        7,
        8,
    ]


def test_a_label_is_not_read(read: Read):
    assert named(read(JSON, b'{"flows": [{"bytes": 1, "label": "smurf"}]}')) == {"bytes": [1]}
    assert named(read(TEXT, b"bytes,label\n1,smurf\n")) == {"bytes": [1]}


def test_no_rows_are_no_error(read: Read):
    assert read(JSON, b'{"flows": []}').num_rows == 0


NESTED = b'{"flows": [{"bytes": ' + b"[" * 200_000 + b"]" * 200_000 + b"}]}"


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (JSON, b"", 400),
        (JSON, b"{", 400),
        (JSON, b"\xff\xfe", 400),
        (JSON, b'{"flows": [{"bytes": NaN}]}', 400),
        (JSON, b'{"flows": [{"bytes": Infinity}]}', 400),
        (JSON, b'{"flows": [{"bytes": 1e999}]}', 422),
        (JSON, b'{"flows": [{"bytes": 1' + b"0" * 5000 + b"}]}", 422),
        (JSON, b'{"flows": [{"service": "\\ud800"}]}', 400),
        (JSON, b'{"flows": [{"service": "\xff"}]}', 400),
        (JSON, b"[]", 422),
        (JSON, b'{"rows": []}', 422),
        (JSON, b'{"flows": {}}', 422),
        (JSON, b'{"flows": [1]}', 422),
        (JSON, b'{"flows": [{"bytes": {"a": 1}}]}', 422),
        (JSON, b'{"flows": [{"bytes": [1]}]}', 422),
        (JSON, NESTED, 422),
        (JSON, b'{"flows": [{"other": 1}]}', 422),
        (JSON, b'{"flows": [{}]}', 422),
        (JSON, b'{"flows": [{"bytes": 1}], "more": 1}', 422),
        (JSON, json.dumps({"flows": [{"bytes": 1}] * 5}).encode(), 422),
        (JSON, json.dumps({"flows": [{"bytes": 1} | dict.fromkeys(map(str, range(12)))]}).encode(), 422),
        (JSON, json.dumps({"flows": [{"service": "x" * 31}]}).encode(), 422),
        (JSON_LINES, b'{"bytes": 1}\n[]\n', 422),
        (JSON_LINES, b'{"bytes": 1}\n' * 5, 413),
        (JSON_LINES, b"\n" * 9, 413),
        (JSON_LINES, b'{"bytes": 1}\nnonsense\n', 400),
        (CSV, b"", 422),
        (CSV, b"\0" * 1000, 422),
        (CSV, b"bytes,service\n", 422),
        (CSV, b"x,y\n1,2\n", 422),
        (CSV, b"bytes,service\n1,http\n2\n3,dns\n", 422),
        (CSV, b'bytes,service\n1,"http\n2,dns\n', 422),
        (CSV, b"bytes,service\n" + b"1,http\n" * 5, 413),
        (CSV, b"bytes,service\n1," + b"x" * 31 + b"\n", 413),
        (CSV, b",".join([b"bytes", *(b"c%d" % n for n in range(12))]) + b"\n" + b"1," * 12 + b"1\n", 413),
        (CSV, b'<?xml version="1.0"?><a/>\n', 422),
        (CSV, b"PAR1" + b"\0" * 100, 422),
        (CSV, b"PK\x03\x04" + b"\0" * 100, 422),
        (CSV, b"\x1f\x8b" + b"\0" * 100, 422),
        (TEXT, b"", 422),
        (TEXT, b"\0" * 1000, 422),
        (TEXT, b"x,y\n1,2\n", 422),
        (TEXT, b"bytes,service\n1,http\n2\n3,dns\n", 422),
        (TEXT, b"bytes,service\n" + b"1,http\n" * 5, 413),
        (TEXT, b"bytes,service\n1," + b"x" * 31 + b"\n", 413),
        (TEXT, b",".join([b"bytes", *(b"c%d" % n for n in range(12))]) + b"\n" + b"1," * 12 + b"1\n", 413),
        (TEXT, b"PK\x03\x04" + b"a" * 100, 422),
        (TEXT, b"#separator \\x09\n#path\tconn\n", 422),
    ],
)
def test_a_body_that_does_not_fit_is_refused(read: Read, kind: str, body: bytes, status: int):
    with pytest.raises(RequestError) as caught:
        read(kind, body)
    assert caught.value.status == status
    assert len(str(caught.value)) < 600


def status_of(read: Read, kind: str, body: bytes) -> int | None:
    """Of the refusal, if there is one."""
    try:
        read(kind, body)
    except RequestError as error:
        return error.status
    return None


ANY = st.binary(max_size=200) | st.text(max_size=200).map(str.encode)
CELLS = st.lists(st.lists(st.sampled_from(['"', "a", ",", "\n", "\r", "'", "\\", "#", ";", "1", " "])))
DELIMITED = CELLS.map(lambda cells: "\n".join(["bytes,service", *map("".join, cells)]).encode())


@pytest.mark.parametrize(
    ("kind", "bodies"),
    [(JSON, ANY), (JSON_LINES, ANY), (CSV, ANY), (CSV, DELIMITED), (TEXT, ANY), (TEXT, DELIMITED)],
)
@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused(
    read: Read, kind: str, bodies: st.SearchStrategy[bytes], data: st.DataObject
):
    assert status_of(read, kind, data.draw(bodies)) in (None, 400, 413, 422)


def test_values_of_mixed_types_become_the_text_that_a_file_would_hold(schema: "FlowSchema"):
    values = [True, 1, 2.0, 2.5, "x", None]
    table = arrays({"service": values, "bytes": values}, schema)
    assert table["service"].to_pylist() == table["bytes"].to_pylist() == ["1", "1", "2", "2.5", "x", None]


def test_numbers_become_numbers_at_once(schema: "FlowSchema"):
    assert arrays({"bytes": [1, 2.5, None]}, schema)["bytes"].type == pa.float64()


@pytest.mark.parametrize("huge", [2**63, -(2**64), 10**400])
def test_a_number_that_no_machine_word_holds_is_read_all_the_same(schema: "FlowSchema", huge: int):
    assert arrays({"bytes": [huge]}, schema).num_rows == 1


def test_a_structure_in_a_json_line_is_read_as_from_a_file(read: Read):
    assert named(read(JSON_LINES, b'{"bytes": 3, "more": {"a": [1, 2]}}\n')) == {"bytes": [3]}


def test_key_value_lines_are_text(read: Read):
    assert named(read(TEXT, b"service=http, bytes=3\nservice=dns, bytes=4\n")) == {
        "service": ["http", "dns"],
        "bytes": [3, 4],
    }
