"""`wirebert predict` by shards: plan, count, score on any executor, and join the results in plan order."""

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wirebert.cluster.executors import Executor, InProcess
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.predict import PredictShards, fingerprint, merge_counted
from wirebert.cluster.ray_executor import executor_of
from wirebert.cluster.remote import open_remote_flows
from wirebert.cluster.results import ShardFolder, ShardRecord
from wirebert.cluster.staging import placed_shards
from wirebert.cluster.storage import Storage, is_uri, next_to
from wirebert.console import SafeConsole, warn
from wirebert.data.flows import DataConfig, Flows, open_flows
from wirebert.data.folders import listing_lines, with_rows
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import ConfigError, DataError
from wirebert.inference.artifact import load_artifact
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.predictions import WRITERS
from wirebert.inference.rejected_rows import rejected_path
from wirebert.workflows.findings import require_no_warnings, tell


def needs_shards(options: argparse.Namespace) -> bool:
    """Whether the options of a command ask for work by shards."""
    return (
        options.workers is not None
        or options.cluster is not None
        or isinstance(options.out, str)
        or is_uri(options.data)
    )


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where verdicts go: a folder of shards, or one file that is joined from such a folder."""

    folder: Storage
    file: Storage | None
    ending: str

    @classmethod
    def of(cls, out: str | Path | None) -> "Output":
        """The output of `--out`; a folder ends in a slash, and holds Parquet unless named else.

        Raises:
            ConfigError: there is none, or a file with another ending.
            DataError: the file exists already.
        """
        if out is None:
            raise ConfigError("--workers and --cluster need --out: a folder (NAME/) or a file")
        name = next_to(str(out), "")
        place = name.partition("?")[0] if is_uri(name) else name
        ending = Path(place).suffix.lower()
        is_folder = str(out).startswith(f"{place}/") or (is_uri(name) and ending not in WRITERS)
        if is_folder:
            return cls(folder=Storage.of(name), file=None, ending=ending if ending in WRITERS else ".parquet")
        if ending not in WRITERS:
            raise ConfigError(
                f"--out {name}: expected a folder (NAME/) or a name ending in one of {', '.join(WRITERS)}, "
                f"found {ending!r}; rename it"
            )
        file = Storage.of(name)
        for taken in (file, Storage.of(_rejected_name(name))):
            if taken.exists():
                raise DataError(
                    f"--out {taken.name}: expected a new file, but it exists and is kept; choose another name"
                )
        if not is_uri(name) and not Path(name).parent.is_dir():
            raise DataError(f"--out {name}: the folder {Path(name).parent} does not exist; create it first")
        return cls(folder=Storage.of(next_to(name, ".shards")), file=file, ending=ending)

    @property
    def rejected(self) -> Storage:
        """The file of rejected rows."""
        return Storage.of(_rejected_name(self.folder.name if self.file is None else self.file.name))


def predict_by_shards(options: argparse.Namespace) -> None:
    """Write a verdict for every flow, shard by shard; what an earlier start finished is kept."""
    if options.data == "-":
        raise ConfigError("--workers, --cluster and folders of shards are for files: no standard input (-)")
    if options.format == "ecs":
        raise ConfigError(
            "--format ecs is written by one process to one file: leave out --workers, --cluster and folders"
        )
    with closing(executor_of(options.workers, options.cluster)) as executor:
        _predict(options, executor, Output.of(options.out))


def _predict(options: argparse.Namespace, executor: Executor, out: Output) -> None:
    artifact = load_artifact(options.model)
    flows = open_any(options.data, DataConfig(allow_absent=bool(options.allow_absent)), artifact.schema)
    fit = TrafficFit.of(artifact.tokenizer, flows)
    operating = artifact.operating_point
    opened = (*fit.opened, *(operating.findings(options.fpr) if operating else ()))
    tell(opened)
    detector = detector_arguments(options, is_shared=not isinstance(executor, InProcess))
    plan, placed = placed_shards(flows, executor)
    for reason in plan.reasons:
        warn(reason)
    folder = ShardFolder(
        storage=out.folder, settings=fingerprint(options.model, detector, options.explain), ending=out.ending
    )
    folder.begin(plan)
    job = PredictShards(
        model=options.model, detector=detector, flows=flows, folder=folder, explained=options.explain
    )
    records = finish(folder, placed, executor, job)
    merge_counted(flows, fit, zip(placed, (one.counted for one in records), strict=True))
    folder.end(records)
    folder.join_rejected(records, out.rejected)
    if out.file is not None:
        folder.join(records, out.file)
        out.folder.delete()
    for line in listing_lines(with_rows(flows.listing, fit.invalid_values.lines.rows_by_file)):
        warn(line)
    engine, peak_mb = records[0].engine, max(one.peak_mb for one in records)
    done = (
        f"{fit.invalid_values.num_rows:,} flows by {engine}: {options.out} "
        f"({len(records):,} shard{'s' * (len(records) > 1)}, at most {peak_mb:,} MB a worker)"
    )
    SafeConsole(stderr=True).print(done, highlight=False, markup=False, soft_wrap=True)
    tell(fit.scored)
    require_no_warnings((*opened, *fit.scored), strict=options.strict)


def open_any(data: str, config: DataConfig, schema: FlowSchema) -> Flows:
    """The traffic at a path or URI, under the schema of a model."""
    return (
        open_remote_flows(data, config, schema) if is_uri(data) else open_flows(data, config, schema=schema)
    )


def detector_arguments(options: argparse.Namespace, *, is_shared: bool) -> dict[str, Any]:
    """Arguments of `Detector.load`; each of several workers has one thread, unless a number is given."""
    names = ("device", "precision", "backend", "fpr", "novelty", "community_id_seed")
    given = {name: getattr(options, name) for name in names}
    return {
        **given,
        "threads": options.threads or (1 if is_shared else None),
        "allow_absent": bool(options.allow_absent),
    }


def finish(
    folder: ShardFolder, placed: Sequence[PlacedShard], executor: Executor, job: PredictShards
) -> list[ShardRecord]:
    """The records of all shards in plan order; those that are not finished yet are run.

    Raises:
        ConfigError: workers used different engines, whose scores differ in rounding.
    """
    records = folder.finished(placed)
    if records:
        warn(f"{len(records):,} of {len(placed):,} shards were finished before")
    waiting = [one for one in placed if one.shard.id not in records]
    records |= {record.id: record for record in executor.run(job, waiting)}
    engines = sorted({record.engine for record in records.values()})
    if len(engines) > 1:
        raise ConfigError(
            f"workers scored by {' and '.join(engines)}, which differ in rounding; give --backend and "
            "--device, and another --out"
        )
    return [records[one.shard.id] for one in placed]


def _rejected_name(name: str) -> str:
    return next_to(name, ".rejected.jsonl") if is_uri(name) else str(rejected_path(Path(name)))
