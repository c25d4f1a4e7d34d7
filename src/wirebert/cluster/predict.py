"""The verdicts of a shard: a job for any executor. The file of a shard depends on nothing but the shard."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast, final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from wirebert import __version__
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.results import ShardFolder, ShardRecord
from wirebert.cluster.staging import line_shift, merge_parse_stats, renumber, staged
from wirebert.data.flows import Flows
from wirebert.data.schema.conversion import InvalidValues
from wirebert.errors import NoFlowsError
from wirebert.inference.cascade import routed_since
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import WRITERS, predict_blocks
from wirebert.inference.rejected_rows import rejected_line
from wirebert.run_folder import MANIFEST
from wirebert.telemetry.processors import peak_memory_mb


@final
@dataclass(frozen=True, kw_only=True)
class DetectorJob:
    """A job: what a function makes of a shard with a detector."""

    model: Path
    detector: Mapping[str, Any]
    """Arguments of `Detector.load`."""
    work: Callable[[Detector, PlacedShard], Any]

    def load(self) -> Callable[[PlacedShard], Any]:
        """The function, with the detector."""
        return partial(self.work, Detector.load(self.model, **self.detector))


def write_shard(
    detector: Detector,
    placed: PlacedShard,
    *,
    flows: Flows,
    folder: ShardFolder,
    explained: Literal["alerts", "all"] | None,
) -> ShardRecord:
    """Write the verdicts of a shard into the folder, and what is known of it."""
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    rejected: list[bytes] = []
    fit.invalid_values.lines.keep = lambda row: rejected.append(rejected_line(row) + b"\n")
    num_rows, header_bytes, before = 0, 0, detector.routed
    file = folder.file_of(placed)
    with folder.storage.new_file(file) as sink:
        with closing(WRITERS[folder.ending](cast(BinaryIO, sink))) as writer:
            for table in shard_tables(detector, flows, placed, fit, explained):
                if not header_bytes and folder.ending == ".csv":
                    writer.write(table.slice(0, 0))
                    header_bytes = sink.num_bytes
                writer.write(table)
                num_rows += table.num_rows
        digest, size_bytes = sink.sha256, sink.num_bytes
    if rejected:
        folder.storage.write(folder.rejected_of(placed.shard.id), b"".join(rejected))
    record = ShardRecord(
        id=placed.shard.id,
        settings=folder.settings,
        file=file,
        num_rows=num_rows,
        sha256=digest,
        size_bytes=size_bytes,
        header_bytes=header_bytes,
        engine=f"{detector.backend} on {detector.device}",
        routed=routed_since(detector.routed, before),
        peak_mb=peak_memory_mb(),
        rejected=bool(rejected),
        counted=fit.to_dict(),
    )
    folder.record(record)
    return record


def shard_tables(
    detector: Detector,
    flows: Flows,
    placed: PlacedShard,
    fit: TrafficFit,
    explained: Literal["alerts", "all"] | None,
) -> Generator[pa.Table]:
    """Verdict tables of a shard of `flows`; `fit` counts with rows and lines of the whole file."""
    detector.forget()  # else rounding would depend on the shards before
    shift, lines = line_shift(flows, placed), fit.invalid_values.lines
    if (keep := lines.keep) is not None:
        lines.keep = lambda row: keep(replace(row, line=row.line + shift))
    with (
        staged(flows, placed) as some,
        closing(
            predict_blocks(detector, some, fit, explained=explained, first_row=placed.first_row)
        ) as tables,
    ):
        for table in tables:
            if shift and "line" in table.column_names:
                at = table.column_names.index("line")
                table = table.set_column(at, "line", pc.add(table.column(at), shift))
            if len(flows.parts) > len(some.parts):
                where = pa.repeat(flows.parts[placed.shard.part].where, table.num_rows)
                table = table.add_column(1, "file", where)
            yield table
    renumber(fit.invalid_values, flows, placed)


def merge_counted(
    flows: Flows, fit: TrafficFit, counted: Iterable[tuple[PlacedShard, Mapping[str, Any]]]
) -> None:
    """Add what `TrafficFit.to_dict` gave for each shard, in plan order.

    Raises:
        DataError: most rows of a file were rejected.
        NoFlowsError: there is no flow at all.
    """
    read: list[tuple[PlacedShard, InvalidValues]] = []
    for one, plain in counted:
        read.append((one, InvalidValues.from_dict(plain["invalid_values"])))
        fit.unseen.merge(plain["unseen"])
    fit.invalid_values.merge(merge_parse_stats(flows, read))
    if not fit.invalid_values.num_rows:
        raise NoFlowsError(flows.no_flows(fit.invalid_values.lines.events))


def fingerprint(model: Path, detector: Mapping[str, Any], explained: str | None) -> str:
    """Sha256 of all that the verdicts of a row depend on, but the row; threads change no bit of an export."""
    manifest = hashlib.sha256((model / MANIFEST).read_bytes()).hexdigest()
    settings = {**detector, "threads": None, "explain": explained, "model": manifest, "version": __version__}
    return hashlib.sha256(msgspec.json.encode(settings, order="sorted")).hexdigest()
