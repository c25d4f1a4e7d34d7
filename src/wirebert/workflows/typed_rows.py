"""Parse the training file once: every later pass reads its typed rows, kept next to the encoded flows.

The same pass computes the profile of the rows and the fingerprint of the file. A training therefore opens a
delimited text file only twice: once to detect its format, once to parse it.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from wirebert.cluster.executors import Executor
from wirebert.cluster.profile import profile_by_shards
from wirebert.data.checks.profile import TableProfile, profile_table
from wirebert.data.dialect import ContentDigest, Dialect
from wirebert.data.flows import Flows
from wirebert.data.progress import reading_bar
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.typed_rows import FORMAT, TypedRowsWriter, free_bytes, read_index, read_typed_rows, restore
from wirebert.encoding.store import one_at_a_time
from wirebert.errors import RunError

BYTES_PER_TEXT_BYTE: Final = 1
"""Upper bound on the bytes of typed rows per byte of plain text; see docs/experiments.md."""

BYTES_PER_PACKED_BYTE: Final = 6
"""The same per byte of a compressed or binary file."""


@dataclass(frozen=True)
class ParsedFlows:
    """Parsed traffic: every later pass reads its typed rows."""

    flows: Flows
    profile: TableProfile
    fingerprint: str
    """Sha256 of the files' content."""


def parse_once(
    flows: Flows, cache: Path, fingerprint: str | None = None, executor: Executor | None = None
) -> ParsedFlows:
    """Parse the files and write their typed rows to `cache`, or reuse the rows of an earlier run.

    Args:
        flows: The traffic, under its final schema.
        cache: The folder of the encoded flows.
        fingerprint: Sha256 of the files' content, if it is already known.
        executor: Parses the files by shards; None: this process parses them.

    Raises:
        DataError: a file is damaged, or too many of its rows or values are not valid.
        RunError: the disk has too little space.
    """
    key = _reading_key(flows)
    with one_at_a_time(cache, key):
        left = sorted(cache.glob(f"{key}-*.rows"))
        if left and fingerprint is None:
            fingerprint = flows.fingerprint()
        folder = None if fingerprint is None else cache / f"{key}-{fingerprint[:32]}.rows"
        index = None if folder is None else read_index(folder)
        if folder is not None and index is not None and index[0] == fingerprint:
            profile = profile_table(flows, partial(_saved_rows, folder, index[1]))
            return ParsedFlows(replace(flows, typed_rows=folder), profile, index[0])
        return _parse(flows, cache, key, executor)


def _parse(flows: Flows, cache: Path, key: str, executor: Executor | None) -> ParsedFlows:
    require_space(flows, cache)
    content = ContentDigest() if flows.is_read_forwards and executor is None else None
    try:
        with TypedRowsWriter(cache.absolute() / f".{key}.partial") as writer:
            if executor is None:
                profile = profile_table(flows, partial(_recorded_rows, flows, writer, content))
            else:
                profile = profile_by_shards(flows, executor, writer=writer)
            fingerprint = flows.fingerprint() if content is None else content.hexdigest()
            folder = cache / f"{key}-{fingerprint[:32]}.rows"
            writer.finish(folder, fingerprint, profile.invalid_values)
    except (OSError, pa.ArrowException) as error:
        raise RunError(
            f"{cache}: the typed rows of {flows.name} cannot be written ({error}); free some space, or set "
            "data.cache to a folder on a larger disk"
        ) from error
    return ParsedFlows(replace(flows, typed_rows=folder), profile, fingerprint)


def require_space(flows: Flows, cache: Path) -> None:
    """Raise a RunError if the disk of `cache` has too little space for the typed rows of these files."""
    needed = sum(
        part.path.stat().st_size
        * (BYTES_PER_TEXT_BYTE if _is_plain_text(part.dialect) else BYTES_PER_PACKED_BYTE)
        for part in flows.parts
    )
    free = free_bytes(cache)
    if free < needed:
        raise RunError(
            f"{cache}: expected {needed / 1e9:.2f} GB of free disk space for the typed rows of {flows.name}, "
            f"found {free / 1e9:.2f} GB; free some space, or set data.cache to a folder on a larger disk"
        )


def _is_plain_text(dialect: Dialect) -> bool:
    return dialect.compression == "none" and dialect.format not in ("parquet", "arrow", "nfdump")


def _reading_key(flows: Flows) -> str:
    """The name of typed rows, from everything that determines them except the content of the files."""
    files = [
        [asdict(part.dialect), part.names, part.described, part.path.stat().st_size] for part in flows.parts
    ]
    config = [flows.config.block_mb, flows.config.max_invalid_fraction]
    state = json.dumps([FORMAT, flows.schema.to_dict(), files, config], sort_keys=True)
    return hashlib.sha256(state.encode()).hexdigest()[:32]


def _recorded_rows(
    flows: Flows, writer: TypedRowsWriter, content: ContentDigest | None, invalid: InvalidValues
) -> Iterator[pa.Table]:
    """Parses, hashes and writes files as typed rows in one pass."""
    for block in reading_bar(flows.blocks(invalid, content=content)):
        writer.write(block)
        yield block


def _saved_rows(folder: Path, account: InvalidValues, invalid: InvalidValues) -> Iterator[pa.Table]:
    """Typed rows of an earlier run, with its parse accounting."""
    yield from reading_bar(read_typed_rows(folder))
    restore(invalid, account)
