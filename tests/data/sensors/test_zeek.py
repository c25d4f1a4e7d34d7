import json
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import read_head
from wirebert.data.sensors.zeek import ZeekFlows, ZeekTable, open_zeek
from wirebert.data.sensors.zeek_log import split_fields
from wirebert.errors import DataError

FIELDS: list[str] = [
    *(
        "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes "
        "conn_state missed_bytes "
        "history orig_pkts orig_ip_bytes resp_pkts resp_ip_bytes"
    ).split()
]
ROW: list[str] = [
    *"1.5 C1 10.0.0.1 1024 10.0.0.2 80 tcp ssl,http 2.5 10 20 SF 0 ShADadFf 3 138 4 188".split()
]


def tabs(*rows: list[str], fields: list[str] = FIELDS, path: str = "conn") -> str:
    head = f"#separator \\x09\n#set_separator\t,\n#path\t{path}\n#fields\t" + "\t".join(fields)
    return "\n".join([head, *("\t".join(row) for row in rows), "#close\t2024-01-01-00-00-00"]) + "\n"


def flows_of(path: Path) -> ZeekFlows:
    head, compression = read_head(path)
    source = open_zeek(path, head, compression, path.name)
    assert isinstance(source, ZeekFlows)
    return source


def rows_of(path: Path, block_bytes: int = 1 << 20, parse_stats: ParseStats | None = None) -> pa.Table:
    return pa.concat_tables(flows_of(path).read(block_bytes, parse_stats), promote_options="permissive")


def test_a_conn_log_gives_canonical_columns(tmp_path: Path):
    (tmp_path / "conn.log").write_text(tabs(ROW))
    assert rows_of(tmp_path / "conn.log").to_pylist() == [
        {
            "ts": "1.5",
            "uid": "C1",
            "src_ip": "10.0.0.1",
            "src_port": "1024",
            "dst_ip": "10.0.0.2",
            "dst_port": "80",
            "protocol": "tcp",
            "service": "http;ssl",
            "conn_state": "SF",
            "duration_s": "2.5",
            "src_ip_bytes": "138",
            "dst_ip_bytes": "188",
            "src_payload_bytes": "10",
            "dst_payload_bytes": "20",
            "src_packets": "3",
            "dst_packets": "4",
            "missed_bytes": "0",
            "history": "ShADadFf",
            "tcp_flags": "FSA",
        }
    ]


def test_tabs_and_json_say_the_same(tmp_path: Path):
    (tmp_path / "conn.log").write_text(tabs(ROW))
    values = [
        text if name not in {"id.orig_p"} else int(text) for name, text in zip(FIELDS, ROW, strict=True)
    ]
    numbers = {"ts", "duration", *(name for name in FIELDS if "bytes" in name or "pkts" in name), "id.resp_p"}
    pairs = (
        f'"{name}":{value}' if name in numbers or isinstance(value, int) else f'"{name}":"{value}"'
        for name, value in zip(FIELDS, values, strict=True)
    )
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "conn.log").write_text("{" + ",".join(pairs) + "}\n")
    as_tabs, as_json = (
        rows_of(tmp_path / "conn.log").to_pylist()[0],
        rows_of(tmp_path / "json" / "conn.log").to_pylist()[0],
    )
    numeric = {"ts", "duration_s", "src_port", "dst_port"}
    for name, text in as_tabs.items():
        other = as_json[name]
        is_number = name in numeric or "bytes" in name or "packets" in name
        assert (float(text) == float(other)) if is_number else (text == other), name


def test_labels_after_three_spaces_and_a_labelled_close_line(tmp_path: Path):
    """IoT-23 appends to every line, the fields' names and the last comment among them."""
    text = tabs(ROW, fields=[*FIELDS, "tunnel_parents"]).splitlines()
    text[3] += "   label   detailed-label"
    text[4] += "\t(empty)   Malicious   C&C"
    text[5] += "   benign   -"
    (tmp_path / "conn.log.labeled").write_text("\r\n".join(text) + "\r\n")
    parse_stats = ParseStats()
    (row,) = rows_of(tmp_path / "conn.log.labeled", parse_stats=parse_stats).to_pylist()
    assert (row["label"], row["detailed_label"]) == ("Malicious", "C&C")
    assert (parse_stats.num_rows, parse_stats.num_comments, parse_stats.num_lines) == (1, 5, 6)
    assert flows_of(tmp_path / "conn.log.labeled").schema.label == "label"
    assert split_fields(b"a\tb   c   d") == ("a", "b", "c", "d")


def test_logs_beside_it_are_joined_by_uid_the_first_record_counts(tmp_path: Path):
    other = ["2.5", "C2", *ROW[2:]]
    (tmp_path / "conn.log").write_text(tabs(ROW, other))
    dns = tabs(
        ["C2", "a.example", "1", "T"],
        ["C2", "b.example", "28", "F"],
        fields=["uid", "query", "qtype", "AA"],
        path="dns",
    )
    (tmp_path / "dns.log").write_text(dns)
    table = rows_of(tmp_path / "conn.log")
    assert table["dns_query"].to_pylist() == [None, "a.example"]
    assert table["dns_qtype"].to_pylist() == [None, "1"]
    assert table["dns_AA"].to_pylist() == [None, "1"]
    assert "http_method" not in table.column_names  # absent, not missing
    assert flows_of(tmp_path / "conn.log").title == "Zeek conn log, tab-separated, joined with dns"


def test_ssl_fingerprints_and_the_server_that_quic_names_are_joined(tmp_path: Path):
    (tmp_path / "conn.log").write_text(tabs(ROW, ["2.5", "C2", *ROW[2:]]))
    ssl = tabs(
        ["C1", "TLSv12", "one.example", "aa", "t13"],
        fields=["uid", "version", "server_name", "ja3", "ja4"],
        path="ssl",
    )
    (tmp_path / "ssl.log").write_text(ssl)
    (tmp_path / "quic.log").write_text(
        tabs(["C2", "1", "two.example"], fields=["uid", "version", "server_name"], path="quic")
    )
    table = rows_of(tmp_path / "conn.log")
    assert table["ssl_server_name"].to_pylist() == ["one.example", "two.example"]
    assert table["ssl_ja3"].to_pylist() == ["aa", None]
    assert table["ssl_ja4"].to_pylist() == ["t13", None]
    assert table["quic_version"].to_pylist() == [None, "1"]


def test_joined_rows_do_not_depend_on_blocks(tmp_path: Path):
    rows = [[f"{i}.5", f"C{i}", *ROW[2:]] for i in range(200)]
    (tmp_path / "conn.log").write_text(tabs(*rows))
    (tmp_path / "http.log").write_text(
        tabs(*([f"C{i}", f"/{i}"] for i in range(0, 200, 3)), fields=["uid", "uri"], path="http")
    )
    whole, pieces = rows_of(tmp_path / "conn.log"), rows_of(tmp_path / "conn.log", block_bytes=1000)
    assert whole.to_pylist() == pieces.to_pylist()
    assert whole["uri"].to_pylist() == [f"/{i}" if i % 3 == 0 else None for i in range(200)]


def test_json_times_may_be_dates(tmp_path: Path):
    line = (
        '{"ts":"2021-06-06T14:38:55.855844Z","uid":"C1","id.orig_h":"::1","proto":"udp","conn_state":"S0"}\n'
    )
    (tmp_path / "conn.log").write_text(line)
    assert rows_of(tmp_path / "conn.log")["ts"].to_pylist() == ["1622990335.855844"]


def test_another_zeek_log_is_a_table_of_its_own(tmp_path: Path):
    (tmp_path / "x.log").write_text(tabs(["1.5", "a.example"], fields=["ts", "query"], path="dns"))
    head, compression = read_head(tmp_path / "x.log")
    source = open_zeek(tmp_path / "x.log", head, compression, "x.log")
    assert isinstance(source, ZeekTable)
    assert source.names == ("ts", "query")
    assert next(source.read(1 << 20)).to_pylist() == [{"ts": "1.5", "query": "a.example"}]


def test_broken_heads_and_changing_columns_are_one_sentence(tmp_path: Path):
    (tmp_path / "conn.log").write_text("#separator \\x09\n#path\tconn\n1\t2\n")
    with pytest.raises(DataError, match="expected a #fields line"):
        flows_of(tmp_path / "conn.log")
    (tmp_path / "conn.log").write_text(tabs([*ROW, "x"], fields=[*FIELDS, "ts"]))
    with pytest.raises(DataError, match="found 'ts' twice"):
        flows_of(tmp_path / "conn.log")
    (tmp_path / "conn.log").write_text(tabs(ROW) + tabs(ROW))
    assert rows_of(tmp_path / "conn.log").num_rows == 2  # rotated logs put together


@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_logs_put_together_are_read_by_the_names_of_each(tmp_path: Path, block_bytes: int):
    without_history = [name for name in FIELDS if name != "history"]
    logs = [
        tabs(ROW),
        tabs(ROW[::-1], fields=FIELDS[::-1]),
        tabs([*(value for value in ROW if value != "ShADadFf"), "x"], fields=[*without_history, "new"]),
        tabs(["1.5", "C1", "a.example"], fields=["ts", "uid", "query"], path="dns"),
        tabs(ROW),
    ]
    (tmp_path / "conn.log").write_text("".join(logs))
    stats = ParseStats()
    rows = rows_of(tmp_path / "conn.log", block_bytes, stats).to_pylist()
    assert len(rows) == 4
    assert rows[0] == rows[1] == rows[3]
    changed = {name for name in rows[0] if rows[0][name] != rows[2][name]}
    assert changed == {"history", "tcp_flags"}
    assert [(row.line, row.reason) for row in stats.examples] == [
        (23, "expected a conn log, found a row of a dns log, as the header before it says")
    ]
    assert stats.num_lines == 30
    assert stats.num_line_breaks == 0


def test_a_later_header_that_repeats_a_name_costs_its_rows_alone(tmp_path: Path):
    (tmp_path / "conn.log").write_text(tabs(ROW) + tabs([*ROW, "1"], fields=[*FIELDS, "ts"]) + tabs(ROW))
    stats = ParseStats()
    assert rows_of(tmp_path / "conn.log", parse_stats=stats).num_rows == 2
    assert stats.num_rejected == 1


def test_other_files_are_no_zeek_logs(tmp_path: Path):
    for head in (b"a,b\n1,2\n", b'{"event_type":"flow"}\n', b'{"uid": 1}\n', b"{", b""):
        assert open_zeek(tmp_path / "f", head, "none", "f") is None


@pytest.mark.parametrize(
    ("file", "num_rows"),
    [
        ("sensors/zeek-json/conn.log", 576),
        ("sensors/zeek-tsv/conn.log", 141),
        ("sensors/zeek-labeled/conn.log.labeled", 766),
        ("sensors/zeek-scans/horizontal.conn.log", 41),
        ("sensors/zeek-scans/vertical.conn.log", 50),
        ("iot-23/CTU-IoT-Malware-Capture-42-1.conn.log.labeled.gz", 4426),
        ("iot-23/CTU-Honeypot-Capture-4-1.conn.log.labeled.gz", 452),
    ],
)
def test_real_logs_are_read_whole(data_dir: Path, file: str, num_rows: int):
    table = rows_of(data_dir / file)
    assert table.num_rows == num_rows
    assert rows_of(data_dir / file, block_bytes=1 << 14).to_pylist() == table.to_pylist()


def test_labels_of_real_logs(data_dir: Path):
    def counts(file: str) -> Counter[str | None]:
        return Counter(rows_of(data_dir / file)["label"].to_pylist())

    assert counts("sensors/zeek-labeled/conn.log.labeled") == {"Malicious": 719, "Benign": 44, "Unknown": 3}
    assert counts("iot-23/CTU-IoT-Malware-Capture-42-1.conn.log.labeled.gz") == {
        "Benign": 4420,
        "Malicious": 6,
    }
    assert counts("iot-23/CTU-Honeypot-Capture-4-1.conn.log.labeled.gz") == {"benign": 452}


def test_real_json_logs_are_joined(data_dir: Path):
    table = rows_of(data_dir / "sensors" / "zeek-json" / "conn.log")
    # 109 of the 576 flows have a uid of http.log, 205 one of ssl.log (counted with jq and comm).
    assert table.num_rows - table["http_method"].null_count == 109
    assert table.num_rows - table["ssl_version"].null_count == 205


@pytest.mark.parametrize("separator", ["\\xff", "\\x0a"])
def test_a_separator_that_separates_nothing_is_one_sentence(separator: str, tmp_path: Path):
    path = tmp_path / "conn.log"
    path.write_text(f"#separator {separator}\n#fields\tts\tuid\n1\tx\n")
    head, compression = read_head(path)
    with pytest.raises(DataError, match="expected a #separator that is one ASCII character"):
        open_zeek(path, head, compression, "conn.log")


def corelight(kind: str, uid: str, **fields: object) -> str:
    """A line as Corelight's sensors and Zeek's streaming package write it."""
    common = {
        "_path": kind,
        "_system_name": "sensor",
        "_write_ts": "2024-03-24T17:15:21.255387Z",
        "ts": "2024-03-24T17:15:20.000000Z",
        "uid": uid,
        "id.orig_h": "10.0.0.1",
        "id.orig_p": 1024,
        "id.resp_h": "10.0.0.2",
        "id.resp_p": 443,
    }
    return json.dumps(common | fields) + "\n"


MIXED = (
    corelight("ssh", "C9", version=2, client="OpenSSH"),
    corelight("conn", "C1", proto="tcp", service="ssl", conn_state="SF", orig_ip_bytes=138, duration=2.5),
    corelight("ssl", "C1", version="TLSv13", server_name="one.example", ja4="t13", ja4s="t130", ja3="aa"),
    corelight("dns", "C2", query="two.example", qtype=1, AA=True),
    corelight("conn", "C2", proto="udp", service="dns", conn_state="SF", orig_ip_bytes=60, duration=0.1),
    '{"_path":"stats","ts":"2024-03-24T17:15:20Z","mem":1}\n',
)


@pytest.mark.parametrize("block_bytes", [400, 1 << 20])
def test_one_file_may_hold_all_logs_where_each_line_names_its_own(tmp_path: Path, block_bytes: int):
    (tmp_path / "corelight.json").write_text("".join(MIXED))
    flows, parse_stats = flows_of(tmp_path / "corelight.json"), ParseStats()
    table = pa.concat_tables(flows.read(block_bytes, parse_stats), promote_options="permissive")
    assert flows.title == "Zeek conn log, JSON, joined with dns, ssl"
    assert table["uid"].to_pylist() == ["C1", "C2"]
    assert table["ts"].to_pylist() == ["1711300520.000000"] * 2
    assert table["ssl_ja4s"].to_pylist() == ["t130", None]
    assert table["ssl_version"].to_pylist() == ["TLSv13", None]
    assert table["dns_AA"].to_pylist() == [None, "1"]
    assert (parse_stats.num_rows, parse_stats.num_comments, parse_stats.num_lines) == (2, 4, 6)


def test_a_file_of_lines_that_name_their_log_is_joined_with_its_neighbours(tmp_path: Path):
    (tmp_path / "conn_20240324.json").write_text("".join(line for line in MIXED if '"conn"' in line))
    (tmp_path / "ssl_20240324.json").write_text(MIXED[2])
    table = rows_of(tmp_path / "conn_20240324.json")
    assert table["ssl_server_name"].to_pylist() == ["one.example", None]
    assert "dns_query" not in table.column_names
