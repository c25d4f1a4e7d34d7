"""Request body -> flows: JSON, JSON lines, CSV or an Arrow stream, by content type; or any log of text.

A body may be hostile. So it is read under `Limits`, the type of each value is checked before use, and a
request with an invalid row is refused, not silently shortened. The logs of sensors, under whichever type, and
other text are read by the readers of files (`raw_logs`).
"""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, final

import msgspec
import pyarrow as pa

from wirebert.data.accounting import ParseStats
from wirebert.data.config import DataConfig
from wirebert.data.delimited.detection import detect_dialect, detect_header
from wirebert.data.delimited.reader import tables
from wirebert.data.dialect import clean_names, decode_head, whole_lines
from wirebert.data.files import header_cells, table_rows
from wirebert.data.schema.conversion import InvalidValues, convert
from wirebert.data.schema.matching import match_names
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.errors import UserError
from wirebert.inference.coverage import feature_coverage
from wirebert.service.arrow_stream import read_stream
from wirebert.service.limits import Limits, RequestError
from wirebert.service.raw_logs import RawFlows, Value, check_lengths, is_sensor_log, read_log

JSON, JSON_LINES, CSV, TEXT, ARROW = (
    "application/json",
    "application/x-ndjson",
    "text/csv",
    "text/plain",
    "application/vnd.apache.arrow.stream",
)
TABS: Final = "text/tab-separated-values"
READ: Final[Mapping[str, str]] = {
    JSON: JSON,
    JSON_LINES: JSON_LINES,
    "application/jsonl": JSON_LINES,
    "application/ndjson": JSON_LINES,
    CSV: CSV,
    TABS: CSV,
    TEXT: TEXT,
    ARROW: ARROW,
}
"""Content type -> the format that reads it."""

_HEAD_BYTES: Final = 1 << 16
"""Bytes of a text from which its format is detected; its first line must end within them."""
_SENSOR_ROWS: Final = 100
"""Rows of a JSON body by which a sensor's log is recognised."""
_CSV_CONFIG: Final = DataConfig(
    encoding="utf-8", quote='"', escape="", comment="", skip_lines=0, decimal_comma=False
)
"""RFC 4180 with any delimiter: ambiguous text is not guessed at, and no line is skipped."""


def body_types(limits: Limits) -> tuple[Any, Any]:
    """The types by which JSON is read and documented: a body, and one row, which is a line of JSON lines."""
    text = Annotated[str, msgspec.Meta(max_length=limits.max_field_characters)]
    row: Any = Annotated[
        dict[str, bool | int | float | text | None],
        msgspec.Meta(
            max_length=limits.max_columns,
            description="Column name to value. Columns that the model does not know are ignored; "
            "a feature that a row omits is missing. At least half of the features must be named.",
        ),
    ]
    flows: Any = Annotated[list[row], msgspec.Meta(max_length=limits.max_rows)]
    return msgspec.defstruct("Flows", [("flows", flows)], forbid_unknown_fields=True), row


@final
class BodyReader:
    """Reads bodies for one model."""

    def __init__(self, schema: FlowSchema, limits: Limits) -> None:
        self._schema, self._limits = schema, limits
        labels = (ColumnKind.LABEL, ColumnKind.LABEL_DERIVED)
        self._names = [column.name for column in schema.columns if column.kind not in labels]
        self._known = frozenset(schema.names)
        self._features = frozenset(column.name for column in schema.features)
        self._own_features = frozenset(name for name in self._features if not schema.is_context(name))
        """A row of JSON that omits one of them has a missing value, whatever the other rows hold."""
        body, row = body_types(limits)
        self._json: msgspec.json.Decoder[Any] = msgspec.json.Decoder(body)
        self._line: msgspec.json.Decoder[Any] = msgspec.json.Decoder(row)

    def read(self, content_type: str, body: bytes) -> RawFlows:
        """The flows of a body of this content type (a value of `READ`).

        Raises:
            RequestError: it does not match its content type, exceeds a limit, or has no column of the model.
        """
        if content_type == TEXT or (content_type in (JSON_LINES, CSV) and is_sensor_log(body)):
            flows = read_log(body, self._schema, self._limits)
        elif content_type in (JSON, JSON_LINES):
            flows = self._read_json(body, lines=content_type == JSON_LINES)
        elif content_type == CSV:
            flows = self._read_csv(body)
        else:
            table = read_stream(body, frozenset(self._names), self._limits)
            flows = self._typed(table, table.column_names)
        is_empty_json = content_type in (JSON, JSON_LINES) and not flows.num_rows
        if not flows.coverage.present and not is_empty_json:
            raise self._unknown()
        return flows

    def _read_json(self, body: bytes, *, lines: bool) -> RawFlows:
        if lines:
            # Roughly: what is far beyond the limit is not parsed.
            self._limits.require_rows((body.count(b"\n") + 1) // 2)
        try:
            rows = self._line.decode_lines(body) if lines else self._json.decode(body).flows
        except msgspec.ValidationError as error:
            if lines:  # a structure or list in a line, which the reader of files knows
                return read_log(body, self._schema, self._limits)
            raise RequestError(422, f"the body does not fit: {error}") from error
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RequestError(400, f"expected JSON, found something else: {error}") from error
        self._limits.require_rows(len(rows))
        found = tuple({name: None for row in rows for name in row})
        if not self._known.issuperset(found):  # else they are the model's own columns
            is_log = not lines and is_sensor_log(msgspec.json.Encoder().encode_lines(rows[:_SENSOR_ROWS]))
            if is_log or match_names(found, self._schema).renamed:
                return read_log(msgspec.json.Encoder().encode_lines(rows), self._schema, self._limits)
        return self._of_rows(rows)

    def _of_rows(self, rows: list[dict[str, Value]]) -> RawFlows:
        found: dict[str, None] = {name: None for row in rows for name in row}
        named = [name for name in self._names if name in found or name in self._own_features]
        return RawFlows(
            num_rows=len(rows),
            columns={name: [row.get(name) for row in rows] for name in named},
            coverage=feature_coverage(self._schema, tuple(found), "the body"),
            is_keyed=True,
        )

    def _typed(self, raw: pa.Table, names: Sequence[str]) -> RawFlows:
        """The flows of a table, typed; `names` are all columns of the body."""
        invalid_values = InvalidValues()
        return RawFlows(
            num_rows=raw.num_rows,
            columns=convert(raw, self._schema, invalid=invalid_values, first_row=1),
            coverage=feature_coverage(self._schema, names, "the body"),
            invalid_values=invalid_values,
        )

    def _read_csv(self, body: bytes) -> RawFlows:
        try:
            table, names = self._table_of(body)
            if match_names(names, self._schema).renamed:  # the reader of files knows other spellings
                return read_log(body, self._schema, self._limits)
            return self._typed(table, names)
        except RequestError:
            raise
        except UserError as error:
            raise RequestError(422, str(error)) from error

    def _table_of(self, body: bytes) -> tuple[pa.Table, tuple[str, ...]]:
        # Rough bounds first: a body far beyond a limit is not parsed.
        self._limits.require_rows((max(body.count(b"\n"), body.count(b"\r")) - 1) // 4)
        self._limits.require_columns(max(map(body.partition(b"\n")[0].count, (b",", b";", b"\t", b"|"))))
        head = body[:_HEAD_BYTES]
        if len(body) > _HEAD_BYTES:
            head = head[: head.rfind(b"\n") + 1]
        if body and not head:
            raise RequestError(413, f"expected lines shorter than {_HEAD_BYTES:,} bytes, found a longer one")
        dialect = detect_dialect(head, "none", "the body", _CSV_CONFIG)
        if dialect.format != "delimited":
            raise RequestError(422, "expected delimited text, found something else")
        rows = table_rows(whole_lines(decode_head(head, "utf-8"), is_whole=True), dialect)
        if not rows:
            raise RequestError(422, "expected rows of flows, found none")
        named = {cell.strip() for cell in rows[0]} & set(self._schema.names)
        dialect = replace(dialect, has_header=bool(named) or detect_header(rows))
        names = self._csv_names(rows, has_header=dialect.has_header)
        parse_stats = ParseStats()
        blocks = [
            table.select([name for name in self._names if name in names])
            for table in tables(
                io.BytesIO(body),
                dialect,
                len(body) + 1,
                names=names,
                parse_stats=parse_stats,
            )
        ]
        for left in (*parse_stats.examples, *parse_stats.footer):
            raise RequestError(422, f"{left.location}: {left.reason}; every row needs its verdict")
        self._limits.require_rows(parse_stats.num_rows)
        if not blocks:
            raise RequestError(422, "expected rows of flows, found none")
        table = pa.concat_tables(blocks).unify_dictionaries().combine_chunks()
        check_lengths(table, self._limits)
        return table, names

    def _csv_names(self, rows: Sequence[Sequence[str]], *, has_header: bool) -> tuple[str, ...]:
        width = max(Counter(map(len, rows)).items(), key=lambda item: (item[1], item[0]))[0]
        self._limits.require_columns(width)
        if has_header:
            return clean_names(header_cells(rows, width))[0]
        names = self._schema.positional_names(width)
        if names is None:
            raise RequestError(
                422, f"expected a header line with column names, found none above rows of {width:,} fields"
            )
        return names

    def _unknown(self) -> RequestError:
        known = ", ".join(sorted(self._features)[:8])
        return RequestError(
            422,
            f"expected columns of the model ({known}, ...), found none of them; see GET /v1/model",
        )


def arrays(columns: Mapping[str, Sequence[Value]], schema: FlowSchema) -> pa.Table:
    """Lists of JSON values as raw columns, as from files: numbers as float64, all else as text."""
    kinds = {column.name: column.kind for column in schema.columns}
    return pa.table(
        {name: _array(values, is_numeric=kinds[name].is_numeric) for name, values in columns.items()}
    )


def _array(values: Sequence[Value], *, is_numeric: bool) -> pa.Array:
    try:
        return pa.array(values, pa.float64() if is_numeric else pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.array([_text(value) for value in values], pa.string())


def _text(value: Value) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and not value.is_integer():
        return repr(value)
    return str(int(value))
