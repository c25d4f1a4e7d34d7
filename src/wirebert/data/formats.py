"""Sensor logs, JSON lines and Arrow data, told by the first bytes of a file, and the schema that files of
them share."""

from collections.abc import Sequence
from pathlib import Path

from wirebert.data.dialect import Compression, Format
from wirebert.data.readers.arrow import ArrowTable, open_arrow
from wirebert.data.readers.json_lines import JsonLines, open_json_lines
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.argus import ArgusFlows, open_argus
from wirebert.data.sensors.canonical import flow_schema, sensor_table
from wirebert.data.sensors.nfdump import NfdumpFlows, open_nfdump
from wirebert.data.sensors.suricata import SuricataFlows, open_suricata
from wirebert.data.sensors.ton_iot import TonIotFlows, open_ton_iot
from wirebert.data.sensors.zeek import ZeekFlows, ZeekTable, open_zeek

Source = (
    ZeekFlows | ZeekTable | SuricataFlows | NfdumpFlows | ArgusFlows | TonIotFlows | ArrowTable | JsonLines
)
"""A file whose rows are read by a reader of its own, most of them as canonical columns."""

FORMATS: dict[type[Source], Format] = {
    ZeekFlows: "zeek",
    ZeekTable: "zeek",
    SuricataFlows: "suricata",
    NfdumpFlows: "nfdump",
    ArgusFlows: "argus",
    TonIotFlows: "ton_iot",
    ArrowTable: "arrow",
    JsonLines: "json_lines",
}
SUFFIXES = frozenset(".json .jsonl .ndjson .arrow .arrows .feather .ipc".split())
"""What files of these formats are called, beside .log and .csv."""


def open_source(
    path: Path,
    head: bytes,
    compression: Compression,
    where: str,
    block_bytes: int,
    schema: FlowSchema | None = None,
) -> Source | None:
    """The reader of a file that begins with `head`; None for delimited text, key-value lines and Parquet.

    Under a `schema` that speaks of the file's own column names, rather than of canonical ones, the file is a
    table like any.
    """
    for opens in (open_zeek, open_suricata, open_nfdump, open_argus, open_ton_iot, open_arrow):
        source = opens(path, head, compression, where)
        if source is not None:
            return None if schema is not None and _is_meant_raw(source, schema) else source
    return open_json_lines(path, head, compression, where, block_bytes)


def _is_meant_raw(source: Source, schema: FlowSchema) -> bool:
    if not isinstance(source, NfdumpFlows | ArgusFlows | TonIotFlows):
        return False
    features = {column.name for column in schema.features}
    return len(features & set(source.fields)) > len(features & set(source.names))


def flow_files(paths: Sequence[Path]) -> list[Path]:
    """The files without the Zeek logs that are joined with a conn log among them.

    >>> [path.name for path in flow_files([Path("conn.log"), Path("dns.log"), Path("flows.csv")])]
    ['conn.log', 'flows.csv']
    """
    known = set(paths)
    kinds = sensor_table("zeek").joined
    return [
        path
        for path in paths
        if not any(
            kind in path.name and path.with_name(path.name.replace(kind, "conn", 1)) in known - {path}
            for kind in kinds
        )
    ]


def joined_files(source: Source) -> tuple[Path, ...]:
    """The other files that are read along with this one."""
    return tuple(log.path for log in source.beside) if isinstance(source, ZeekFlows) else ()


def shared_schema(sources: Sequence[Source | None], names: Sequence[str]) -> FlowSchema | None:
    """The canonical schema of files that all give canonical columns, `names` together; None for others.

    What one format has of its own belongs to the schema only where no other format is read along.
    """
    schemas = [source.schema for source in sources if source is not None and source.schema is not None]
    if not schemas or len(schemas) < len(sources):
        return None
    kinds = {schema.name for schema in schemas}
    if len(kinds) > 1:
        return flow_schema("canonical", names)
    own = sensor_table(schemas[0].name).own
    return flow_schema(schemas[0].name, names, own)
