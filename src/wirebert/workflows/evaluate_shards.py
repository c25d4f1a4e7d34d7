"""Evaluation by shards: each is scored by one worker, and what metrics need is merged in plan order."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast, final

from wirebert.cluster.context import context_in_order
from wirebert.cluster.executors import Executor, run_in_order
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.predict import DetectorJob
from wirebert.cluster.profile import profile_by_shards
from wirebert.cluster.results import join_parquet
from wirebert.cluster.staging import placed_shards, renumber, staged
from wirebert.cluster.storage import Storage
from wirebert.data.checks.profile import TableProfile
from wirebert.data.flows import Flows, FlowSubset
from wirebert.data.labels import ClassMap
from wirebert.data.schema.conversion import InvalidValues
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.errors import ConfigError
from wirebert.evaluation.evaluate import ScoredRows, score_part
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector
from wirebert.inference.predictions import ParquetWriter
from wirebert.untrusted_text import warn


@dataclass(frozen=True, kw_only=True)
class ScoredShard:
    """What an evaluation takes from a shard."""

    rows: ScoredRows
    counted: Mapping[str, Any]
    """What was counted while its rows were scored."""
    drift: TrafficBlocks | None
    engine: str


def score_shard(
    detector: Detector,
    placed: PlacedShard,
    *,
    flows: Flows,
    num_rows: int,
    classes: ClassMap,
    folder: Storage,
) -> ScoredShard:
    """Score a shard, and write its verdicts with the true classes into the folder.

    Args:
        num_rows: Rows of all shards.
    """
    reference, tokenizer = detector.artifact.reference, detector.artifact.tokenizer
    drift = None
    if reference is not None:
        drift = reference.new_blocks(tokenizer).of_part(num_rows, placed.first_row)
    detector.drift = drift
    detector.forget()  # else rounding would depend on the shards before
    fit = TrafficFit.of(tokenizer, flows)
    with (
        staged(flows, placed) as some,
        folder.new_file(f"{placed.shard.id}.parquet") as sink,
        closing(ParquetWriter(cast(BinaryIO, sink))) as writer,
    ):
        part = FlowSubset(flows.name, some)
        rows = score_part(detector, part, classes, writer.write, fit=fit, first_row=placed.first_row)
    renumber(fit.invalid_values, flows, placed)
    engine = f"{detector.backend} on {detector.device}"
    return ScoredShard(rows=rows, counted=fit.to_dict(), drift=drift, engine=engine)


@final
@dataclass(frozen=True, kw_only=True)
class ShardedScoring:
    """Who scores the shards of labelled files, and where they write."""

    executor: Executor
    model: Path
    detector: Mapping[str, Any]
    """Arguments of `Detector.load`."""
    folder: Storage
    """Receives what is needed until the end; every worker reaches it."""

    def place(self, flows: Flows) -> Sequence[PlacedShard]:
        """The shards of the files, with their context."""
        plan, placed = placed_shards(flows, self.executor)
        for reason in plan.reasons:
            warn(reason)
        return context_in_order(flows, placed, self.executor, self.folder)

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
        whole, engines = ScoredRows(classes), {f"{detector.backend} on {detector.device}"}
        if isinstance(detector.drift, TrafficBlocks):
            detector.drift = detector.drift.of_part(num_rows, 0)
        scored: Iterator[ScoredShard] = run_in_order(self.executor, job, placed)
        for one in scored:
            whole.merge(one.rows)
            fit.unseen.merge(one.counted["unseen"])
            fit.invalid_values.merge(InvalidValues.from_dict(one.counted["invalid_values"]))
            if isinstance(detector.drift, TrafficBlocks) and one.drift is not None:
                detector.drift.merge(one.drift)
            engines.add(one.engine)
        if len(engines) > 1:
            raise ConfigError(
                f"flows were scored by {' and '.join(sorted(engines))}, which differ in rounding; give "
                "--backend and --device"
            )
        predictions.parent.mkdir(parents=True, exist_ok=True)
        with Storage.of(str(predictions)).new_file("") as sink:
            join_parquet(self.folder, [f"{one.shard.id}.parquet" for one in placed], sink)
        self.folder.delete()
        return whole
