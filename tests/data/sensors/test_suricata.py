import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import read_head
from wirebert.data.sensors.suricata import SuricataFlows, open_suricata

FLOW: dict[str, object] = {
    "timestamp": "2021-06-06T15:57:37.272281+0200",
    "flow_id": 7,
    "event_type": "flow",
    "src_ip": "10.0.0.1",
    "src_port": 1024,
    "dest_ip": "10.0.0.2",
    "dest_port": 443,
    "proto": "TCP",
    "app_proto": "tls",
    "flow": {
        "pkts_toserver": 2,
        "pkts_toclient": 1,
        "bytes_toserver": 120,
        "bytes_toclient": 60,
        "start": "2021-06-06T17:34:31.000000+0200",
        "end": "2021-06-06T17:34:33.500000+0200",
    },
    "tcp": {"tcp_flags_ts": "02", "tcp_flags_tc": "14"},
}
STATS: dict[str, object] = {
    "timestamp": "2021-06-06T15:57:38.0+0200",
    "event_type": "stats",
    "stats": {"uptime": 1},
}


def event(kind: str, content: Mapping[str, object], flow_id: int = 7) -> dict[str, object]:
    return {"timestamp": "2021-06-06T15:57:36.0+0200", "flow_id": flow_id, "event_type": kind, kind: content}


def write(path: Path, *events: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def rows_of(path: Path, block_bytes: int = 1 << 20, parse_stats: ParseStats | None = None) -> pa.Table:
    head, compression = read_head(path)
    source = open_suricata(path, head, compression, path.name)
    assert isinstance(source, SuricataFlows)
    return pa.concat_tables(source.read(block_bytes, parse_stats))


def test_a_flow_event_gives_canonical_columns(tmp_path: Path):
    (row,) = rows_of(write(tmp_path / "eve.json", FLOW)).to_pylist()
    said = {name: value for name, value in row.items() if value is not None}
    assert said == {
        "ts": "1622993671.000000",
        "uid": "7",
        "src_ip": "10.0.0.1",
        "src_port": 1024,
        "dst_ip": "10.0.0.2",
        "dst_port": 443,
        "protocol": "tcp",
        "service": "ssl",
        "src_packets": 2,
        "dst_packets": 1,
        "src_ip_bytes": 92,  # 120 - 2 * 14
        "dst_ip_bytes": 46,
        "conn_state": "REJ",
        "tcp_flags": "SRA",
        "duration_s": 2.5,
        "num_alerts": 0,
    }


def test_a_flow_that_seems_to_last_for_centuries_costs_no_other_its_row(tmp_path: Path):
    damaged = {
        **FLOW,
        "flow": {**cast("dict[str, object]", FLOW["flow"]), "end": "2621-06-06T17:34:33.5+0200"},
    }
    rows = rows_of(write(tmp_path / "eve.json", damaged, FLOW))
    odd, sound = rows["duration_s"].to_numpy()
    assert (sound, odd > 599 * 365 * 86_400) == (2.5, True)


def test_alerts_and_application_events_are_joined_wherever_they_stand(tmp_path: Path):
    events = (
        event("alert", {"signature": "first", "category": "scan", "severity": 2}),
        STATS,
        FLOW,
        FLOW | {"flow_id": 8},
        event("alert", {"signature": "second", "category": "scan", "severity": 1}),
        event("tls", {"version": "TLS 1.2", "sni": "a.example", "ja3": {"hash": "aa"}}),
        event("dns", {"type": "query", "rrname": "b.example", "rrtype": "AAAA"}),
        event("dns", {"type": "answer", "rrname": "b.example", "rcode": "NXDOMAIN"}),
        event("http", {"url": "/x", "protocol": "HTTP/1.1", "status": 404}),
    )
    for block_bytes in (1 << 20, 400):
        parse_stats = ParseStats()
        first, second = rows_of(write(tmp_path / "eve.json", *events), block_bytes, parse_stats).to_pylist()
        assert (first["num_alerts"], first["alert_signature"], first["alert_severity"]) == (2, "first", "2")
        assert (first["ssl_version"], first["ssl_ja3"], first["ssl_server_name"]) == (
            "TLSv12",
            "aa",
            "a.example",
        )
        assert (first["dns_qtype"], first["dns_rcode"]) == ("28", "3")  # as Zeek writes them
        assert (first["uri"], first["http_version"], first["http_status_code"]) == ("/x", "1.1", "404")
        assert (second["num_alerts"], second["alert_signature"], second["uri"]) == (0, None, None)
        assert (parse_stats.num_rows, parse_stats.num_lines) == (2, 9)


def test_vlan_tags_are_link_headers_too(tmp_path: Path):
    (row,) = rows_of(write(tmp_path / "eve.json", FLOW | {"vlan": [5]})).to_pylist()
    assert row["src_ip_bytes"] == 120 - 2 * 18


def test_a_log_that_is_still_written_loses_its_last_line_only(tmp_path: Path):
    write(tmp_path / "eve.json", FLOW, FLOW)
    (tmp_path / "eve.json").write_text((tmp_path / "eve.json").read_text()[:-20])
    parse_stats = ParseStats()
    assert rows_of(tmp_path / "eve.json", parse_stats=parse_stats).num_rows == 1
    assert parse_stats.num_rejected == 1


def test_other_files_are_no_eve_logs(tmp_path: Path):
    for head in (b'{"a": 1}\n', b"a,b\n", b"", b'{"x": "event_type"}'):
        assert open_suricata(tmp_path / "f", head, "none", "f") is None


def test_the_real_log_is_read_whole(data_dir: Path):
    parse_stats = ParseStats()
    table = rows_of(data_dir / "sensors" / "suricata" / "eve.json.gz", parse_stats=parse_stats)
    assert table.num_rows == 3512
    assert parse_stats.num_lines == 5000
    # Suricata itself marks 366 flows as alerted.
    assert np.count_nonzero(table["num_alerts"].to_numpy()) == 366
    assert Counter(table["protocol"].to_pylist()) == {"tcp": 2336, "udp": 1176}
    assert table.num_rows - table["dns_qtype"].null_count == 101  # the flows that Suricata calls dns
    assert table["dns_rcode"].null_count == table["dns_qtype"].null_count  # every query was answered
    # 1,937 flows answer SYN (02) with RST and ACK (14), two more answer SYN, ECE and CWR (c2) so.
    assert Counter(table["conn_state"].to_pylist())["REJ"] == 1939
    assert (
        rows_of(data_dir / "sensors" / "suricata" / "eve.json.gz", 1 << 16).to_pylist() == table.to_pylist()
    )


def test_version_3_of_dns_events_lists_its_queries(tmp_path: Path):
    query = {
        "version": 3,
        "type": "request",
        "queries": [{"rrname": "a.example", "rrtype": "AAAA"}, {"rrname": "b"}],
    }
    answer = {
        "version": 3,
        "type": "response",
        "flags": "8580",
        "rcode": "NXDOMAIN",
        "queries": [{"rrname": "a.example", "rrtype": "AAAA"}],
        "answers": [{"rrname": "a.example", "rrtype": "AAAA", "ttl": 5, "rdata": "::1"}],
    }
    events = (
        event("dns", query),
        event("dns", answer),
        FLOW,
        FLOW | {"flow_id": 8},
        event("dns", {"queries": []}, 8),
    )
    first, second = rows_of(write(tmp_path / "eve.json", *events)).to_pylist()
    assert (first["dns_query"], first["dns_qtype"], first["dns_rcode"]) == ("a.example", "28", "3")
    assert (first["dns_AA"], first["dns_RD"], first["dns_RA"]) == ("1", "1", "1")
    assert (second["dns_query"], second["dns_qtype"], second["dns_RD"]) == (None, None, None)


def test_flags_of_a_dns_answer_are_told_apart(tmp_path: Path):
    answer = {"type": "answer", "rrname": "a.example", "rcode": "NOERROR", "flags": "8100"}
    (row,) = rows_of(write(tmp_path / "eve.json", event("dns", answer), FLOW)).to_pylist()
    assert (row["dns_AA"], row["dns_RD"], row["dns_RA"]) == ("0", "1", "0")


def test_quic_events_name_server_and_fingerprints_like_tls_events(tmp_path: Path):
    quic = {"version": "1", "sni": "q.example", "ja3": {"hash": "aa"}, "ja4": "q13d"}
    events = (event("quic", quic), event("tls", {"sni": "t.example"}, 8), FLOW, FLOW | {"flow_id": 8})
    first, second = rows_of(write(tmp_path / "eve.json", *events)).to_pylist()
    names = ("quic_version", "ssl_server_name", "ssl_ja3", "ssl_ja4")
    assert [first[name] for name in names] == ["1", "q.example", "aa", "q13d"]
    assert [second[name] for name in names] == [None, "t.example", None, None]
