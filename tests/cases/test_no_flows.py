"""Logs that are recognised: their flows wherever they stand, or the sentence that says why there are none."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.cli.main import main
from wirebert.data.flows import open_flows
from wirebert.errors import NoFlowsError

CASES = Path(__file__).parent / "no-flows"


def rows_of(file: str) -> pa.Table:
    return pa.concat_tables(open_flows(CASES / file).blocks())


@pytest.mark.parametrize(
    ("file", "events"), [("alerts-only.json", "9 alert"), ("stats-only.json", "8 stats")]
)
def test_events_that_are_no_flows_are_counted(file: str, events: str, capfd: pytest.CaptureFixture[str]):
    assert main(["inspect", str(CASES / file)]) == 2
    error = capfd.readouterr().err
    assert f"found none in Suricata EVE (events: {events})" in error
    assert "switch on `flow` among the types of eve-log" in error


def test_one_way_netflow_events_are_flows():
    flows = open_flows(CASES / "netflow-only.json")
    events = [json.loads(line) for line in (CASES / "netflow-only.json").read_text().splitlines()]
    rows = pa.concat_tables(flows.blocks())
    assert rows.num_rows == 9
    assert rows["src_packets"].to_pylist() == [event["netflow"]["pkts"] for event in events]
    assert not {"dst_packets", "dst_ip_bytes", "conn_state", "tcp_flags"} & set(flows.parts[0].names)


@pytest.mark.parametrize(
    ("file", "where"), [("in-source.ndjson", "_source"), ("in-message.ndjson", "message")]
)
def test_wrapped_events_are_read_and_the_wrapping_is_named(file: str, where: str):
    flows = open_flows(CASES / file)
    assert flows.described == f"Suricata EVE, inside {where}"
    assert pa.concat_tables(flows.blocks()).num_rows == 9


def test_events_over_several_lines_are_events():
    flows = open_flows(CASES / "pretty.json")
    assert flows.schema.name == "suricata"
    assert rows_of("pretty.json").num_rows == 6


def test_the_flows_inside_of_records_are_rows():
    rows = rows_of("nsg-records.json")
    assert rows.num_rows == 18
    first = rows.slice(0, 1).to_pylist()[0]
    assert (first["src_ip"], first["dst_port"], first["src_bytes"]) == ("192.168.3.7", 22.0, 1267.0)


def test_a_zeek_log_without_rows_is_refused(tmp_path: Path):
    head = (CASES.parent / "readers" / "zeek-comma" / "conn.log").read_text().splitlines()[:8]
    (tmp_path / "conn.log").write_text("\n".join(head) + "\n")
    with pytest.raises(NoFlowsError, match="expected flows, found none in Zeek conn log"):
        list(open_flows(tmp_path / "conn.log").blocks())
    assert list(open_flows(tmp_path / "conn.log", can_be_empty=True).blocks()) is not None
