import contextlib
import json
import time
from pathlib import Path

import pytest

from wirebert.data.accounting import ParseStats
from wirebert.data.readers.json_layout import JsonLayout, json_blocks, layout_of, plain_head, unwrapped
from wirebert.errors import DataError

EVENTS: list[dict[str, object]] = [{"n": index, "s": {"t": "}{"}, "l": [{"a": 1}]} for index in range(30)]
LAYOUTS = {
    "lines": "".join(json.dumps(event) + "\n" for event in EVENTS),
    "pretty": "\n".join(json.dumps(event, indent=2) for event in EVENTS),
    "array": json.dumps(EVENTS),
    "pretty array": json.dumps(EVENTS, indent=1),
    "records": json.dumps({"records": EVENTS}),
    "pretty records": json.dumps({"anything": EVENTS}, indent=1),
    "search": json.dumps({"took": 1, "hits": {"total": 1, "hits": [{"_source": event} for event in EVENTS]}}),
    "elasticsearch": "".join(json.dumps({"_id": "x", "_source": event}) + "\n" for event in EVENTS),
    "bulk": "".join(
        json.dumps({"index": {"_index": "f"}}) + "\n" + json.dumps(event) + "\n" for event in EVENTS
    ),
    "filebeat": "".join(
        json.dumps({"@timestamp": "x", "host": {"name": "h"}, "message": json.dumps(event)}) + "\n"
        for event in EVENTS
    ),
}


def events_of(path: Path, block_bytes: int, parse_stats: ParseStats | None = None) -> list[dict[str, object]]:
    blocks = json_blocks(path, "none", block_bytes, "f", parse_stats)
    return [json.loads(line) for block in blocks for line in block.splitlines() if line]


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("block_bytes", [500, 1 << 20])
def test_events_are_the_same_in_every_layout(name: str, block_bytes: int, tmp_path: Path):
    (tmp_path / "f").write_text(LAYOUTS[name])
    assert events_of(tmp_path / "f", block_bytes) == EVENTS
    head = (tmp_path / "f").read_bytes()
    layout = layout_of(head)
    assert layout is not None
    assert [json.loads(line) for line in plain_head(head, layout).splitlines() if line] == EVENTS


def test_a_flow_with_a_field_named_like_a_bulk_action_is_a_flow():
    head = b'{"index": {"value": 3}}\n{"index": {"value": 4}}\n'
    assert layout_of(head) == JsonLayout(is_lines=True)


def test_other_text_is_no_json():
    assert [layout_of(head) for head in (b"a,b\n", b"[1,2]\n", b"", b"#x\n")] == [None] * 4
    assert layout_of(b'{"message": "{no json"}\n') == JsonLayout(is_lines=True)


@pytest.mark.parametrize("layout", ["pretty", "pretty array"])
def test_a_damaged_object_costs_no_other(layout: str, tmp_path: Path):
    text = LAYOUTS[layout].replace('"n": 3,', '"n": 3 oops', 1).replace('"n": 7,', '"n": "7', 1)
    (tmp_path / "f").write_text(text)
    parse_stats = ParseStats()
    found = events_of(tmp_path / "f", 700, parse_stats)
    assert [event["n"] for event in found] == [n for n in range(30) if n not in (3, 7)]
    assert parse_stats.num_rejected == 2


def test_what_is_cut_off_is_set_aside(tmp_path: Path):
    (tmp_path / "f").write_text(LAYOUTS["array"][:-20])
    parse_stats = ParseStats()
    assert events_of(tmp_path / "f", 1 << 20, parse_stats) == EVENTS[:-1]
    assert (parse_stats.num_rejected, parse_stats.examples[0].reason) == (1, "expected a JSON object")


def test_one_endless_object_is_one_sentence(tmp_path: Path):
    (tmp_path / "f").write_text('[{"a": "' + "x" * 10_000)
    with pytest.raises(DataError, match="objects shorter than 800 bytes"):
        events_of(tmp_path / "f", 100)


def test_cloud_flow_logs_are_their_records():
    record = "2 123 eni-1 10.0.0.1 10.0.0.2 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK"
    (aws,) = unwrapped({"messageType": "DATA", "logEvents": [{"id": "1", "message": record}]})
    assert (aws["srcaddr"], aws["dstport"], aws["bytes"]) == ("10.0.0.1", "22", "4249")
    (google,) = unwrapped({"insertId": "x", "jsonPayload": {"bytes_sent": "5", "connection": {"port": 1}}})
    assert google == {"bytes_sent": "5", "connection": {"port": 1}}
    times = "1663146003599,10.0.0.6,192.0.2.180,23956,443,6,O,B,NX,0,0,0,0"
    groups = [{"rule": "r", "flowTuples": [times]}]
    vnet = {"time": "x", "flowRecords": {"flows": [{"aclID": "a", "flowGroups": groups}]}}
    (azure,) = unwrapped({"records": [vnet]})
    assert (azure["src_port"], azure["protocol"], azure["encryption"], azure["dst_bytes"]) == (
        *("23956", "6", "NX", "0"),
    )


def test_a_flow_with_fields_of_these_names_is_not_unwrapped():
    flow = {
        **{f"f{index}": index for index in range(9)},
        "result": {"a": 1},
        "message": '{"a":1}',
        "log": "x",
    }
    assert list(unwrapped(flow)) == [flow]


def test_values_that_do_not_end_take_bounded_work(tmp_path: Path):
    path, stats, since = tmp_path / "flows.json", ParseStats(), time.process_time()
    path.write_text("[\n" + '{"a":1,\n' * 5_000 + '{"a":2}\n]')
    assert b"".join(json_blocks(path, "none", 1 << 20, "f", stats)) == b'{"a": 2}\n'
    assert stats.num_rejected == 5_000
    path.write_text("[\n" + '{"a":[1,\n' * 5_000)
    with contextlib.suppress(DataError):
        list(json_blocks(path, "none", 1 << 20, "f", ParseStats()))
    assert time.process_time() - since < 10
