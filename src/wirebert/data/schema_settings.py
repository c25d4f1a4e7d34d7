"""The schema of files, with the settings of the data stage: label, benign class, context, dropped columns."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import io
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.config import DataConfig
from wirebert.data.context.context import has_context, with_context, without_context
from wirebert.data.context.endpoints import CONTEXT_REQUIRED
from wirebert.data.files import FlowFile
from wirebert.data.labels import with_mapped_labels
from wirebert.data.schema.conversion import with_points
from wirebert.data.schema.inference import infer_schema, take_sample
from wirebert.data.schema.library import known_schemas, read_schema
from wirebert.data.schema.proposals import with_suggested_combinations
from wirebert.data.schema.schema import FlowSchema, missing_name
from wirebert.data.sensors.canonical import flow_schema
from wirebert.data.sensors.formats import SENSOR_FORMATS
from wirebert.data.windows import ContextWindows
from wirebert.errors import DataError, SchemaError


def schema_of(config: DataConfig) -> FlowSchema | None:
    """The schema that was set, if one was."""
    if config.schema is None:
        return None
    known = known_schemas()
    if config.schema in known:
        return known[config.schema]
    if config.schema in SENSOR_FORMATS:
        extra = SENSOR_FORMATS[config.schema].table().own_columns
        names = [*known["canonical"].names, *(column.name for column in extra)]
        return flow_schema(config.schema, names, extra)
    if not Path(config.schema).is_file():
        raise SchemaError(
            f"--schema: {missing_name('schema or file', config.schema, [*known, *SENSOR_FORMATS])}"
        )
    return read_schema(Path(config.schema))


def label_name(label: str, names: tuple[str, ...]) -> str:
    """The label column, given by name or, if no column has that name, by position from 1."""
    if label not in names and label.isdecimal() and 1 <= int(label) <= len(names):
        return names[int(label) - 1]
    return label


def with_settings(config: DataConfig, schema: FlowSchema, part: FlowFile) -> FlowSchema:
    """The schema with the label, benign class, context and dropped columns of the settings."""
    if config.label is not None:
        label = label_name(config.label, part.names)
        if label not in part.names:
            raise SchemaError(f"{part.where}: {missing_name('label column', label, part.names)}")
        schema = schema.with_label(label)
    schema = schema if config.benign is None else replace(schema, benign=config.benign)
    if config.label_map:
        schema = replace(schema, label_map=with_mapped_labels(schema.label_map, config.label_map))
    schema = with_suggested_combinations(schema) if config.feature_combinations else schema
    names = [name for dropped in config.drop for name in _dropped_names(dropped, schema)]
    return _with_context(config, schema, part).without(names)


def _with_context(config: DataConfig, schema: FlowSchema, part: FlowFile) -> FlowSchema:
    """The schema with context features, if `data.context` or, where unset, the kind of log asks for them."""
    is_sensor = part.source is not None and part.source.schema is not None
    if config.context is False:
        return without_context(schema)
    if config.context is None and not (is_sensor and has_context(part.names)):
        return schema
    if not has_context(part.names):
        missing = next(name for name in CONTEXT_REQUIRED if name not in part.names)
        raise SchemaError(
            f"{part.where}: data.context needs times and addresses, "
            f"{missing_name('column', missing, part.names)}"
        )
    windows = ContextWindows(short_s=config.context_short_s, long_s=config.context_long_s)
    return with_context(schema, windows)


def _dropped_names(dropped: str, schema: FlowSchema) -> list[str]:
    """The columns of a structure (`flow` names flow.bytes, ...); else the name itself."""
    inside = [name for name in schema.names if name.startswith(f"{dropped}.")]
    return inside if inside and dropped not in schema.names else [dropped]


def infer_from_files(
    parts: list[FlowFile], name: str, config: DataConfig, opened: io.BufferedReader | None
) -> tuple[list[FlowFile], FlowSchema]:
    """The files with the right encoding, and a schema inferred by a pass over all of them."""
    sample, varied, lines = _sample(parts, config, opened)
    if lines.num_not_text and config.encoding is None and all(part.is_ascii for part in parts):
        # The head was plain ASCII, which fits any encoding; a line below it is not UTF-8.
        parts = [replace(part, dialect=replace(part.dialect, encoding="cp1252")) for part in parts]
        sample, varied, lines = _sample(parts, config, opened)
    lines.check(config.max_invalid_fraction, parts[0].where if len(parts) == 1 else name)
    if sample.num_rows == 0:
        raise DataError(f"{parts[0].where}: expected rows, found none; give a file that holds flows")
    if any(part.dialect.decimal_comma for part in parts):
        sample = with_points(sample)
    label = None if config.label is None else label_name(config.label, parts[0].names)
    inferred = infer_schema(sample, name=name, label=label, notes=parts[0].notes, varied=varied)
    return parts, inferred


def _sample(
    parts: list[FlowFile], config: DataConfig, opened: io.BufferedReader | None
) -> tuple[pa.Table, frozenset[str], ParseStats]:
    lines = [ParseStats() for _ in parts]
    blocks = (
        block
        for part, stats in zip(parts, lines, strict=True)
        for block in part.raw_blocks(config.block_mb << 20, stats, opened=opened)
    )
    sample, varied = take_sample(blocks, parts[0].names)
    for stats in lines[1:]:
        lines[0].merge(stats)
    return sample, varied, lines[0]
