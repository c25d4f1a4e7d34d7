"""Results of shards in a folder: a file of each, and what is known of it; and one file of all of them."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, BinaryIO, Final, cast

import msgspec
from pyarrow import parquet

from wirebert.cluster.plan import PlacedShard, ShardPlan
from wirebert.cluster.storage import DigestingSink, Storage
from wirebert.errors import DataError
from wirebert.serialization import from_builtins

ABOUT_FOLDER: Final = "_shards"
"""Folder of plan, records and manifest; a name that readers of partitioned data pass over."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """A finished shard."""

    id: str
    settings: str
    """Fingerprint of model and settings."""
    file: str
    """Its file, within the folder."""
    num_rows: int
    sha256: str
    size_bytes: int
    header_bytes: int
    """Bytes at the beginning of the file that each shard has, and a single file once."""
    engine: str
    routed: tuple[int, int] | None = None
    """Rows that the big model of a cascade computed, and rows that were computed."""
    peak_mb: int
    """Most memory of the worker until then."""
    rejected: bool
    """Whether it has rejected rows."""
    counted: Mapping[str, Any]
    """What was counted while its rows were scored."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFolder:
    """Results of the shards of one plan, one model and some settings."""

    storage: Storage
    settings: str
    ending: str
    """`.parquet`, `.csv` or `.jsonl`."""

    @property
    def context(self) -> Storage:
        """The folder of context columns, which are needed until the end."""
        return replace(self.storage, root=self.storage.path(f"{ABOUT_FOLDER}/context"))

    @property
    def is_begun(self) -> bool:
        """Whether an earlier start has written here."""
        return self.storage.exists(f"{ABOUT_FOLDER}/plan.json")

    def begin(self, plan: ShardPlan) -> None:
        """Write the plan; or, where one was begun, require that it is the same.

        Raises:
            DataError: the folder holds results of other data or settings, or anything else.
        """
        found = self.storage.read(f"{ABOUT_FOLDER}/plan.json")
        ours = {"settings": self.settings, "ending": self.ending, "shards": [one.id for one in plan.shards]}
        if found is None:
            if self.storage.list():
                raise DataError(
                    f"--out {self.storage.name}: expected a new folder, but it exists and is kept; "
                    "choose another"
                )
            self.storage.write(f"{ABOUT_FOLDER}/plan.json", msgspec.json.encode(ours))
            return
        theirs = cast(dict[str, object], msgspec.json.decode(found))
        if theirs == ours:
            return
        differs = "data" if theirs.get("settings") == self.settings else "another model or other settings"
        differs = "other data" if differs == "data" else differs
        raise DataError(
            f"--out {self.storage.name}: holds shards of {differs}, which are kept; choose another place, or "
            "give what it was begun with"
        )

    def file_of(self, placed: PlacedShard) -> str:
        """The file of a shard, in folders like those of its input (`day=2026-11-29`)."""
        folders = [part for part in PurePosixPath(placed.shard.path).parts[:-1] if "=" in part]
        return "/".join([*folders, f"part-{placed.index:06d}-{placed.shard.id}{self.ending}"])

    def rejected_of(self, shard_id: str) -> str:
        """The file of the rejected rows of a shard."""
        return f"{ABOUT_FOLDER}/{shard_id}.rejected.jsonl"

    def record(self, record: ShardRecord) -> None:
        """The shard is finished: its files are complete."""
        self.storage.write(f"{ABOUT_FOLDER}/{record.id}.json", msgspec.json.encode(record))

    def finished(self, placed: Iterable[PlacedShard]) -> dict[str, ShardRecord]:
        """The shards whose files are complete and unchanged, by their ids."""
        found: dict[str, ShardRecord] = {}
        for one in placed:
            content = self.storage.read(f"{ABOUT_FOLDER}/{one.shard.id}.json")
            if content is not None:
                record = from_builtins(ShardRecord, msgspec.json.decode(content))
                if self._is_whole(record):
                    found[record.id] = record
        return found

    def _is_whole(self, record: ShardRecord) -> bool:
        if record.settings != self.settings or self.storage.size(record.file) != record.size_bytes:
            return False
        return digest_of(self.storage.pieces(record.file)) == record.sha256

    def end(self, records: Sequence[ShardRecord]) -> None:
        """Write the manifest of all shards, in the order of their rows; delete what killed workers left,
        and context columns."""
        self.storage.delete_unfinished()
        if self.context.exists():
            self.context.delete()
        shards = [
            {name: getattr(record, name) for name in ("id", "file", "num_rows", "size_bytes", "sha256")}
            for record in records
        ]
        manifest = {
            "settings": self.settings,
            "num_rows": sum(one.num_rows for one in records),
            "shards": shards,
        }
        self.storage.write(f"{ABOUT_FOLDER}/manifest.json", msgspec.json.encode(manifest))

    def join(self, records: Sequence[ShardRecord], out: Storage) -> None:
        """Write all shards as one file, in the order of their rows."""
        with out.new_file("") as sink:
            if self.ending == ".parquet":
                join_parquet(self.storage, [one.file for one in records], sink)
                return
            for at, record in enumerate(records):
                skipped = record.header_bytes if at else 0
                for piece in self.storage.pieces(record.file):
                    sink.write(piece[skipped:])
                    skipped = max(0, skipped - len(piece))

    def join_rejected(self, records: Sequence[ShardRecord], out: Storage) -> None:
        """Write the rejected rows of all shards as one file, if there are any."""
        if any(record.rejected for record in records):
            with out.new_file("") as sink:
                for record in records:
                    if record.rejected:
                        for piece in self.storage.pieces(self.rejected_of(record.id)):
                            sink.write(piece)


def join_parquet(folder: Storage, names: Iterable[str], sink: DigestingSink) -> None:
    """Write the row groups of several files of a folder as one file."""
    writer = None
    for name in names:
        with folder.open_parquet(name) as file:
            if writer is None:
                writer = parquet.ParquetWriter(cast(BinaryIO, sink), file.schema_arrow)
            for group in range(file.metadata.num_row_groups):
                writer.write_table(file.read_row_group(group))
    if writer is not None:
        writer.close()


def digest_of(pieces: Iterator[bytes]) -> str:
    """Sha256 of a file, as hexadecimal text."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()
