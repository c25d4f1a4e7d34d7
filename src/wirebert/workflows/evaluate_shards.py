"""Evaluation by shards: each is scored by one worker, and what metrics need is merged in plan order."""

from base64 import b64decode
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast, final

import pyarrow as pa

from wirebert.cluster.context import context_in_order
from wirebert.cluster.executors import Executor
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.predict import DetectorJob
from wirebert.cluster.profile import profile_by_shards
from wirebert.cluster.results import ShardFolder, ShardRecord, join_parquet
from wirebert.cluster.staging import placed_shards, renumber, staged
from wirebert.cluster.storage import Storage
from wirebert.data.checks.profile import TableProfile
from wirebert.data.flows import Flows, FlowSubset
from wirebert.data.labels import ClassMap
from wirebert.data.schema.conversion import InvalidValues
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.errors import ConfigError
from wirebert.evaluation.evaluate import ScoredRows, score_part
from wirebert.evaluation.mistakes import MistakenFlows
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import ParquetWriter
from wirebert.telemetry.processors import peak_memory_mb
from wirebert.untrusted_text import warn
from wirebert.workflows.predict_shards import finish


def score_shard(
    detector: Detector,
    placed: PlacedShard,
    *,
    flows: Flows,
    num_rows: int,
    classes: ClassMap,
    folder: ShardFolder,
) -> ShardRecord:
    """Score a shard, and write its verdicts with the true classes into the folder, and what is known of it.

    Args:
        num_rows: Rows of all shards.
    """
    detector.drift = drift = _drift_of(detector, num_rows, placed)
    detector.forget()  # else rounding would depend on the shards before
    fit = TrafficFit.of(detector.artifact.tokenizer, flows)
    file = folder.file_of(placed)
    with staged(flows, placed) as some, folder.storage.new_file(file) as sink:
        with closing(ParquetWriter(cast(BinaryIO, sink))) as writer:
            part = FlowSubset(flows.name, some)
            rows = score_part(detector, part, classes, writer.write, fit=fit, first_row=placed.first_row)
        digest, size_bytes = sink.sha256, sink.num_bytes
    renumber(fit.invalid_values, flows, placed)
    record = ShardRecord(
        id=placed.shard.id,
        settings=folder.settings,
        file=file,
        num_rows=len(rows.truth.label_ids),
        sha256=digest,
        size_bytes=size_bytes,
        header_bytes=0,
        engine=f"{detector.backend} on {detector.device}",
        peak_mb=peak_memory_mb(),
        rejected=False,
        counted={
            **fit.to_dict(),
            "mistakes": rows.mistakes.to_bytes(),
            "drift": b"" if drift is None else drift.to_bytes(),
        },
    )
    folder.record(record)
    return record


def _drift_of(detector: Detector, num_rows: int, placed: PlacedShard) -> TrafficBlocks | None:
    """What counts the flows of a shard; None if the model has no reference."""
    reference = detector.artifact.reference
    if reference is None:
        return None
    return reference.new_blocks(detector.artifact.tokenizer).of_part(num_rows, placed.first_row)


@final
@dataclass(frozen=True, kw_only=True)
class ShardedScoring:
    """Who scores the shards of labelled files, and where they write."""

    executor: Executor
    model: Path
    detector: Mapping[str, Any]
    """Arguments of `Detector.load`."""
    folder: ShardFolder
    """Keeps what is needed until the end, also of an earlier start; every worker reaches it."""

    def place(self, flows: Flows) -> Sequence[PlacedShard]:
        """The shards of the files, with their context.

        Raises:
            DataError: the folder holds shards of other data, of another model or of other settings.
        """
        plan, placed = placed_shards(flows, self.executor)
        for reason in plan.reasons:
            warn(reason)
        self.folder.begin(plan)
        return context_in_order(flows, placed, self.executor, self.folder.context)

    def profile(self, flows: Flows, placed: Sequence[PlacedShard]) -> TableProfile:
        """The profile of the files."""
        return profile_by_shards(flows, self.executor, placed)

    def score(
        self,
        detector: Detector,
        flows: Flows,
        placed: Sequence[PlacedShard],
        num_rows: int,
        predictions: Path,
        classes: ClassMap,
        fit: TrafficFit,
    ) -> ScoredRows:
        """What metrics need of all shards, as `score_part` collects it; `detector.drift` gets their counts.

        Args:
            num_rows: Rows of all shards.
            predictions: Receives the verdicts (Parquet).

        Raises:
            ConfigError: workers used different engines, whose scores differ in rounding.
        """
        work = partial(score_shard, flows=flows, num_rows=num_rows, classes=classes, folder=self.folder)
        job = DetectorJob(model=self.model, detector=self.detector, work=work)
        records = finish(self.folder, flows, placed, self.executor, job)
        engine, whole = f"{detector.backend} on {detector.device}", ScoredRows(classes)
        if records[0].engine != engine:
            raise ConfigError(
                f"flows were scored by {records[0].engine}, and evidence is by {engine}, which differ in "
                "rounding; give --backend and --device, and another --out"
            )
        if isinstance(detector.drift, TrafficBlocks):
            detector.drift = detector.drift.of_part(num_rows, 0)
        for one, record in zip(placed, records, strict=True):
            with self.folder.storage.open_parquet(record.file) as file:
                for batch in file.iter_batches():
                    whole.add_written(pa.Table.from_batches([batch]), detector.classes)
            whole.mistakes.merge(MistakenFlows.from_bytes(_bytes_of(record.counted["mistakes"])))
            fit.unseen.merge(record.counted["unseen"])
            fit.invalid_values.merge(InvalidValues.from_dict(record.counted["invalid_values"]))
            if isinstance(detector.drift, TrafficBlocks):
                drift = _drift_of(detector, num_rows, one)
                assert drift is not None
                drift.read_bytes(_bytes_of(record.counted["drift"]), record.num_rows)
                detector.drift.merge(drift)
        predictions.parent.mkdir(parents=True, exist_ok=True)
        with Storage.of(str(predictions)).new_file("") as sink:
            join_parquet(self.folder.storage, [record.file for record in records], sink)
        return whole


def _bytes_of(value: bytes | str) -> bytes:
    """Bytes of a record, which are text in one that an earlier start has written."""
    return b64decode(value) if isinstance(value, str) else value
