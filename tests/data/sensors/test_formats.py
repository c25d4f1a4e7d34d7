"""A new sensor format is one entry in `SENSOR_FORMATS`, with which it is read, inspected and followed."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from wirebert.alerts.outputs import Target
from wirebert.data.accounting import ParseStats
from wirebert.data.config import DataConfig
from wirebert.data.dialect import Compression
from wirebert.data.flows import open_flows
from wirebert.data.formats import can_be_followed
from wirebert.data.readers.lines import line_blocks, parse_delimited
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.canonical import flow_schema, parse_sensor_table
from wirebert.data.sensors.formats import SENSOR_FORMATS
from wirebert.data.sensors.sensor import SensorFormat, SensorLog
from wirebert.inference.detector import Detector
from wirebert.workflows.inspect import inspect_data, plain_lines
from wirebert.workflows.monitor import MonitorSettings, Requests, monitor

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact
    from wirebert.model.distilbert import DistilBert

COLUMNS = {"ts": "when", "src_ip": "from", "dst_ip": "to", "protocol": "proto", "src_packets": "sent"}


@dataclass(frozen=True)
class ToyLog:
    """Lines `TOY when from to proto sent`."""

    path: Path
    compression: Compression
    where: str
    format: str = "toy"
    title: str = "Toy log"
    raw_names: tuple[str, ...] = ()
    joined_files: tuple[Path, ...] = ()
    names: tuple[str, ...] = tuple(COLUMNS)

    @property
    def schema(self) -> FlowSchema:
        return flow_schema(self.format, self.names)

    def read(self, block_bytes: int, parse_stats: ParseStats | None = None) -> Iterator[pa.Table]:
        parse_stats = parse_stats or ParseStats()
        for block in line_blocks(self.path, self.compression, block_bytes, self.where, parse_stats):
            rows = parse_delimited(
                block,
                ("mark", *self.names),
                " ",
                quote=None,
                where=self.where,
                parse_stats=parse_stats,
            )
            yield rows.select(list(self.names))


def open_toy(path: Path, head: bytes, compression: Compression, where: str) -> SensorLog | None:
    return ToyLog(path, compression, where) if head.startswith(b"TOY ") else None


@pytest.fixture
def toy_log(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    table = parse_sensor_table("toy", {"title": "Toy", "columns": COLUMNS})
    toy = SensorFormat(name="toy", open_log=open_toy, table=lambda: table, can_be_followed=True)
    monkeypatch.setitem(SENSOR_FORMATS, "toy", toy)
    path = tmp_path / "flows.log"
    path.write_text("".join(f"TOY {i}.5 10.0.0.{i % 7} 10.0.1.1 tcp {i % 5}\n" for i in range(200)))
    return path


def test_a_registered_format_is_read_as_canonical_columns(toy_log: Path):
    flows = open_flows(toy_log)
    assert (flows.described, flows.schema.name) == ("Toy log", "toy")
    table = pa.concat_tables(flows.blocks())
    assert table.num_rows == 200
    assert table["src_packets"].to_pylist()[:3] == [0.0, 1.0, 2.0]
    assert flows.schema.context is not None
    assert "ctx_src_flows_60s" in table.column_names


def test_a_registered_format_is_inspected(toy_log: Path):
    lines = list(plain_lines(inspect_data(str(toy_log), DataConfig())))
    assert "Toy log" in lines[0]
    assert "200 rows" in lines[1]


def test_a_registered_format_is_followed(
    toy_log: Path, make_artifact: "Callable[..., tuple[Artifact, DistilBert]]", tmp_path: Path
):
    flows = open_flows(toy_log)
    detector = Detector(make_artifact(flows.schema, pa.concat_tables(flows.blocks()))[0])

    class UntilIdle(Event):
        def wait(self, timeout: float | None = None) -> bool:
            del timeout
            self.set()
            return True

    stop = UntilIdle()
    settings = MonitorSettings(targets=(Target.parse(str(tmp_path / "out.jsonl")),), state=tmp_path / "state")
    assert monitor(lambda: detector, [str(toy_log)], settings, Requests(stop=stop), [].extend) == 200
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 200


def test_pairs_of_records_and_whole_tables_cannot_be_followed():
    assert {name for name in SENSOR_FORMATS if not can_be_followed(name)} == {"nfdump", "ton_iot"}
    assert can_be_followed("delimited")
    assert not can_be_followed("parquet")


def test_entries_are_found_under_their_own_name_and_their_table_has_columns():
    assert all(name == sensor.name for name, sensor in SENSOR_FORMATS.items())
    assert all(sensor.table().columns for name, sensor in SENSOR_FORMATS.items() if name != "nfdump")
