"""Encoded flows on disk: memory-mapped little-endian arrays with one JSON index.

Tokenizers and encoded flows are cached by a key of the data's content and the settings.

Row hashes find rows with equal tokens, which a model cannot distinguish: metrics on flows identical to a
training flow measure memorisation, metrics on the others generalisation.
"""

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

import numpy as np

from wirebert.data.hashing import mix
from wirebert.data.schema.schema import FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.token_rows import JaggedRows, TokenRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import DataError
from wirebert.files import fsync_path, read_json_file, write_atomic
from wirebert.serialization import settings_to_dict
from wirebert.shapes import Int64, Shaped, UInt16, UInt32, UInt64

FORMAT = 2
_INDEX = "store.json"
_ID_TYPES = {"uint16": "<u2", "uint32": "<u4"}


@dataclass(frozen=True, slots=True, eq=False)
class EncodedFlows:
    """The token ids of many flows in one flat array, with each flow's class and source row."""

    ids: UInt16[np.ndarray, " tokens"] | UInt32[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " offsets"]
    """Flow i is `ids[offsets[i]:offsets[i + 1]]`."""
    class_ids: Int64[np.ndarray, " flows"]
    """Class of each flow; negative if it is unlabelled."""
    rows: Int64[np.ndarray, " flows"]
    """Row index of each flow in its source."""
    num_truncated: int = 0
    """Number of texts that were cut to the budget."""
    folder: Path | None = None
    """Their folder; None for flows in memory."""

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
        """The flows that a `StoreWriter` wrote to `folder`, memory-mapped.

        Raises:
            DataError: a file (which it names) is missing, damaged or of the wrong length.
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
    def block(self) -> JaggedRows:
        """All flows as one block, without reading a mapped file."""
        return JaggedRows(np.asarray(self.ids), np.asarray(self.offsets), self.num_truncated)

    @property
    def lengths(self) -> Int64[np.ndarray, " flows"]:
        """Tokens of each flow."""
        return np.diff(self.offsets)


class StoreWriter:
    """Writes encoded flows block by block; the folder appears when the `with` block ends without error."""

    def __init__(self, folder: Path, dtype: np.dtype[Any]) -> None:
        if dtype.name not in _ID_TYPES:
            raise ValueError(f"ids are uint16 or uint32, got {dtype}")
        self._folder = folder
        self._partial = folder.with_name(f".{folder.name}.partial")
        self._dtype = dtype
        self._num_flows = self._num_tokens = self._num_truncated = 0
        self._files: dict[str, BinaryIO] = {}

    def __enter__(self) -> "StoreWriter":
        shutil.rmtree(self._partial, ignore_errors=True)  # from an interrupted writer
        self._partial.mkdir(parents=True)
        for name in ("ids", "offsets", "class_ids", "rows"):
            self._files[name] = (self._partial / f"{name}.bin").open("wb")
        self._files["offsets"].write(np.zeros(1, "<i8").tobytes())
        return self

    def append(
        self, block: JaggedRows, class_ids: Int64[np.ndarray, " flows"], rows: Int64[np.ndarray, " flows"]
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
            shutil.rmtree(self._partial, ignore_errors=True)
            return
        self._write_index()
        fsync_path(self._partial)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._partial.rename(self._folder)
        fsync_path(self._folder.parent)

    def _write_index(self) -> None:
        index = {
            "format": FORMAT,
            "id_type": self._dtype.name,
            "num_flows": self._num_flows,
            "num_tokens": self._num_tokens,
            "num_truncated": self._num_truncated,
        }
        write_atomic(self._partial / _INDEX, json.dumps(index, indent=2))


def _read_index(path: Path) -> dict[str, Any]:
    try:
        index = cast(dict[str, Any], read_json_file(path))
        entries = {
            name: index[name] for name in ("format", "id_type", "num_flows", "num_tokens", "num_truncated")
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path}: expected the index of encoded flows, could not read it; encode the data again"
        ) from error
    if entries["format"] != FORMAT or entries["id_type"] not in _ID_TYPES:
        raise DataError(
            f"{path}: expected encoded flows of format {FORMAT}, found format {entries['format']!r} with ids "
            f"of type {entries['id_type']!r}; encode the data again"
        )
    return entries


def map_file(path: Path, dtype: str, length: int) -> np.ndarray:
    """Memory-map a file of `length` numbers.

    Raises:
        DataError: the file is missing or of another length.
    """
    expected = length * np.dtype(dtype).itemsize
    size = path.stat().st_size if path.is_file() else None
    if size != expected:
        raise DataError(
            f"{path}: expected {expected:,} bytes, found {'no file' if size is None else f'{size:,}'}; "
            "encode the data again"
        )
    return np.memmap(path, dtype, "r", shape=(length,)) if length else np.empty(0, dtype)


VERSION = 2
"""Increased whenever the same rows and tokenizer settings give different ids than before."""


def tokenizer_key(
    fingerprint: str, schema: FlowSchema, config: EncodingConfig, *arrays: Shaped[np.ndarray, "..."]
) -> str:
    """The cache key of the tokenizer fitted on these flows; `arrays` select the rows."""
    state = {"schema": schema.to_dict(), "config": settings_to_dict(config)}
    return _digest(fingerprint, json.dumps(state, sort_keys=True), arrays)


def store_key(
    fingerprint: str, tokenizer: FlowTokenizer, *arrays: Shaped[np.ndarray, "..."], note: str = ""
) -> str:
    """The cache key of the store of these flows, encoded by this tokenizer.

    Args:
        fingerprint: the fingerprint of the files, see `Flows.fingerprint`.
        tokenizer: its whole state enters the key: schema, settings, fitted values.
        arrays: other arrays that determine the content, such as the selected rows and their classes.
        note: other text that determines the content, such as class names.
    """
    return _digest(fingerprint, note + json.dumps(tokenizer.to_dict(), sort_keys=True), arrays)


def _digest(fingerprint: str, state: str, arrays: Sequence[Shaped[np.ndarray, "..."]]) -> str:
    digest = hashlib.sha256(f"{VERSION}\n{fingerprint}\n{state}".encode())
    for array in arrays:
        digest.update(f"\n{array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def find_or_fit(cache: Path, key: str, fit: Callable[[], FlowTokenizer]) -> FlowTokenizer:
    """The tokenizer of this key; if it is missing or damaged, `fit` makes it."""
    path = cache / f"{key}.tokenizer.json"
    with one_at_a_time(cache, key):
        if path.is_file():
            try:
                return FlowTokenizer.from_dict(cast(dict[str, Any], read_json_file(path)))
            except (ValueError, KeyError, TypeError):
                pass  # written again below
        tokenizer = fit()
        write_atomic(path, json.dumps(tokenizer.to_dict()))
    return tokenizer


def find_or_encode(
    cache: Path, key: str, tokenizer: FlowTokenizer, write: Callable[[StoreWriter], None]
) -> tuple[EncodedFlows, bool]:
    """The store of this key, and whether it existed; if not, `write` fills it.

    A store is written atomically; an incomplete or damaged one is written again.
    """
    folder = cache / key
    with one_at_a_time(cache, key):
        if folder.is_dir():
            try:
                return EncodedFlows.open(folder), True
            except DataError:
                pass  # replaced below
        with StoreWriter(folder, tokenizer.dtype) as store:
            write(store)
    return EncodedFlows.open(folder), False


@contextmanager
def one_at_a_time(cache: Path, key: str) -> Generator[None]:
    """A lock for runs that share a cache: one makes the entry, the others wait for it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed or the process ends
        yield


_PIECE_ROWS = 1 << 18


def row_hashes(flows: TokenRows) -> UInt64[np.ndarray, " rows"]:
    """A 64-bit hash of each row's tokens and their positions: equal rows have equal hashes."""
    num_rows = len(flows.offsets) - 1
    hashes = np.zeros(num_rows, np.uint64)
    for start in range(0, num_rows, _PIECE_ROWS):
        stop = min(start + _PIECE_ROWS, num_rows)
        offsets = np.asarray(flows.offsets[start : stop + 1], np.int64)
        ids = np.asarray(flows.ids[offsets[0] : offsets[-1]], np.uint64)
        hashes[start:stop] = _hash_pieces(ids, offsets - offsets[0])
    return hashes


def _hash_pieces(
    ids: UInt64[np.ndarray, " tokens"], offsets: Int64[np.ndarray, " bounds"]
) -> UInt64[np.ndarray, " rows"]:
    lengths = np.diff(offsets)
    positions = (np.arange(len(ids)) - np.repeat(offsets[:-1], lengths)).astype(np.uint64)
    sums = np.zeros(len(ids) + 1, np.uint64)
    np.cumsum(mix(mix(ids + np.uint64(1)) ^ mix(positions)), out=sums[1:])
    return mix(sums[offsets[1:]] - sums[offsets[:-1]] + mix(lengths.astype(np.uint64)))
