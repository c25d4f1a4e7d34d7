"""A body that is a log or table of any text format -> flows, by the readers of files that `predict` uses."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from wirebert.data.context.context import without_context
from wirebert.data.findings import Finding
from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.formats import open_sensor_log
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.errors import UserError
from wirebert.files import path_of, unnamed_file
from wirebert.inference.coverage import FeatureCoverage, codes_of_all, coverage_of
from wirebert.service.limits import Limits, RequestError

_HEAD_BYTES: Final = 1 << 16
"""Bytes of a body by which a sensor's log is recognised."""
_CONFIG: Final = DataConfig(allow_absent=True)
"""Whether enough features are present is asked of the request, not here."""

Value = bool | int | float | str | None
"""Value of one cell of JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RawFlows:
    """The flows of a body, columns of the schema only, without context."""

    num_rows: int
    columns: Mapping[str, Sequence[Value]] | pa.Table
    """A typed table; lists of JSON, which are typed together with those of other requests."""
    coverage: FeatureCoverage
    """The features that the body names."""
    invalid_values: InvalidValues = field(default_factory=InvalidValues)
    """Values of the table that are read as missing."""
    findings: tuple[Finding, ...] = ()
    """What was noticed while the body was opened."""
    is_keyed: bool = False
    """Whether each row names its columns, and may leave out what it does not know."""

    @property
    def codes(self) -> tuple[str, ...]:
        """Warning codes of every verdict on these flows."""
        return codes_of_all((*self.coverage.findings, *self.findings))

    @property
    def may_omit(self) -> bool:
        """Whether few features may be named: by a client that names columns of the model alone."""
        return self.is_keyed and not self.coverage.ignored

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that are present."""
        return tuple(self.columns.column_names if isinstance(self.columns, pa.Table) else self.columns)


def is_sensor_log(body: bytes) -> bool:
    """Whether a body begins like the log of a sensor.

    Raises:
        RequestError: it does, but its head is damaged.
    """
    try:
        return open_sensor_log(Path("body"), body[:_HEAD_BYTES], "none", "the body") is not None
    except (UserError, RecursionError) as error:
        raise RequestError(422, str(error)) from error


def read_log(body: bytes, schema: FlowSchema, limits: Limits) -> RawFlows:
    """The flows of a body, typed as `predict` types those of a file with these bytes.

    Raises:
        RequestError: it is no text, exceeds a limit, or a line of it is no flow.
    """
    if b"\0" in body or body[:2] in (b"\x1f\x8b", b"BZ", b"PK") or body[:4] == b"\x28\xb5\x2f\xfd":
        raise RequestError(422, "expected text, found binary or compressed data; send it as text")
    with _as_file(body) as path:
        try:
            return _read(path, schema, limits)
        except RequestError:
            raise
        except (UserError, RecursionError) as error:
            raise RequestError(422, str(error).replace(str(path), "the body")) from error


def _read(path: Path, schema: FlowSchema, limits: Limits) -> RawFlows:
    flows = open_flows(path, _CONFIG, schema=without_context(schema))
    coverage = coverage_of(flows, schema)
    limits.require_columns(len(flows.parts[0].names) - len(flows.parts[0].unnamed))
    labels = [c.name for c in schema.columns if c.kind in (ColumnKind.LABEL, ColumnKind.LABEL_DERIVED)]
    invalid_values, blocks, num_rows = InvalidValues(), list[pa.Table](), 0
    for block in flows.blocks(invalid_values):
        num_rows += block.num_rows
        limits.require_rows(num_rows)
        check_lengths(block, limits)
        blocks.append(block.drop_columns([name for name in labels if name in block.column_names]))
    for left in invalid_values.lines.examples:  # lines after the table, such as totals, are told
        raise RequestError(422, f"{left.location}: {left.reason}; every row needs its verdict")
    if not blocks:
        raise RequestError(422, f"{flows.described}: expected flows, found none")
    return RawFlows(
        num_rows=num_rows,
        columns=pa.concat_tables(blocks),
        coverage=coverage,
        invalid_values=invalid_values,
        findings=flows.findings,
    )


def check_lengths(block: pa.Table, limits: Limits) -> None:
    """Refuse a table with texts that are too long."""
    for name in block.column_names:
        for chunk in block[name].chunks:
            texts = chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk
            if isinstance(texts, pa.StringArray):
                limits.require_short(name, texts)


@contextmanager
def _as_file(body: bytes) -> Generator[Path]:
    """A path under which readers find the body: in memory where the system can do that."""
    with unnamed_file("wirebert-body-", in_memory=True) as file:
        file.write(body)
        file.flush()
        yield path_of(file)
