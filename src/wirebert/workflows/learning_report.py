"""The report of `wirebert learn`, from the traffic and the saved detector."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console

from wirebert.alerts.flow_columns import FlowColumns, flow_columns
from wirebert.config import LearnConfig
from wirebert.console import say
from wirebert.data.arrow_columns import to_texts
from wirebert.data.flows import Flows, FlowSubset
from wirebert.data.times import seconds_of
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.encoding.matrix import concatenate, extract_features
from wirebert.files import write_atomic
from wirebert.inference.artifact import Artifact
from wirebert.inference.detector import Detector
from wirebert.inference.explanations import novelty_reasons, top_reasons
from wirebert.metrics.masked_lm import MaskedMetrics
from wirebert.report.environment import hardware, versions
from wirebert.report.html.learning import learning_page
from wirebert.report.learning import (
    FrequentValues,
    LearningReport,
    NormalTraffic,
    UnusualFlow,
    print_learning,
)
from wirebert.run_folder import RunFolder
from wirebert.serialization import settings_to_dict, to_builtins
from wirebert.shapes import Int64
from wirebert.untrusted_text import printable_name
from wirebert.workflows.prepare import PreparedData
from wirebert.workflows.report import command_line

NUM_UNUSUAL: Final = 25
VALUES_KEPT: Final = 15
MOST_VALUES: Final = 200_000
"""Different values of a column that are counted; beyond, rare ones are forgotten."""
COUNTED: Final = ("source", "destination", "destination_port", "protocol", "service")
SHOWN: Final = ("time", "source", "source_port", "destination", "destination_port", "protocol", "service")
UNUSUAL_ID: Final = 1
"""Position of the class `unusual`."""


@dataclass(frozen=True)
class Learned:
    """A detector, and what its report is made from."""

    artifact: Artifact
    num_left_out: int
    """Training flows that were taken for attacks."""
    quality: dict[str, MaskedMetrics]
    """How well masked features of later flows are predicted, column by column; `""`: all together."""
    correlation: float
    """Rank correlation of the model's score with the full leave-one-out surprisal, on later flows."""


def describe_learning(
    run: LearnConfig,
    folder: RunFolder,
    data: PreparedData,
    learned: Learned,
) -> LearningReport:
    """The report, from all flows and from the saved detector's scores of the later ones."""
    detector = Detector.load(folder.model, device=run.training.device, backend="torch", precision="fp32")
    operating = detector.artifact.operating_point or NO_OPERATING_POINT
    is_train, is_later = data.train.rows, data.valid.rows
    assert is_train is not None
    assert is_later is not None
    return LearningReport(
        name=printable_name(folder.path.name),
        command=command_line(),
        seed=run.seed,
        files=tuple(map(printable_name, data.flows.files)),
        fingerprint=data.fingerprint,
        num_train=int(is_train.sum()),
        num_left_out=learned.num_left_out,
        num_later=int(is_later.sum()),
        split=data.split,
        findings=data.findings,
        normal=normal_traffic(data.flows),
        unusual=most_unusual(detector, data.valid),
        thresholds=operating.thresholds,
        alert_fpr=operating.alert_fpr,
        correlation=learned.correlation,
        columns=learned.quality,
        settings=settings_to_dict(run),
        versions=versions(),
        hardware=hardware(),
        timing={},
    )


def normal_traffic(flows: Flows) -> NormalTraffic:
    """The most frequent ends, ports, protocols and services of the flows, and their hours."""
    counters: dict[str, Counter[str]] = {}
    hours, num_flows, first_s, last_s = np.zeros(24, np.int64), 0, np.inf, -np.inf
    for table in flows.blocks():
        num_flows += table.num_rows
        known = flow_columns(table.column_names)
        for role in COUNTED:
            name = cast(str | None, getattr(known, role))
            if name is not None:
                counter = counters.setdefault(role, Counter())
                counted = pc.value_counts(to_texts(table.column(name)).drop_null())
                counter.update(dict(zip(*(part.to_pylist() for part in counted.flatten()), strict=True)))
                if len(counter) > MOST_VALUES:
                    counters[role] = Counter(dict(counter.most_common(MOST_VALUES // 2)))
        if known.time is not None:
            seconds = seconds_of(table.column(known.time))
            seconds = seconds[np.isfinite(seconds)]
            hours += np.bincount((seconds // 3600 % 24).astype(np.int64), minlength=24)
            first_s, last_s = (
                min(first_s, seconds.min(initial=np.inf)),
                max(last_s, seconds.max(initial=-np.inf)),
            )
    has_times = bool(hours.any())
    return NormalTraffic(
        num_flows=num_flows,
        first_s=float(first_s) if has_times else None,
        last_s=float(last_s) if has_times else None,
        flows_by_hour=tuple(hours.tolist()) if has_times else (),
        columns=tuple(
            FrequentValues(
                column=role.replace("_", " "),
                num_distinct=len(counter),
                counts={printable_name(name): count for name, count in counter.most_common(VALUES_KEPT)},
            )
            for role, counter in counters.items()
        ),
    )


def most_unusual(detector: Detector, later: FlowSubset) -> tuple[UnusualFlow, ...]:
    """The later flows with the highest alert scores, one of each that look the same, with reasons."""
    scores, hashes, rows = [np.empty(0)], [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for table, numbers in later.blocks():
        found = detector.score(table)
        assert found.alert_score is not None, "normal is a class"
        scores.append(found.alert_score.astype(np.float64))
        hashes.append(found.row_hashes)
        rows.append(numbers)
    order = np.argsort(-np.concatenate(scores), kind="stable")
    _, first, counts = np.unique(np.concatenate(hashes)[order], return_index=True, return_counts=True)
    chosen = np.argsort(first)[:NUM_UNUSUAL]
    numbers = np.concatenate(rows)[order[first[chosen]]]
    equal = dict(zip(numbers.tolist(), counts[chosen].tolist(), strict=True))
    is_chosen = np.zeros(0 if later.rows is None else len(later.rows), bool)
    is_chosen[numbers] = True
    tables = [*FlowSubset("unusual", later.flows, is_chosen).tables()]
    if not tables:
        return ()
    found = _described(detector, concatenate(tables), np.flatnonzero(is_chosen), equal)
    return tuple(sorted(found, key=lambda flow: -flow.score))


def _described(
    detector: Detector, table: pa.Table, numbers: Int64[np.ndarray, " flows"], equal: dict[int, int]
) -> list[UnusualFlow]:
    block = detector.encode(table)
    scores = detector.score(table, block)
    attack, novelty, verdicts = scores.attack_score, scores.novelty, scores.verdict
    assert attack is not None
    alert = scores.alert_score if scores.alert_score is not None else attack
    towards = np.full(table.num_rows, UNUSUAL_ID, np.int64)
    reasons = top_reasons(detector.explain_encoded(block, towards), detector.artifact.tokenizer).to_pylist()
    if detector.novelty_scorer is not None and scores.combined_alert is not None and novelty is not None:
        far = novelty_reasons(detector.novelty_scorer, extract_features(table, detector.schema)).to_pylist()
        by_distance = scores.combined_alert.goes_by_novelty(attack, novelty)
        reasons = [
            two if far_off else one for one, two, far_off in zip(reasons, far, by_distance, strict=True)
        ]
    shown = _shown(table, flow_columns(table.column_names))
    return [
        UnusualFlow(
            row=int(number),
            score=float(alert[at]),
            verdict=verdicts[at] if verdicts else "",
            num_equal=equal[int(number)],
            columns={name: texts[at] for name, texts in shown.items() if texts[at]},
            reasons=tuple(map(printable_name, reasons[at] or ())),
        )
        for at, number in enumerate(numbers)
    ]


def _shown(table: pa.Table, known: FlowColumns) -> dict[str, list[str]]:
    """The columns of a flow that name it, as texts."""
    named = {role: cast(str | None, getattr(known, role)) for role in SHOWN}
    return {
        role.replace("_", " "): [
            "" if value is None else printable_name(str(value))
            for value in to_texts(table.column(name)).to_pylist()
        ]
        for role, name in named.items()
        if name is not None
    }


def write_learning(report: LearningReport, folder: RunFolder) -> None:
    """Write report.html, then report.json, whose presence means that the run is finished."""
    write_atomic(folder.report_html, learning_page(report))
    write_atomic(folder.report_json, json.dumps(to_builtins(report), indent=1, allow_nan=False))


def show_learning(report: LearningReport, folder: RunFolder, console: Console) -> None:
    """Print the report, then the paths of page and model."""
    print_learning(report, console)
    paths: dict[str, Path] = {"report": folder.report_html, "model": folder.model}
    for what, path in paths.items():
        say(console, f"{what}: {path}")
