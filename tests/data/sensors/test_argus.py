from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.dialect import read_head
from wirebert.data.sensors.argus import ArgusFlows, open_argus

HEADER = (
    "StartTime,Dur,Proto,SrcAddr,Sport,Dir,DstAddr,Dport,State,sTos,dTos,"
    "TotPkts,TotBytes,SrcBytes,SrcPkts,Label"
)
ROW = (
    "2019/04/04 16:23:00.355768,1.5,tcp,10.0.0.1,4800,   ->,10.0.0.2,443,SPA_SRPA,0,164,"
    "3,300,200,2,flow=Background"
)


def source_of(path: Path) -> ArgusFlows:
    head, compression = read_head(path)
    source = open_argus(path, head, compression, path.name)
    assert isinstance(source, ArgusFlows)
    return source


def rows_of(path: Path, block_bytes: int = 1 << 20) -> pa.Table:
    return pa.concat_tables(source_of(path).read(block_bytes))


def test_a_binetflow_gives_canonical_columns(tmp_path: Path):
    (tmp_path / "f").write_text(f"{HEADER}\n{ROW}\n")
    (row,) = rows_of(tmp_path / "f").to_pylist()
    assert row == {
        "ts": "1554394980.355768",
        "src_ip": "10.0.0.1",
        "src_port": "4800",
        "dst_ip": "10.0.0.2",
        "dst_port": "443",
        "protocol": "tcp",
        "duration_s": "1.5",
        "src_packets": 2,
        "dst_packets": 1,
        "src_ip_bytes": 172,  # 200 - 2 * 14
        "dst_ip_bytes": 86,
        "conn_state": "RSTR",
        "tcp_flags": "SRA",
        "label": "flow=Background",
    }


def test_sides_are_exchanged_where_the_arrow_points_left(tmp_path: Path):
    (tmp_path / "f").write_text(f"{HEADER}\n{ROW.replace('   ->', '  <-')}\n")
    (row,) = rows_of(tmp_path / "f").to_pylist()
    assert (row["src_ip"], row["src_port"], row["src_packets"], row["src_ip_bytes"]) == (
        "10.0.0.2",
        "443",
        1,
        86,
    )


def test_without_packets_by_side_they_are_absent(tmp_path: Path):
    """CTU-13 has no SrcPkts."""
    header, row = HEADER.replace("SrcPkts,", ""), ROW.replace(",2,flow", ",flow")
    (tmp_path / "f").write_text(f"{header}\n{row}\n")
    table = rows_of(tmp_path / "f")
    assert "src_packets" not in table.column_names
    assert table["src_ip_bytes"].to_pylist() == [172]  # two thirds of three packets


def test_other_files_are_no_binetflow(tmp_path: Path):
    assert open_argus(tmp_path / "f", b"StartTime,Dur\n", "none", "f") is None


@pytest.mark.parametrize(("file", "num_rows"), [("comma.binetflow.gz", 6751), ("tab.binetflow", 300)])
def test_real_files_are_read_whole(data_dir: Path, file: str, num_rows: int):
    path = data_dir / "sensors" / "argus" / file
    table = rows_of(path)
    assert table.num_rows == num_rows  # lines of the file without its header
    assert rows_of(path, 1 << 14).to_pylist() == table.to_pylist()
    assert not any(value is None for value in table["conn_state"].to_pylist())


def test_hexadecimal_ports_and_labels_of_the_real_files_stay(data_dir: Path):
    table = rows_of(data_dir / "sensors" / "argus" / "tab.binetflow")
    assert "0x0303" in table["src_port"].to_pylist()
    assert Counter(table["label"].to_pylist())["flow=Malware-UDP-DNS"] == 197


def test_a_capture_inside_a_tunnel_has_no_link_headers(data_dir: Path):
    comma, tab = (data_dir / "sensors" / "argus" / name for name in ("comma.binetflow.gz", "tab.binetflow"))
    assert rows_of(comma)["src_ip_bytes"][0].as_py() == 63  # as in the file: TCP packets of 42 bytes occur
    assert rows_of(tab)["src_ip_bytes"][1].as_py() == 46  # 60 in the file, a frame of the least size
