from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.accounting import ParseStats
from wirebert.data.flows import open_flows
from wirebert.data.sensors.nfdump_text import open_nfdump_text

CASE = Path(__file__).parents[2] / "cases" / "quantities" / "blanks-and-units.txt"
LONG = (
    "Date first seen          Duration Proto      Src IP Addr:Port          Dst IP Addr:Port   Flags Tos  "
    "Packets    Bytes      pps      bps    Bpp Flows\n"
    "2023-11-14 22:13:20.123     3.385 TCP      192.168.2.55:15389 ->          10.0.1.30:80    .AP.SF   0    "
    "1.2 M    1.0 G      6    3.1 k     35     1\n"
    "2023-11-14 22:13:21.000     0.000 ICMP6      2001:db8::5.0     ->       fe80::1.136.0 ......   0   "
    "1       72      0        0     72     1\n"
)


def test_units_behind_blanks_belong_to_their_numbers():
    stats = ParseStats()
    source = open_nfdump_text(CASE, CASE.read_bytes(), "none", CASE.name)
    assert source is not None
    table = pa.concat_tables(source.read(1 << 20, stats))
    sizes = pa.concat_tables(open_flows(CASE).blocks())["Bytes"].to_numpy().tolist()
    assert (table.num_rows, stats.num_rejected, stats.num_footer) == (40, 0, 1)
    assert (len(sizes), sizes[0], sizes[24], max(sizes)) == (40, 1e6, 11e6, 11e6)


def test_long_lines_have_their_columns(tmp_path: Path):
    path = tmp_path / "long.txt"
    path.write_text(LONG, encoding="utf-8")
    source = open_nfdump_text(path, LONG.encode(), "none", path.name)
    assert source is not None
    (first, second) = pa.concat_tables(source.read(1 << 20)).to_pylist()
    assert (first["Src Pt"], first["Flags"], first["Packets"], first["Bytes"], first["bps"]) == (
        "15389", ".AP.SF", "1.2M", "1.0G", "3.1k",
    )  # fmt: skip
    assert (second["Src IP Addr"], second["Src Pt"], second["Dst IP Addr"]) == (
        "2001:db8::5",
        "0",
        "fe80::1",
    )


@pytest.mark.parametrize("head", [b"", b"ts,te\n", b"Date first seen,Duration\n"])
def test_other_files_are_not_nfdump_text(head: bytes):
    assert open_nfdump_text(Path("x"), head, "none", "x") is None
