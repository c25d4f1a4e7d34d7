"""A report that can be shown around: without addresses, names, times, payloads and paths."""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Final, Protocol, TypeVar, runtime_checkable

from wirebert.data.findings import Finding
from wirebert.data.schema.identifying import identifies, identifying_parts
from wirebert.metrics.split_metrics import Mistake, SplitMetrics
from wirebert.plurals import counted
from wirebert.report.columns import ColumnDrift, Columns, ColumnSummary
from wirebert.report.learning import LearningReport
from wirebert.report.report import Baseline, DataSection, Report

LEFT_OUT: Final = "left out"
_OWN_SPLITS: Final = ("train", "valid", "held_out", "test")
_OWN_WORDS: Final = ("scratch", "gbdt", "text_svm", "mini", "small", "base", "auto", "none")
"""Texts of settings that name no file."""
_SAFE_MESSAGES: Final = ("untrusted_threshold",)
"""Findings whose sentences hold nothing of the traffic."""

Value = TypeVar("Value")


@runtime_checkable
class _BySplit(Protocol):
    """Gives test files other names than those of their files."""

    def __call__(self, given: Mapping[str, Value], /) -> dict[str, Value]: ...


def redacted(report: Report) -> Report:
    """The report without what names hosts and people. Columns of unknown kind count as such."""
    hides = _hider(report.columns.kinds)
    names = [name for name in report.splits if name not in _OWN_SPLITS]
    renamed = {name: f"test {place}" for place, name in enumerate(names, 1)}

    def by_split(given: Mapping[str, Value]) -> dict[str, Value]:
        return {renamed.get(name, name): value for name, value in given.items()}

    return replace(
        report,
        name="redacted report",
        command=" ".join(report.command.split()[:2]) if report.command.startswith("wirebert ") else "",
        splits=by_split({name: _metrics(metrics, hides) for name, metrics in report.splits.items()}),
        data=_data(report.data, by_split),
        settings={name: _numbers(value) for name, value in report.settings.items() if name != "data"},
        training=_numbers(report.training),
        baselines={
            name: Baseline(
                summary=_numbers(one.summary),
                splits=by_split({split: _metrics(own, hides) for split, own in one.splits.items()}),
                differences=by_split(one.differences),
            )
            for name, one in report.baselines.items()
        },
        teacher=None
        if report.teacher is None
        else replace(report.teacher, splits=by_split(report.teacher.splits)),
        columns=_columns(report.columns, hides, by_split),
        is_redacted=True,
    )


_SAFE_ROLES: Final = ("source port", "destination port", "protocol", "service")
"""Of the columns that a report of learning shows, those that name nobody."""


def redacted_learning(report: LearningReport) -> LearningReport:
    """The report of `wirebert learn` without hosts, times, files, and values of features."""
    normal = replace(
        report.normal,
        first_s=None,
        last_s=None,
        flows_by_hour=(),
        columns=tuple(
            replace(one, counts={_text(name): count for name, count in one.counts.items()})
            if one.column in _SAFE_ROLES
            else replace(one, counts={})
            for one in report.normal.columns
        ),
    )
    unusual = tuple(
        replace(
            flow,
            columns={name: _text(value) for name, value in flow.columns.items() if name in _SAFE_ROLES},
            reasons=tuple(reason.partition(":")[0] for reason in flow.reasons),
        )
        for flow in report.unusual
    )
    return replace(
        report,
        name="redacted report",
        command="wirebert learn",
        files=(counted(len(report.files), "file"),),
        split="",
        findings=tuple(map(_finding, report.findings)),
        normal=normal,
        unusual=unusual,
        settings={name: _numbers(value) for name, value in report.settings.items() if name != "data"},
    )


def _finding(one: Finding) -> Finding:
    message = one.message if one.code in _SAFE_MESSAGES else one.code.replace("_", " ")
    return replace(one, message=message, example="")


def _hider(kinds: Mapping[str, str]) -> Callable[[str], bool]:
    return lambda column: column not in kinds or identifies(column, kinds[column])


def _text(value: str) -> str:
    return LEFT_OUT if any(identifying_parts(value)) else value


def _metrics(metrics: SplitMetrics, hides: Callable[[str], bool]) -> SplitMetrics:
    def without(mistake: Mistake) -> Mistake:
        flow = {name: _text(value) for name, value in mistake.flow.items() if not hides(name)}
        return replace(mistake, label=_text(mistake.label), flow=flow)

    return replace(metrics, mistakes=tuple(map(without, metrics.mistakes)))


def _columns(
    columns: Columns,
    hides: Callable[[str], bool],
    by_split: _BySplit,
) -> Columns:
    def summary(one: ColumnSummary) -> ColumnSummary:
        return replace(one, values={_text(value): share for value, share in one.values.items()})

    def drift(one: ColumnDrift) -> ColumnDrift:
        return replace(one, bins=tuple(map(_text, one.bins)))

    return Columns(
        kinds=columns.kinds,
        typical={
            name: {column: summary(one) for column, one in own.items() if not hides(column)}
            for name, own in columns.typical.items()
        },
        drift=by_split(
            {
                name: tuple(drift(one) for one in own if not hides(one.column))
                for name, own in columns.drift.items()
            }
        ),
    )


def _data(data: DataSection, by_split: _BySplit) -> DataSection:
    names = {
        part for file in data.files for part in (file, PurePath(file).name, PurePath(file).name.split(".")[0])
    }
    longest_first = sorted(filter(None, names), key=len, reverse=True)
    pattern = "|".join(rf"(?<!\w){re.escape(name)}(?!\w)" for name in longest_first) or "(?!)"

    def words(text: str) -> str:
        return _text(re.sub(pattern, LEFT_OUT, text))

    return replace(
        data,
        files=(counted(len(data.files), "file"),),
        detected=words(data.detected),
        split=words(data.split),
        distribution=by_split(data.distribution),
        findings=tuple(map(_finding, data.findings)),
        listing=(),
        test_usage=by_split(data.test_usage),
    )


def _numbers(value: object) -> dict[str, object]:
    """The numbers and switches of a table of settings; texts may be paths and names."""
    if not isinstance(value, Mapping):
        return {}
    kept: dict[str, object] = {}
    for name, one in value.items():
        if isinstance(one, Mapping):
            kept[str(name)] = _numbers(one)
        elif isinstance(one, bool | int | float) or one in _OWN_WORDS:
            kept[str(name)] = one
    return kept
