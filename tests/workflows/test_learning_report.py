"""The parts of the report that read traffic; whole reports are in test_learn.py."""

from pathlib import Path

from wirebert.data.flows import open_flows
from wirebert.workflows.learning_report import normal_traffic

LOG = "ts,src_ip,dst_ip,dst_port,proto,bytes\n" + "".join(
    f"2026-01-01 {n % 3:02}:00:00,10.0.0.{1 + n % 2},10.0.1.9,{443 if n % 4 else 53},tcp,{n}\n"
    for n in range(24)
)


def test_hosts_ports_and_hours_are_counted(tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_text(LOG, encoding="utf-8")
    normal = normal_traffic(open_flows(path))
    found = {one.column: dict(one.counts) for one in normal.columns}
    assert found["source"] == {"10.0.0.1": 12, "10.0.0.2": 12}
    assert found["destination"] == {"10.0.1.9": 24}
    assert found["destination port"] == {"443": 18, "53": 6}
    assert normal.flows_by_hour[:4] == (8, 8, 8, 0)
    assert normal.num_flows == 24
