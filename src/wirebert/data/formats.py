"""The format of a file with its own reader, recognised by its first bytes, and the schema that such files
share."""

from collections.abc import Collection, Sequence
from pathlib import Path

from wirebert.data.dialect import Compression
from wirebert.data.readers.arrow import open_arrow
from wirebert.data.readers.http_requests import open_http_requests
from wirebert.data.readers.json_lines import open_json_lines
from wirebert.data.readers.source import Source
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.sensors.canonical import flow_schema
from wirebert.data.sensors.formats import SENSOR_FORMATS
from wirebert.data.sensors.nfdump_text import open_nfdump_text
from wirebert.data.sensors.sensor import SensorLog

SUFFIXES = frozenset(
    [
        *".json .jsonl .ndjson .arff .arrow .arrows .feather .ipc".split(),
        *(suffix for sensor in SENSOR_FORMATS.values() for suffix in sensor.suffixes),
    ]
)
"""File name suffixes of these formats, beside .log and .csv."""


def open_source(
    path: Path,
    head: bytes,
    compression: Compression,
    where: str,
    block_bytes: int,
    schema: FlowSchema | None = None,
) -> Source | None:
    """The reader of a file that begins with `head`; None for delimited text, key-value lines and Parquet.

    Of JSON, `head` holds one event a line (see `json_layout.plain_head`).

    If `schema` names the file's raw columns rather than canonical ones, the file is read as a plain table.
    """
    log = open_sensor_log(path, head, compression, where)
    if log is not None:
        return None if schema is not None and _names_raw_columns(schema, log) else log
    return (
        open_nfdump_text(path, head, compression, where)
        or open_arrow(path, head, compression, where)
        or open_http_requests(path, head, compression, where)
        or open_json_lines(path, head, compression, where, block_bytes)
    )


def open_sensor_log(path: Path, head: bytes, compression: Compression, where: str) -> SensorLog | None:
    """The sensor log that begins with `head`; None for another file."""
    logs = (sensor.open_log(path, head, compression, where) for sensor in SENSOR_FORMATS.values())
    return next((log for log in logs if log is not None), None)


def _names_raw_columns(schema: FlowSchema, log: SensorLog) -> bool:
    features = {column.name for column in schema.features}
    return bool(log.raw_names) and len(features & set(log.raw_names)) > len(features & set(log.names))


def can_be_followed(format_name: str) -> bool:
    """Whether each flow of the format is one line, so that a growing log can be scored."""
    sensor = SENSOR_FORMATS.get(format_name)
    return format_name in ("delimited", "json_lines") if sensor is None else sensor.can_be_followed


def joined_columns(format_name: str) -> dict[str, str]:
    """Column -> the other log or event that a format takes it from; canonical columns are named as Zeek's."""
    sensor = SENSOR_FORMATS.get("zeek" if format_name == "canonical" else format_name)
    return {} if sensor is None else sensor.joined_columns


def optional_fields(source: Source, names: Collection[str]) -> frozenset[str]:
    """The columns that a sensor may leave out of a log with the columns `names`: their values are missing.

    Columns of a log that is not given are not among them, nor those of a format with a fixed layout.
    """
    if source.format not in SENSOR_FORMATS or source.schema is None or getattr(source, "raw_names", ()):
        return frozenset()
    sensor = SENSOR_FORMATS[source.format]
    given = {log for name, log in sensor.joined_columns.items() if name in names}
    joined = [name for name, log in sensor.joined_columns.items() if log in given]
    return frozenset([*sensor.table().columns, "tcp_flags", *joined])


def flow_files(paths: Sequence[Path]) -> list[Path]:
    """The files, without those that are joined with another file among them.

    >>> [path.name for path in flow_files([Path("conn.log"), Path("dns.log"), Path("flows.csv")])]
    ['conn.log', 'flows.csv']
    """
    if len(paths) < 2:  # the words of a format are read for nothing
        return list(paths)
    among = frozenset(paths)
    tests = [sensor.is_joined_file for sensor in SENSOR_FORMATS.values() if sensor.is_joined_file is not None]
    return [path for path in paths if not any(is_joined(path, among) for is_joined in tests)]


def shared_schema(sources: Sequence[Source | None], names: Sequence[str]) -> FlowSchema | None:
    """The canonical schema of files that all give canonical columns, `names` together; None for other files.

    Columns that only one format has are part of the schema only if all files have that format.
    """
    schemas = [source.schema for source in sources if source is not None and source.schema is not None]
    if not schemas or len(schemas) < len(sources):
        return None
    formats = {source.format for source in sources if source is not None}
    if len(formats) > 1:
        return flow_schema("canonical", names)
    name = formats.pop()
    return flow_schema(name, names, SENSOR_FORMATS[name].table().own_columns)
