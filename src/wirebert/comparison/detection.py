"""Detection of attacks that training did not show: the protocols `benign_only` and `leave_attack_out`.

Scores are judged alone. Thresholds for 1 % and 0.1 % false positives come from benign validation rows; no
setting is tuned, since nothing labelled is left to tune it on.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from wirebert.baselines.unsupervised import UNSUPERVISED, UnsupervisedMethod
from wirebert.comparison.learned import fit_learned
from wirebert.config import RunConfig, resolve_learning
from wirebert.data.flows import FlowSubset
from wirebert.data.labels import ClassMap
from wirebert.decision.novelty import ColumnSpace
from wirebert.encoding.matrix import concatenate, extract_features
from wirebert.errors import ConfigError
from wirebert.evaluation.evaluate import TrueClasses
from wirebert.metrics.curves import OperatingCurve
from wirebert.metrics.thresholds import fit_threshold
from wirebert.report.tables import markdown
from wirebert.run_folder import RunFolder
from wirebert.shapes import Bool, Float64
from wirebert.workflows.prepare import PreparedData, prepare, write_typed_rows
from wirebert.workflows.train import open_tests, record_test_reads
from wirebert.workflows.typed_rows import ParsedFlows

TARGETS: Final = (0.01, 0.001)
"""Target false positive rates."""
FEWEST_ROWS: Final = 50
"""An attack name with fewer rows is not judged."""
MOST_LEFT_OUT: Final = 10_000
"""Rows of the left-out name that are scored."""
ATTACKS: Final = "all attacks"

ScoreFlows = Callable[[pa.Table], Float64[np.ndarray, " flows"]]
"""Typed table -> a score of each flow, the higher the more of an attack."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionTask:
    """What a detector is fitted on."""

    train: FlowSubset
    """Rows to learn from, without labels: benign ones, and `comparison.contamination` of attacks."""
    benign: FlowSubset
    """Benign validation rows, for thresholds."""
    parsed: ParsedFlows
    """The whole training file."""
    run: RunConfig
    folder: RunFolder
    """Folder for what is trained."""


@dataclass(frozen=True, slots=True)
class DetectionMethod:
    """A detector of one of these protocols."""

    title: str
    fit: Callable[[DetectionTask], ScoreFlows]


def _without_labels(method: UnsupervisedMethod) -> DetectionMethod:
    def fit(task: DetectionTask) -> ScoreFlows:
        schema = task.train.flows.schema
        features = concatenate([extract_features(table, schema) for table in task.train.tables()])
        space = ColumnSpace.fit(features)
        score = method.fit(space.points(features), task.run.seed)
        return lambda table: score(space.points(extract_features(table, schema)))

    return DetectionMethod(method.title, fit)


def _fit_learn(task: DetectionTask) -> ScoreFlows:
    """`wirebert learn` with its defaults; labelled columns are dropped before anything is read."""
    assert task.train.rows is not None
    run = resolve_learning(given={"seed": task.run.seed})
    detector, _ = fit_learned(run, task.parsed, task.train.rows, task.folder)

    def score(table: pa.Table) -> Float64[np.ndarray, " flows"]:
        scores = detector.score(table).alert_score
        assert scores is not None, "normal is benign"
        return scores.astype(np.float64)

    return score


DETECTORS: Final[dict[str, DetectionMethod]] = {
    "learn": DetectionMethod("wirebert learn", _fit_learn),
    **{name: _without_labels(method) for name, method in UNSUPERVISED.items()},
}
"""The detectors, by the names of `comparison.detectors`; a new one is an entry here."""


def check_detectors(run: RunConfig) -> tuple[str, ...]:
    """The detectors of this comparison; a ConfigError if one is unknown."""
    chosen = run.comparison.detectors
    unknown = [name for name in chosen if name not in DETECTORS]
    if unknown:
        raise ConfigError(f"comparison.detectors must be of {', '.join(DETECTORS)}, got {unknown[0]!r}")
    return chosen


def detect(run: RunConfig, folder: RunFolder, name: str) -> dict[str, Any]:
    """Fit one detector, set its thresholds, then score the test rows or the attacks that were left out.

    Raises:
        ConfigError: no class is benign.
    """
    rows = write_typed_rows(run, folder)
    data = prepare(run, rows)
    if data.classes.benign is None:
        raise ConfigError(
            f"comparison.protocol={run.comparison.protocol} needs a benign class, found none; name it with "
            "--benign"
        )
    sides, start_s = _Sides.of(run, data), time.perf_counter()
    task = DetectionTask(
        train=FlowSubset("train", data.flows, sides.is_train),
        benign=sides.benign,
        parsed=rows.parsed,
        run=run,
        folder=folder,
    )
    score = DETECTORS[name].fit(task)
    fitted = _FittedDetector(score, sides.benign, time.perf_counter() - start_s)
    if run.comparison.protocol == "benign_only":
        tests = open_tests(run, data.flows.schema)
        record_test_reads(run, folder, data, tests, {"method": name, "protocol": run.comparison.protocol})
        parts = [*([data.test] if data.test else []), *tests]
        return {part.name: fitted.of_part(part, data.classes) for part in parts}
    figures = dict[str, Any]()
    for label in sides.left_out:
        figures |= fitted.of_attacks(label, sides.rows_of(label, run.seed))
    return {"left out": {"classes": figures}}


class _FittedDetector:
    """Figures of one fitted detector."""

    def __init__(self, score: ScoreFlows, benign: FlowSubset, fit_s: float) -> None:
        self._score, self._fit_s = score, fit_s
        self._benign = self._scores(benign)
        no_attack = np.zeros(len(self._benign), bool)
        self._thresholds = {
            f"{target:g}": fit_threshold(self._benign, no_attack, target).threshold for target in TARGETS
        }

    def of_attacks(self, name: str, part: FlowSubset) -> dict[str, Any]:
        """Detection of the attacks of a part, beside the benign validation rows."""
        return {name: self._figures(self._scores(part), self._benign)}

    def of_part(self, part: FlowSubset, classes: ClassMap) -> dict[str, Any]:
        """Detection of each class of a labelled part, all attacks together, and the false positive rates."""
        label, truth = part.flows.require_label(), TrueClasses(classes)
        start_s, scores, names = time.perf_counter(), list[np.ndarray](), list[str | None]()
        for table in part.tables():
            scores.append(self._score(table))
            names += truth.named(table.column(label))["true_class"].to_pylist()
        took_s = time.perf_counter() - start_s
        joined, true = np.concatenate(scores), np.array([name or "" for name in names])
        benign = joined[true == classes.benign]
        attacks = {
            name: joined[true == name]
            for name in np.unique(true).tolist()
            if name not in ("", classes.benign)
        }
        return {
            "classes": {name: self._figures(own, benign) for name, own in attacks.items()}
            | {ATTACKS: self._figures(np.concatenate(list(attacks.values())), benign)},
            "fpr": {target: float((benign >= at).mean()) for target, at in self._thresholds.items()},
            "fit_s": round(self._fit_s, 2),
            "rows_per_s": round(len(joined) / max(took_s, 1e-9)),
        }

    def _scores(self, part: FlowSubset) -> Float64[np.ndarray, " flows"]:
        return np.concatenate([self._score(table) for table in part.tables()])

    def _figures(
        self, attacks: Float64[np.ndarray, " attacks"], benign: Float64[np.ndarray, " benign"]
    ) -> dict[str, Any]:
        is_attack = np.arange(len(benign) + len(attacks)) >= len(benign)
        return {
            "num_flows": len(attacks),
            "auroc": OperatingCurve.of(np.concatenate([benign, attacks]), is_attack).auroc,
            "tpr": {target: float((attacks >= at).mean()) for target, at in self._thresholds.items()},
        }


@dataclass(frozen=True, slots=True)
class _Sides:
    """Rows of the training file by what they are for."""

    data: PreparedData
    is_train: Bool[np.ndarray, " rows"]
    """Rows that detectors without labels learn from."""
    benign: FlowSubset
    left_out: tuple[str, ...]
    """Attack names that are judged."""

    @staticmethod
    def of(run: RunConfig, data: PreparedData) -> "_Sides":
        """The sides of one seed."""
        rng = np.random.default_rng(run.seed)
        names = data.profile.label_names
        is_benign_name = np.array(
            [data.classes.class_of_label(name) == data.classes.benign for name in names]
        )
        labels = data.profile.labels
        is_benign = np.append(is_benign_name, False)[labels]
        is_attack = (labels >= 0) & ~is_benign
        assert data.train.rows is not None
        assert data.valid.rows is not None
        share, most = run.comparison.contamination, run.comparison.max_train_rows
        num_benign = min(round(most * (1 - share)), int((data.train.rows & is_benign).sum()))
        is_train = _drawn(data.train.rows & is_benign, num_benign, rng)
        is_train |= _drawn(data.train.rows & is_attack, round(num_benign * share / (1 - share)), rng)
        counts = data.profile.label_counts
        left_out = [
            name
            for name, benign in zip(names, is_benign_name.tolist(), strict=True)
            if not benign and counts.get(name, 0) >= FEWEST_ROWS
        ]
        benign = FlowSubset("benign", data.flows, data.valid.rows & is_benign)
        return _Sides(data, is_train, benign, tuple(left_out))

    def rows_of(self, name: str, seed: int) -> FlowSubset:
        """Training and validation rows of one name."""
        rng, is_open = np.random.default_rng(seed), self.data.train.rows
        assert is_open is not None
        assert self.data.valid.rows is not None
        rows = self._has_name(name) & (is_open | self.data.valid.rows)
        return FlowSubset(name, self.data.flows, _drawn(rows, MOST_LEFT_OUT, rng))

    def _has_name(self, name: str) -> Bool[np.ndarray, " rows"]:
        return self.data.profile.labels == list(self.data.profile.label_names).index(name)


def _drawn(rows: Bool[np.ndarray, " rows"], most: int, rng: np.random.Generator) -> Bool[np.ndarray, " rows"]:
    chosen = np.zeros(len(rows), bool)
    chosen[rng.permutation(np.flatnonzero(rows))[:most]] = True
    return chosen


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectionResult:
    """One detector on one split: mean and standard deviation over seeds."""

    method: str
    split: str
    figures: Mapping[str, tuple[float, float]]
    """Figure in words -> mean and standard deviation over seeds."""
    classes: Mapping[str, tuple[float, float]]
    """Class or left-out name -> detection at a target of 1 %."""


def summarise(method: str, runs: list[dict[str, Any]]) -> Iterator[DetectionResult]:
    """The results of one detector from what `detect` gave for each seed.

    The worst class is the worst one by its mean over seeds.
    """
    for split in runs[0]:
        own = [run[split] for run in runs]
        names = [name for name in own[0]["classes"] if name != ATTACKS]
        rows = [[run["classes"][name] for name in names] for run in own]
        measured = {"AUROC": np.array([[one["auroc"] for one in row] for row in rows])}
        for target in TARGETS:
            values = [[one["tpr"][f"{target:g}"] for one in row] for row in rows]
            measured[f"TPR at {target:.1%} FPR"] = np.array(values)
        figures = dict[str, tuple[float, float]]()
        if ATTACKS in own[0]["classes"]:
            figures["AUROC, all"] = _spread([run["classes"][ATTACKS]["auroc"] for run in own])
        for title, values in measured.items():
            figures[f"{title}, mean"] = _spread(values.mean(axis=1))
            figures[f"{title}, worst"] = _spread(values[:, int(values.mean(axis=0).argmin())])
        for target in own[0].get("fpr", ()):
            figures[f"FPR for {float(target):.1%}"] = _spread([run["fpr"][target] for run in own])
        detected = measured[f"TPR at {TARGETS[0]:.1%} FPR"]
        classes = {name: _spread(detected[:, at]) for at, name in enumerate(names)}
        yield DetectionResult(method=method, split=split, figures=figures, classes=classes)


def _spread(values: Any) -> tuple[float, float]:
    numbers = np.asarray(values, np.float64)
    return float(numbers.mean()), float(numbers.std(ddof=1)) if len(numbers) > 1 else 0.0


def as_tables(results: list[DetectionResult]) -> str:
    """Markdown: per split a table of the figures, and one of each class."""
    lines: list[str] = []
    for split in dict.fromkeys(one.split for one in results):
        own = [one for one in results if one.split == split]
        for title, shown in (
            ("detector", {one.method: one.figures for one in own}),
            (f"TPR at {TARGETS[0]:.0%} FPR", {one.method: one.classes for one in own}),
        ):
            head = list(next(iter(shown.values())))
            rows = [
                (method, *(f"{mean:.3f} ± {std:.3f}" for mean, std in figures.values()))
                for method, figures in shown.items()
            ]
            lines += [split, "", markdown((title, *head), rows), ""]
    return "\n".join(lines)
