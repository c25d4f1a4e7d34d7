"""Compare finished runs that were evaluated on the same flows.

Runs that share every setting except the seed are one method, trained several times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import cast

import numpy as np

from wirebert.evaluation.predictions_file import (
    SplitPredictions,
    as_labelled_rows,
    positions,
    read_predictions,
)
from wirebert.evaluation.test_ledger import settings_hash
from wirebert.metrics.registry import MACRO_F1, compared_titles
from wirebert.report.comparison import Comparison, Predictions, SplitComparison, compare_methods
from wirebert.report.report import Report, read_json
from wirebert.report.terminal import differing_settings
from wirebert.run_folder import RunFolder
from wirebert.shapes import Float64
from wirebert.telemetry.events import read_metrics
from wirebert.telemetry.history import History


@dataclass(frozen=True, slots=True)
class RunGroup:
    """Finished runs that differ only in the seed."""

    name: str
    folders: tuple[RunFolder, ...]
    reports: tuple[Report, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the runs."""
        return tuple(report.seed for report in self.reports)

    @property
    def histories(self) -> list[History]:
        """The training histories that were recorded."""
        paths = [folder.metrics for folder in self.folders if folder.metrics.exists()]
        return [History.of(read_metrics(path)) for path in paths]


def compare_runs(
    paths: Sequence[Path], *, num_resamples: int = 1000
) -> tuple[Comparison, dict[str, list[History]]]:
    """The comparison of these finished runs, and their training histories.

    Raises:
        RunError: a folder holds no finished run.
    """
    methods = group_runs(paths)
    primary = _primary(methods)
    names = dict.fromkeys(split for method in methods for report in method.reports for split in report.splits)
    splits = [_compare_split(name, methods, num_resamples) for name in names]
    reports = [method.reports[0] for method in methods]
    files = {name: report.data.test_usage[name] for report in reports for name in report.data.test_usage}
    comparison = Comparison(
        title=", ".join(method.name for method in methods),
        primary=primary,
        splits=tuple(splits),
        facts={method.name: _facts(method) for method in methods},
        settings={name: row for name, row in differing_settings(reports).items() if name != "seed"},
        files=files,
    )
    return comparison, {method.name: method.histories for method in methods}


def group_runs(paths: Sequence[Path]) -> list[RunGroup]:
    """Group runs that differ only in the seed, in the order given; each group has a distinct name.

    A second run with the same settings and seed is a group by itself.
    """
    groups: dict[tuple[str, int], list[tuple[RunFolder, Report]]] = {}
    for path in paths:
        folder = RunFolder(path)
        report = read_json(folder.report_json)
        again = 0
        key = settings_hash(report.settings) or str(path)
        while report.seed in [other.seed for _, other in groups.get((key, again), [])]:
            again += 1
        groups.setdefault((key, again), []).append((folder, report))
    methods: list[RunGroup] = []
    for runs in groups.values():
        name = _group_name([report.name for _, report in runs])
        taken = [method.name for method in methods]
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name} ({number})", number + 1
        methods.append(
            RunGroup(unique, *cast(tuple[tuple[RunFolder, ...], tuple[Report, ...]], zip(*runs, strict=True)))
        )
    return methods


def _compare_split(name: str, methods: Sequence[RunGroup], num_resamples: int) -> SplitComparison:
    reports = [report for method in methods for report in method.reports]
    having = [report for report in reports if name in report.splits]
    size = having[0].splits[name].num_flows
    if len(having) < len(reports):
        note = f"Only {len(having)} of {len(reports)} runs have this split, so differences are not tested."
        return SplitComparison(name=name, num_flows=size, num_clusters=0, note=note)
    shas = {report.data.test_usage[name].sha256 for report in reports if name in report.data.test_usage}
    read = [[read_predictions(folder.predictions(name)) for folder in method.folders] for method in methods]
    every = [rows for runs in read for rows in runs]
    if len(shas) > 1 or len({rows.fingerprint for rows in every}) > 1:
        note = (
            "The runs were evaluated on different flows (another file, or another seed's split), so they are "
            "not compared; `wirebert report RUN` shows the metrics of each run."
        )
        return SplitComparison(name=name, num_flows=size, num_clusters=0, note=note)
    names = sorted({name for rows in every for name in (*rows.true, *rows.names)})
    labelled = as_labelled_rows(every[0], names, reports[0].data.benign)
    contenders = [
        Predictions(
            name=method.name,
            predicted=np.stack([positions(rows.names, names)[rows.predicted] for rows in runs]),
            scores=_stacked(runs),
        )
        for method, runs in zip(methods, read, strict=True)
    ]
    return compare_methods(
        name, labelled, contenders, tuple(compared_titles()), classes=names, num_resamples=num_resamples
    )


def _stacked(runs: Sequence[SplitPredictions]) -> Float64[np.ndarray, "seeds flows"] | None:
    scores = [rows.scores for rows in runs if rows.scores is not None]
    return np.stack(scores) if len(scores) == len(runs) else None


def _primary(methods: Sequence[RunGroup]) -> str:
    """The primary metric if all runs have the same one, else macro F1."""
    named: set[object] = set()
    for report in (report for method in methods for report in method.reports):
        section = report.settings.get("evaluation")
        named.add(
            cast(Mapping[str, object], section).get("primary_metric")
            if isinstance(section, Mapping)
            else None
        )
    (only,) = named if len(named) == 1 else (None,)
    return only if isinstance(only, str) and only in compared_titles() else MACRO_F1


def _group_name(names: Sequence[str]) -> str:
    """The common prefix of the names and how many there are; a single run keeps its name.

    >>> _group_name(["base-1", "base-2"]), _group_name(["a", "b"]), _group_name(["a"])
    ('base (2 seeds)', 'a (2 seeds)', 'a')
    """
    if len(names) == 1:
        return names[0]
    shared = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
    stem = "".join(letters[0] for letters in shared).rstrip("-_. ")
    return f"{stem or names[0]} ({len(names)} seeds)"


def _facts(method: RunGroup) -> dict[str, str]:
    """Mean speed and memory of the runs; values that were not recorded are omitted."""
    facts = {"seeds": ", ".join(map(str, method.seeds))}
    for name in ("parameters", "flows_per_second"):
        values = [
            value for report in method.reports if isinstance(value := report.training.get(name), int | float)
        ]
        if values:
            facts[name.replace("_", " ")] = f"{np.mean(values):,.0f}"
    for stage in ("training", "scoring"):
        seconds = [report.timing[stage] for report in method.reports if stage in report.timing]
        if seconds:
            facts[f"{stage} (s)"] = f"{np.mean(seconds):,.1f}"
    machines = {", ".join(report.hardware.gpus) or report.hardware.cpu for report in method.reports}
    return facts | peak_memory(method) | {"hardware": ", ".join(sorted(machines))}


_PEAKS = {"resident_bytes": "memory (GiB)", "gpu_memory_allocated_bytes": "GPU memory (GiB)"}
"""Field of resource events -> its name in tables."""


def peak_memory(method: RunGroup) -> dict[str, str]:
    """Peak memory over all samples of the runs; empty without samples."""
    peaks: dict[str, float] = {}
    for sample in (sample for history in method.histories for sample in history.resources):
        for field, title in _PEAKS.items():
            size = sample.get(field)
            if isinstance(size, int | float):
                peaks[title] = max(peaks.get(title, 0.0), size / 2**30)
    return {title: f"{peak:.2f}" for title, peak in peaks.items()}
