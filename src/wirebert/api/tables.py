"""Tables of Python in, files of traffic for the readers, and results as the same kind of table.

A table is written as an Arrow file, a list of records as JSON lines. So columns are matched, typed and
checked as those of a file, and a data frame gets the verdicts of its file.
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable

import numpy as np
import pyarrow as pa

from wirebert.errors import DataError
from wirebert.shapes import Int64

Records: TypeAlias = Sequence[Mapping[str, object]]


@runtime_checkable
class ArrowStream(Protocol):
    """What polars, pandas, pyarrow and others have: a table that Arrow can read."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        """The table as an Arrow stream."""
        ...


TableData: TypeAlias = str | Path | ArrowStream | Records
"""Traffic: the path of a file or folder, a pattern, a pandas, polars or Arrow table, or a list of records."""

Table: TypeAlias = Any
"""A table of the kind that was given: a pandas or polars frame, a list of records, else an Arrow table."""

_NO_VALUE: Final = frozenset(["<NA>", "NaT", "nan", "None"])


@dataclass(frozen=True, kw_only=True, slots=True)
class TrafficSource:
    """Traffic as files, and the kind of table that it came in."""

    path: str
    """A file, a folder or a pattern."""
    given: object = None
    """The table or the records; None for files."""
    folder: Path | None = None
    """The temporary folder of the file of a table."""

    @property
    def is_table(self) -> bool:
        """Whether it came as a table, each row of which gets a result."""
        return self.given is not None and not isinstance(self.given, Sequence)

    def alike(self, result: pa.Table, rows: Int64[np.ndarray, " rows"] | None = None) -> Table:
        """The result as the kind of table that came in, with the index of these rows (None: of all rows).

        For files it is an Arrow table.
        """
        if isinstance(self.given, Sequence):
            return result.to_pylist()
        library = _library(self.given)
        if library == "pandas":
            frame: Any = result.to_pandas()
            index = cast(Any, self.given).index
            frame.index = index if rows is None else index[rows]
            return frame
        if library == "polars":
            return importlib.import_module("polars").from_arrow(result)
        return result


def write_traffic(data: object, folder: Path, name: str) -> Path:
    """Write a table as `NAME.arrow`, or records as `NAME.jsonl`, into the folder; returns the path."""
    if isinstance(data, Sequence):
        path = folder / f"{name}.jsonl"
        lines = (f"{_line(record)}\n" for record in cast("Sequence[object]", data))
        path.write_text("".join(lines), encoding="utf-8")
        return path
    table = arrow_table(data)
    path = folder / f"{name}.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return path


def arrow_table(data: object) -> pa.Table:
    """Any table as an Arrow table; pandas columns of mixed types are text.

    Raises:
        DataError: it is no table.

    >>> arrow_table(pa.table({"dur": [1.5]})).column_names
    ['dur']
    >>> arrow_table(3)
    Traceback (most recent call last):
    wirebert.errors.DataError: expected a path, a pandas, polars or Arrow table or a list of records, ...
    """
    if isinstance(data, pa.Table):
        return data
    library = _library(data)  # whose series and indexes are Arrow streams, too
    is_table = library not in ("pandas", "polars") or "DataFrame" in map(_name, type(data).__mro__)
    if library == "pandas" and is_table:
        frame = cast(Any, data)
        names = [str(name) for name in frame.columns]
        return pa.Table.from_arrays([as_arrow(frame.iloc[:, at]) for at in range(len(names))], names=names)
    if not isinstance(data, ArrowStream) or not is_table:
        raise DataError(
            "expected a path, a pandas, polars or Arrow table or a list of records, found "
            f"{type(data).__name__}; make it a data frame"
        )
    return pa.table(cast(Any, data))


def _name(kind: type) -> str:
    return kind.__name__


def _library(data: object) -> str:
    return type(data).__module__.partition(".")[0]


def as_arrow(values: Any) -> pa.Array | pa.ChunkedArray:
    """A column of pandas or numpy; one whose values are of several types as text."""
    try:
        column = pa.array(values, from_pandas=True)
        if not isinstance(column.type, pa.BaseExtensionType):
            return column
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        pass
    texts = [str(value) for value in values]
    return pa.array([None if text in _NO_VALUE else text for text in texts], pa.string())


def _line(record: object) -> str:
    if not isinstance(record, Mapping):
        raise DataError(
            f"expected records as dictionaries of column and value, found {type(record).__name__}; make it a "
            "data frame"
        )
    return json.dumps(dict(cast("Mapping[str, object]", record)), default=_plain)


def _plain(value: object) -> object:
    """A value that JSON has no form for: numbers of numpy as numbers, others (times, addresses) as text."""
    return value.item() if isinstance(value, np.generic) else str(value)
