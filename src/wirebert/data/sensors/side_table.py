"""Records of another log, looked up by flow key: the first record of each key, memory-mapped from disk."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa

from wirebert.data.hashing import text_hashes
from wirebert.files import path_of, unnamed_file
from wirebert.shapes import Bool, Int64, UInt64


@dataclass(frozen=True, kw_only=True, slots=True)
class SideTable:
    """Records by key: 24 bytes a record in memory, the records on disk."""

    keys: UInt64[np.ndarray, " keys"]
    """Distinct keys, sorted."""
    rows: Int64[np.ndarray, " keys"]
    """First record of each key."""
    counts: Int64[np.ndarray, " keys"]
    """Records of each key."""
    table: pa.Table
    file: "IO[bytes]"
    """Holds the records; deleted with this object."""

    def look_up(
        self, keys: UInt64[np.ndarray, " flows"]
    ) -> tuple[pa.Table, Int64[np.ndarray, " flows"], Bool[np.ndarray, " flows"]]:
        """The record of each key (nulls without one), the number of records, and whether there is one."""
        if len(self.keys) == 0:
            nowhere = np.zeros(len(keys), np.bool_)
            nulls = {field.name: pa.nulls(len(keys), field.type) for field in self.table.schema}
            return pa.table(nulls), nowhere.astype(np.int64), nowhere
        index = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        has_record = self.keys[index] == keys
        records = self.table.take(pa.array(self.rows[index], pa.int64(), mask=~has_record))
        return records, np.where(has_record, self.counts[index], 0), has_record


class SideTableBuilder:
    """Collects records block by block in a temporary file."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = unnamed_file("wirebert-join-")
        self._writer = pa.ipc.new_file(str(path_of(self._file)), schema)
        self._keys: list[UInt64[np.ndarray, " records"]] = [np.empty(0, np.uint64)]

    def add(self, keys: UInt64[np.ndarray, " records"], table: pa.Table) -> None:
        """Append records with their keys."""
        self._keys.append(keys)
        self._writer.write_table(table.cast(self._schema))

    def finish(self) -> SideTable:
        """The table of all records."""
        self._writer.close()
        distinct, first, counts = np.unique(np.concatenate(self._keys), return_index=True, return_counts=True)
        return SideTable(
            keys=distinct,
            rows=first.astype(np.int64),
            counts=counts.astype(np.int64),
            table=pa.ipc.open_file(pa.memory_map(str(path_of(self._file)))).read_all(),
            file=self._file,
        )


def text_keys(texts: pa.Array) -> UInt64[np.ndarray, " records"]:
    """A 64-bit key for each text; equal texts have equal keys, null equals empty text.

    >>> keys = text_keys(pa.array(["C6ce9q3", "C6ce9q4", "C6ce9q3"]))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    return text_hashes(texts.fill_null(""))
