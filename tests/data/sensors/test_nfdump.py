from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import read_head
from wirebert.data.flows import open_flows
from wirebert.data.sensors.nfdump import NfdumpFlows, open_nfdump

HEADER = "ts,te,td,sa,da,sp,dp,pr,flg,fwd,stos,ipkt,ibyt,opkt,obyt"


def record(
    start: str,
    src: str,
    dst: str,
    flags: str = "...AP.SF",
    packets: int = 1,
    protocol: str = "TCP",
    td: str = "1.000",
) -> str:
    (sa, sp), (da, dp) = src.split(":"), dst.split(":")
    return (
        f"2018-01-12 {start},x,{td},{sa},{da},{sp},{dp},{protocol},{flags},0,0,{packets},{packets * 60},0,0"
    )


def write(path: Path, *records: str, summary: bool = True) -> Path:
    end = ["Summary", "flows,bytes,packets", "1,2,3"] if summary else []
    path.write_text("\n".join([HEADER, *records, *end]) + "\n")
    return path


def rows_of(path: Path, block_bytes: int = 1 << 20, parse_stats: ParseStats | None = None) -> pa.Table:
    head, compression = read_head(path)
    source = open_nfdump(path, head, compression, path.name)
    assert isinstance(source, NfdumpFlows)
    return pa.concat_tables(source.read(block_bytes, parse_stats))


def test_two_records_that_answer_each_other_are_one_flow(tmp_path: Path):
    asks = record("10:00:00", "10.0.0.1:1024", "10.0.0.2:80", "......S.", packets=2)
    answers = record("10:00:01", "10.0.0.2:80", "10.0.0.1:1024", "...A.R..", td="2.500")
    (row,) = rows_of(write(tmp_path / "n.csv", asks, answers)).to_pylist()
    assert row == {
        "ts": "1515751200.000000",
        "src_ip": "10.0.0.1",
        "src_port": "1024",
        "dst_ip": "10.0.0.2",
        "dst_port": "80",
        "protocol": "tcp",
        "conn_state": "REJ",
        "tcp_flags": "SRA",
        "duration_s": 3.5,
        "src_ip_bytes": 120,
        "dst_ip_bytes": 60,
        "src_packets": 2,
        "dst_packets": 1,
    }


def test_the_summary_is_no_row_and_is_counted(tmp_path: Path):
    parse_stats = ParseStats()
    rows = rows_of(write(tmp_path / "n.csv", record("10:00:00", "a:1", "b:2")), parse_stats=parse_stats)
    assert rows.num_rows == 1
    assert (parse_stats.num_rows, parse_stats.num_footer, parse_stats.num_lines) == (1, 3, 5)


def test_who_sends_syn_alone_has_asked_though_both_begin_in_one_second(tmp_path: Path):
    answers = record("10:00:00", "b:80", "a:1024", "...A..S.")
    asks = record("10:00:00", "a:1024", "b:80", "......S.")
    (row,) = rows_of(write(tmp_path / "n.csv", answers, asks)).to_pylist()
    assert (row["src_ip"], row["dst_port"]) == ("a", "80")


def test_late_answers_and_other_protocols_are_flows_of_their_own(tmp_path: Path):
    asks = record("10:00:00", "a:1", "b:2", "......S.")
    late = record("10:02:00", "b:2", "a:1", "...A.R..")
    other = record("10:00:00", "b:2", "a:1", protocol="UDP")
    table = rows_of(write(tmp_path / "n.csv", asks, late, other))
    assert table.num_rows == 3
    assert table["dst_packets"].to_pylist() == [0, 0, 0]


def test_a_second_exchange_between_the_same_ends_is_a_second_flow(tmp_path: Path):
    there, back = ("a:1", "b:2"), ("b:2", "a:1")
    ways = [there, back, there, back]
    records = [record(f"10:00:0{second}", *way) for second, way in enumerate(ways)]
    assert rows_of(write(tmp_path / "n.csv", *records)).num_rows == 2


def test_records_that_count_both_ways_stay_alone(tmp_path: Path):
    two_way = record("10:00:00", "a:1", "b:2").removesuffix("0,0") + "4,400"
    (row,) = rows_of(write(tmp_path / "n.csv", two_way)).to_pylist()
    assert (row["dst_packets"], row["dst_ip_bytes"]) == (4, 400)


@given(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from("abc"), st.sampled_from("abc")), max_size=40),
    st.integers(150, 2000),
)
def test_packets_and_bytes_are_kept_whatever_the_blocks(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, str, str]], block_bytes: int
):
    events = sorted(events)
    records = [
        record(f"10:{second // 60:02d}:{second % 60:02d}", f"{src}:1", f"{dst}:1", packets=1 + second % 5)
        for second, src, dst in events
    ]
    path = write(tmp_path_factory.mktemp("nfdump") / "n.csv", *records)
    table = rows_of(path, block_bytes)
    sent, answered = np.array(table["src_packets"]), np.array(table["dst_packets"])
    assert sent.sum() + answered.sum() == sum(1 + second % 5 for second, _, _ in events)
    assert table.num_rows + int((answered > 0).sum()) == len(events)


def test_the_real_log_is_read_whole(data_dir: Path):
    path = data_dir / "sensors" / "netflow" / "nfdump.csv.gz"
    parse_stats = ParseStats()
    table = rows_of(path, parse_stats=parse_stats)
    assert parse_stats.num_rows == 4593
    # The summary of the log itself: 241,025 bytes, 4,652 packets.
    assert sum(int(table[name].to_numpy().sum()) for name in ("src_ip_bytes", "dst_ip_bytes")) == 241_025
    assert sum(int(table[name].to_numpy().sum()) for name in ("src_packets", "dst_packets")) == 4_652
    assert table.num_rows + np.count_nonzero(table["dst_packets"].to_numpy()) == 4593
    assert Counter(table["conn_state"].to_pylist())["REJ"] > 2000


def test_icmp_has_type_and_code_as_zeek_has_them(tmp_path: Path):
    head = "ts,te,td,sa,da,sp,dp,pr,flg,ipkt,ibyt"
    row = "2018-01-12 15:37:30,2018-01-12 15:37:30,0.0,10.0.0.{},10.0.0.9,0,{},ICMP,......,1,60"
    path = tmp_path / "nf.csv"
    path.write_text(
        "\n".join([head, row.format(1, "8.0"), row.format(2, "2048"), row.format(3, "3.13")]) + "\n"
    )
    table = pa.concat_tables(open_flows(path).blocks())
    ports = [table[name].to_pylist() for name in ("src_ip", "src_port", "dst_port")]
    assert sorted(zip(*ports, strict=True)) == [
        ("10.0.0.1", 8.0, 0.0),
        ("10.0.0.2", 8.0, 0.0),
        ("10.0.0.3", 3.0, 13.0),
    ]
