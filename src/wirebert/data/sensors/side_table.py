"""Records of another log that belong to flows: looked up by key, the first of each key, memory-mapped from
disk."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import tempfile
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64, UInt64

KEY_BYTES = 24
"""Keys differ within their first bytes: a Zeek uid has 18 of them."""
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], np.uint64)


@dataclass(frozen=True, kw_only=True, slots=True)
class SideTable:
    """Records by key. 24 bytes a record are held in memory, the records themselves are on disk."""

    keys: UInt64[np.ndarray, " keys"]
    """Distinct keys, sorted."""
    rows: Int64[np.ndarray, " keys"]
    """First record of each key."""
    counts: Int64[np.ndarray, " keys"]
    """Records of each key."""
    table: pa.Table
    file: "IO[bytes]"
    """Holds the records; goes with this object."""

    def look_up(
        self, keys: UInt64[np.ndarray, " flows"]
    ) -> tuple[pa.Table, Int64[np.ndarray, " flows"], Bool[np.ndarray, " flows"]]:
        """The record of each key (nulls where there is none), how many there are, and whether there is
        one."""
        if len(self.keys) == 0:
            nowhere = np.zeros(len(keys), np.bool_)
            nulls = {field.name: pa.nulls(len(keys), field.type) for field in self.table.schema}
            return pa.table(nulls), nowhere.astype(np.int64), nowhere
        place = np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)
        is_found = self.keys[place] == keys
        found = self.table.take(pa.array(self.rows[place], pa.int64(), mask=~is_found))
        return found, np.where(is_found, self.counts[place], 0), is_found


class SideTableBuilder:
    """Collects records block by block in a temporary file."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = tempfile.NamedTemporaryFile(prefix="wirebert-join-", suffix=".arrow")  # noqa: SIM115 -- lives on
        self._writer = pa.ipc.new_file(self._file.name, schema)
        self._keys: list[UInt64[np.ndarray, " records"]] = [np.empty(0, np.uint64)]

    def add(self, keys: UInt64[np.ndarray, " records"], table: pa.Table) -> None:
        """Append records with their keys."""
        self._keys.append(keys)
        self._writer.write_table(table.cast(self._schema))

    def finish(self) -> SideTable:
        """All records, ready to be looked up."""
        self._writer.close()
        distinct, first, counts = np.unique(np.concatenate(self._keys), return_index=True, return_counts=True)
        return SideTable(
            keys=distinct,
            rows=first.astype(np.int64),
            counts=counts.astype(np.int64),
            table=pa.ipc.open_file(pa.memory_map(self._file.name)).read_all(),
            file=self._file,
        )


def text_keys(texts: pa.Array) -> UInt64[np.ndarray, " records"]:
    """A 64-bit key for each text, by its first 24 bytes; equal texts have equal keys, null is like no text.

    >>> keys = text_keys(pa.array(["C6ce9q3", "C6ce9q4", "C6ce9q3"]))
    >>> bool(keys[0] == keys[2]), bool(keys[0] == keys[1])
    (True, False)
    """
    array = texts.cast(pa.large_string()).fill_null("")
    _, offset_buffer, data_buffer = array.buffers()
    if len(array) == 0:
        return np.empty(0, np.uint64)
    assert offset_buffer is not None, "an array of texts that has rows has offsets"
    offsets = np.frombuffer(memoryview(offset_buffer), np.int64)[array.offset : array.offset + len(array) + 1]
    data = np.frombuffer(memoryview(data_buffer or b""), np.uint8)
    places = np.arange(KEY_BYTES)
    at = offsets[:-1, None] + places
    is_inside = places < np.diff(offsets)[:, None]
    padded = np.append(data, np.uint8(0))
    characters = np.where(is_inside, padded[at.clip(max=len(data))], 0).astype(np.uint8)
    words = characters.view(np.uint64)
    mixed = (words ^ (words >> np.uint64(29))) * _MULTIPLIERS
    total = mixed.sum(axis=1, dtype=np.uint64)
    return (total ^ (total >> np.uint64(32))) * _MULTIPLIERS[0]
