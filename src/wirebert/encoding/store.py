"""Encoded flows on disk: raw little-endian arrays that are memory-mapped, and one JSON file that says what they hold."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64, UInt16, UInt32

from wirebert.encoding.rows import EncodedBlock
from wirebert.errors import DataError
from wirebert.files import force_to_disk, write_whole

FORMAT = 1
_INDEX = "store.json"
_ID_TYPES = {"uint16": "<u2", "uint32": "<u4"}


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFlows:
    """The token ids of many flows, one flow after the other, with each flow's class and source row."""

    ids: UInt16[np.ndarray, " tokens"] | UInt32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " offsets"]
    """Flow i is `ids[offsets[i]:offsets[i + 1]]`."""
    class_ids: Int64[np.ndarray, " flows"]
    """Class of each flow; negative where there is none."""
    rows: Int64[np.ndarray, " flows"]
    """Row of each flow in its source."""
    num_truncated: int = 0
    """Texts that lost their middle to the budget."""
    folder: Path | None = None
    """Where they lie on disk, if they do."""

    @classmethod
    def from_arrays(
        cls,
        ids: UInt16[np.ndarray, " tokens"] | UInt32[np.ndarray, " tokens"],
        offsets: Int64[np.ndarray, " offsets"],
        class_ids: Int64[np.ndarray, " flows"],
        rows: Int64[np.ndarray, " flows"],
    ) -> "EncodedFlows":
        """Flows held in memory."""
        return cls(ids, offsets, class_ids, rows)

    @classmethod
    def open(cls, folder: Path) -> "EncodedFlows":
        """The flows that a `StoreWriter` left in `folder`, mapped, not read.

        Raises `DataError` naming the file that is missing, damaged or of another length than was written.
        """
        index = _read_index(folder / _INDEX)
        num_flows, num_tokens = int(index["num_flows"]), int(index["num_tokens"])
        return cls(
            ids=map_file(folder / "ids.bin", _ID_TYPES[index["id_type"]], num_tokens),
            offsets=map_file(folder / "offsets.bin", "<i8", num_flows + 1),
            class_ids=map_file(folder / "class_ids.bin", "<i8", num_flows),
            rows=map_file(folder / "rows.bin", "<i8", num_flows),
            num_truncated=int(index["num_truncated"]),
            folder=folder,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def block(self) -> EncodedBlock:
        """All flows as one block; what is mapped stays mapped."""
        return EncodedBlock(np.asarray(self.ids), np.asarray(self.offsets), self.num_truncated)

    @property
    def lengths(self) -> Int64[np.ndarray, " flows"]:
        """Tokens of each flow."""
        return np.diff(self.offsets)


class StoreWriter:
    """Writes encoded flows block by block; the folder appears whole when the `with` block ends, or not at all."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        if dtype.name not in _ID_TYPES:
            raise ValueError(f"ids are uint16 or uint32, got {dtype}")
        self._folder = folder
        self._aside = folder.with_name(f".{folder.name}.partial")
        self._dtype = dtype
        self._num_flows = self._num_tokens = self._num_truncated = 0
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "StoreWriter":
        shutil.rmtree(self._aside, ignore_errors=True)  # what an interrupted writer left
        self._aside.mkdir(parents=True)
        for name in ("ids", "offsets", "class_ids", "rows"):
            self._files[name] = (self._aside / f"{name}.bin").open("wb")
        self._files["offsets"].write(np.zeros(1, "<i8").tobytes())
        return self

    def append(
        self, block: EncodedBlock, class_ids: Int64[np.ndarray, " flows"], rows: Int64[np.ndarray, " flows"]
    ) -> None:
        """Add a block of flows with their classes and source rows."""
        if not len(block) == len(class_ids) == len(rows):
            raise ValueError(f"{len(block)} flows with {len(class_ids)} classes and {len(rows)} rows")
        if block.ids.dtype != self._dtype:
            raise ValueError(f"the store holds {self._dtype} ids, the block {block.ids.dtype}")
        self._write("ids", block.ids, _ID_TYPES[self._dtype.name])
        self._write("offsets", block.offsets[1:] + self._num_tokens, "<i8")
        self._write("class_ids", class_ids, "<i8")
        self._write("rows", rows, "<i8")
        self._num_flows += len(block)
        self._num_tokens += len(block.ids)
        self._num_truncated += block.num_truncated

    def _write(self, name: str, values: np.ndarray, dtype: str) -> None:
        self._files[name].write(np.ascontiguousarray(values, dtype).data)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            if kind is None:
                file.flush()
                os.fsync(file.fileno())
            file.close()
        if kind is not None:
            shutil.rmtree(self._aside, ignore_errors=True)
            return
        self._write_index()
        force_to_disk(self._aside)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._aside.rename(self._folder)
        force_to_disk(self._folder.parent)

    def _write_index(self) -> None:
        index = {
            "format": FORMAT,
            "id_type": self._dtype.name,
            "num_flows": self._num_flows,
            "num_tokens": self._num_tokens,
            "num_truncated": self._num_truncated,
        }
        write_whole(self._aside / _INDEX, json.dumps(index, indent=2))


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        known = {
            name: index[name] for name in ("format", "id_type", "num_flows", "num_tokens", "num_truncated")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected the index of encoded flows, could not read it; encode the data again"
        ) from error
    if known["format"] != FORMAT or known["id_type"] not in _ID_TYPES:
        raise DataError(
            f"{path}: expected encoded flows of format {FORMAT}, found format {known['format']!r} with ids of type "
            f"{known['id_type']!r}; encode the data again"
        )
    return known


def map_file(path: Path, dtype: str, length: int) -> np.ndarray:
    """`length` numbers in a file, mapped, not read; a DataError if it holds more or fewer."""
    expected = length * np.dtype(dtype).itemsize
    found = path.stat().st_size if path.is_file() else None
    if found != expected:
        raise DataError(
            f"{path}: expected {expected:,} bytes, found {'no file' if found is None else f'{found:,}'}; "
            f"encode the data again"
        )
    return np.memmap(path, dtype, "r", shape=(length,)) if length else np.empty(0, dtype)
