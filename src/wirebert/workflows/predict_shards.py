"""`wirebert predict` by shards: plan, count, score on any executor, and join the results in plan order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from wirebert.cluster.context import context_in_order
from wirebert.cluster.executors import Executor, InProcess
from wirebert.cluster.plan import PlacedShard
from wirebert.cluster.predict import DetectorJob, fingerprint, merge_counted, write_shard
from wirebert.cluster.remote import open_any
from wirebert.cluster.results import ShardFolder, ShardRecord
from wirebert.cluster.staging import placed_shards
from wirebert.cluster.storage import Storage, is_uri, next_to
from wirebert.console import SafeConsole, say
from wirebert.data.flows import DataConfig, Flows
from wirebert.data.folders import listing_lines, with_rows
from wirebert.errors import ConfigError, DataError
from wirebert.inference.artifact import load_artifact
from wirebert.inference.cascade import routed_words
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.predictions import WRITERS
from wirebert.inference.rejected_rows import rejected_path
from wirebert.plurals import counted
from wirebert.untrusted_text import warn
from wirebert.workflows.findings import require_no_warnings, tell


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where verdicts go: a folder of shards, or one file that is joined from such a folder."""

    folder: Storage
    file: Storage | None
    ending: str
    name: str
    """As the user named it."""

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
            ending = ending if ending in WRITERS else ".parquet"
            return cls(folder=Storage.of(name), file=None, ending=ending, name=str(out))
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
        return cls(folder=Storage.of(next_to(name, ".shards")), file=file, ending=ending, name=str(out))

    @property
    def rejected(self) -> Storage:
        """The file of rejected rows."""
        return Storage.of(_rejected_name(self.folder.name if self.file is None else self.file.name))


def predict_by_shards(
    data: str,
    out: Output,
    model: Path,
    detector: Mapping[str, Any],
    executor: Executor,
    *,
    explained: Literal["alerts", "all"] | None = None,
    strict: bool = False,
) -> None:
    """Write a verdict for every flow, shard by shard; what an earlier start finished is kept.

    Args:
        detector: arguments of `Detector.load`; each of several workers has one thread, unless a number is
            given.
    """
    artifact = load_artifact(model)
    flows = open_any(data, DataConfig(allow_absent=detector["allow_absent"]), artifact.schema)
    fit = TrafficFit.of(artifact.tokenizer, flows)
    operating = artifact.operating_point
    opened = (*fit.opened, *(operating.findings(detector["fpr"]) if operating else ()))
    tell(opened)
    threads = detector["threads"] or (None if isinstance(executor, InProcess) else 1)
    detector = {**detector, "threads": threads}
    plan, placed = placed_shards(flows, executor)
    for reason in plan.reasons:
        warn(reason)
    folder = ShardFolder(
        storage=out.folder, settings=fingerprint(model, detector, explained), ending=out.ending
    )
    folder.begin(plan)
    work = partial(write_shard, flows=flows, folder=folder, explained=explained)
    job = DetectorJob(model=model, detector=detector, work=work)
    records = finish(folder, flows, placed, executor, job)
    merge_counted(flows, fit, zip(placed, (one.counted for one in records), strict=True))
    folder.end(records)
    folder.join_rejected(records, out.rejected)
    if out.file is not None:
        folder.join(records, out.file)
        out.folder.delete()
    for line in listing_lines(with_rows(flows.listing, fit.invalid_values.lines.rows_by_file)):
        warn(line)
    engine, peak_mb = records[0].engine, max(one.peak_mb for one in records)
    routed = [one.routed for one in records if one.routed is not None]
    words = routed_words((sum(one for one, _ in routed), sum(rows for _, rows in routed)) if routed else None)
    done = (
        f"{counted(fit.invalid_values.num_rows, 'flow')} by {engine}{words}: {out.name} "
        f"({counted(len(records), 'shard')}, at most {peak_mb:,} MB a worker)"
    )
    say(SafeConsole(stderr=True), done)
    tell(fit.scored)
    require_no_warnings((*opened, *fit.scored), strict=strict)


def finish(
    folder: ShardFolder, flows: Flows, placed: Sequence[PlacedShard], executor: Executor, job: DetectorJob
) -> list[ShardRecord]:
    """The records of all shards in plan order; those that are not finished yet are run.

    Raises:
        ConfigError: workers used different engines, whose scores differ in rounding.
    """
    records = folder.finished(placed)
    if records:
        warn(f"{len(records):,} of {len(placed):,} shards were finished before")
    if len(records) < len(placed):
        placed = context_in_order(flows, placed, executor, folder.context)
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
