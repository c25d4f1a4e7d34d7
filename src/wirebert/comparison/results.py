"""Results of a comparison: every method with defaults, tuned and calibrated, and as an ensemble of its seeds.

Every method gets the same steps, and each step is fitted before a test file is opened: probabilities are
calibrated on the validation rows of each seed, logit offsets come from folds with whole attacks held out,
thresholds from validation rows.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from wirebert.baselines.methods import BASELINES
from wirebert.comparison.jobs import RECIPE, TRIALS, read_result
from wirebert.config import RunConfig
from wirebert.decision.calibration import METHODS, choose_scaling, softmax
from wirebert.decision.logit_offsets import add_logit_offsets
from wirebert.evaluation.predictions_file import (
    SplitPredictions,
    as_labelled_rows,
    read_predictions,
    read_probabilities,
)
from wirebert.evaluation.test_ledger import num_reads, read_ledger
from wirebert.metrics.confusion import class_metrics, confusion_matrix
from wirebert.metrics.registry import TPR_AT_1PCT_FPR
from wirebert.metrics.reliability import calibration_error
from wirebert.metrics.significance import TPR_TARGET_FPR, LabelledRows
from wirebert.metrics.split_metrics import SubsetMetrics
from wirebert.metrics.thresholds import fit_threshold, threshold_metrics
from wirebert.report.comparison import Comparison, Predictions, SplitComparison, compare_methods
from wirebert.report.comparison_terminal import estimate_cells
from wirebert.report.report import FileUsage, read_json
from wirebert.report.summary import FEW_FLOWS
from wirebert.report.tables import markdown
from wirebert.run_folder import RunFolder
from wirebert.shapes import Bool, Float64, Int64
from wirebert.telemetry.events import read_metrics
from wirebert.telemetry.history import History

DEFAULT, CALIBRATED, ENSEMBLE = "default", "tuned + calibrated", "seed ensemble"
"""The states of a method: with default settings; with tuned settings, logit offsets and calibration; and the
same with probabilities averaged over its seeds."""
_SMALLEST = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodRuns:
    """One method of a comparison, with a folder of predictions for each seed."""

    name: str
    plain: tuple[RunFolder, ...]
    """Runs with default settings."""
    chosen: tuple[RunFolder, ...]
    """Runs with tuned settings; for the recipe, the recipe's settings."""
    logit_offsets: Float64[np.ndarray, " classes"]
    reweights_classes: bool = False
    """Whether training weighed the classes, so that probabilities do not follow class frequencies."""

    @property
    def title(self) -> str:
        """Name of the method in texts and tables."""
        return RECIPE if self.name == RECIPE else BASELINES[self.name].title


@dataclass(frozen=True, kw_only=True, slots=True)
class MethodPredictions:
    """One method in one state on one split, once per seed."""

    name: str
    probabilities: Float64[np.ndarray, "seeds flows classes"]
    scores: Float64[np.ndarray, "seeds flows"] | None
    """Alert scores; steps that change probabilities do not change combined attack score and novelty."""
    valid_scores: tuple[Float64[np.ndarray, " _"], ...]
    """Alert scores of each seed's validation rows; `valid_attacks` marks the attacks among them."""
    valid_attacks: tuple[Bool[np.ndarray, " _"], ...]


def compare_results(
    out: Path, run: RunConfig, all_runs: Sequence[MethodRuns], classes: Sequence[str], benign: str | None
) -> tuple[Comparison, dict[str, list[History]]]:
    """The comparison of the methods on every test split, and the training histories of the recipe."""
    first = all_runs[0].chosen[0]
    names = sorted(path.stem for path in (first.path / "predictions").glob("*.parquet"))
    tests = [name for name in names if name not in ("valid", "held_out")]
    splits: list[SplitComparison] = []
    facts: dict[str, dict[str, str]] = {}
    notes: list[str] = []
    for test in tests:
        rows = read_predictions(first.predictions(test))
        all_predictions = [
            candidate for runs in all_runs for candidate in predictions_of(runs, test, rows, classes, benign)
        ]
        for mapped, suffix in _maps(rows, run.comparison.alternative_label_map):
            split, few = _compare(f"{test}{suffix}", mapped, all_predictions, classes, benign, run)
            splits.append(split)
            for candidate in all_predictions:
                facts.setdefault(candidate.name, {}).update(
                    few_facts(f"{test}{suffix}", mapped, candidate, classes)
                )
            notes += few
        for candidate in all_predictions:
            facts[candidate.name] |= point_facts(test, rows, candidate, classes, benign)
    for runs in all_runs:
        facts[f"{runs.title}, {CALIBRATED}"] |= _choice_facts(out, runs)
    comparison = Comparison(
        title=f"{out.name}: {len(all_runs)} methods on the same rows",
        primary=run.evaluation.primary_metric,
        splits=tuple(splits),
        facts=facts,
        files=_file_usage(out, first, tests),
        notes=(*notes, *_train_overlap_notes(all_runs, tests), *_choice_notes(out)),
    )
    ours = [folder for runs in all_runs if runs.name == RECIPE for folder in runs.chosen]
    histories = [History.of(read_metrics(folder.metrics)) for folder in ours if folder.metrics.exists()]
    return comparison, {RECIPE: histories} if histories else {}


def predictions_of(
    runs: MethodRuns, test: str, rows: SplitPredictions, classes: Sequence[str], benign: str | None
) -> list[MethodPredictions]:
    """The predictions of the method in each of its states."""
    states = [
        _predictions(runs, DEFAULT, runs.plain, test, rows, classes, benign),
        _predictions(runs, CALIBRATED, runs.chosen, test, rows, classes, benign),
    ]
    if len(runs.chosen) > 1:
        mean = states[-1].probabilities.mean(axis=0, keepdims=True)
        scores = states[-1].scores
        scores = None if scores is None else scores.mean(axis=0, keepdims=True)
        name = f"{runs.title}, {ENSEMBLE}"
        states.append(
            MethodPredictions(name=name, probabilities=mean, scores=scores, valid_scores=(), valid_attacks=())
        )
    return states


def _predictions(
    runs: MethodRuns,
    state: str,
    folders: Sequence[RunFolder],
    test: str,
    rows: SplitPredictions,
    classes: Sequence[str],
    benign: str | None,
) -> MethodPredictions:
    at = -1 if benign is None else classes.index(benign)
    probabilities: list[Float64[np.ndarray, "flows classes"]] = []
    scores: list[tuple[Float64[np.ndarray, " _"], ...]] = []
    attacks: list[Bool[np.ndarray, " _"]] = []
    for folder in folders:
        saved = [read_predictions(folder.predictions(split)) for split in (test, "valid")]
        assert saved[0].fingerprint == rows.fingerprint, f"{folder.path}: other rows"
        tested, valid = (read_probabilities(folder.predictions(split), classes) for split in (test, "valid"))
        valid_ids = _true_ids(saved[1], classes)
        if state == CALIBRATED:
            # From validation rows only: no step uses a test row.
            tested, valid = (add_logit_offsets(part, runs.logit_offsets) for part in (tested, valid))
            # Offsets and class weights shift the classes on purpose; a richer scaling would undo that.
            methods = METHODS[:2] if runs.reweights_classes or runs.logit_offsets.any() else METHODS
            scaling = choose_scaling(_logs(valid), valid_ids, methods=methods, seed=0)
            tested, valid = (softmax(scaling.apply(_logs(part))) for part in (tested, valid))
        probabilities.append(tested)
        scores.append(
            tuple(
                split.scores if split.is_joined and split.scores is not None else 1 - part[:, at]
                for split, part in zip(saved, (tested, valid), strict=True)
            )
        )
        attacks.append(valid_ids != at)
    return MethodPredictions(
        name=f"{runs.title}, {state}",
        probabilities=np.stack(probabilities),
        scores=None if benign is None else np.stack([tested for tested, _ in scores]),
        valid_scores=tuple(valid for _, valid in scores),
        valid_attacks=tuple(attacks),
    )


def _compare(
    name: str,
    rows: SplitPredictions,
    all_predictions: Sequence[MethodPredictions],
    classes: Sequence[str],
    benign: str | None,
    run: RunConfig,
) -> tuple[SplitComparison, list[str]]:
    names = [*classes, *sorted(set(rows.true) - set(classes))]
    labelled = as_labelled_rows(rows, names, benign)
    contenders = [
        Predictions(
            name=candidate.name,
            predicted=candidate.probabilities.argmax(axis=2).astype(np.int64),
            scores=candidate.scores,
        )
        for candidate in all_predictions
    ]
    states = [state for state in (CALIBRATED, ENSEMBLE) if all_predictions[0].name.startswith(f"{RECIPE}, ")]
    having = {candidate.name for candidate in all_predictions}
    titles = dict.fromkeys(candidate.name.partition(", ")[0] for candidate in all_predictions)
    pairs = [
        (f"{RECIPE}, {state}", f"{title}, {state}")
        for state in states
        for title in titles
        if title != RECIPE and {f"{RECIPE}, {state}", f"{title}, {state}"} <= having
    ]
    metrics = dict.fromkeys([run.evaluation.primary_metric, TPR_AT_1PCT_FPR])
    split = compare_methods(
        name,
        labelled,
        contenders,
        tuple(metrics),
        classes=names,
        pairs=pairs,
        num_resamples=run.evaluation.num_resamples,
    )
    few = few_classes(labelled, names)
    note = f"On {name}, classes with fewer than {FEW_FLOWS} rows, with unreliable metrics: {', '.join(few)}."
    return split, [note] if few else []


def few_classes(labelled: LabelledRows, names: Sequence[str]) -> list[str]:
    """Classes with some rows, but fewer than `FEW_FLOWS`."""
    counts = np.bincount(labelled.true_ids, minlength=len(names))
    return [
        f"{name} ({count})"
        for name, count in zip(names, counts.tolist(), strict=True)
        if 0 < count < FEW_FLOWS
    ]


def few_facts(
    name: str, rows: SplitPredictions, candidate: MethodPredictions, classes: Sequence[str]
) -> dict[str, str]:
    """Macro F1 over the classes with enough rows, if there are classes with too few."""
    names = [*classes, *sorted(set(rows.true) - set(classes))]
    true_ids = _true_ids(rows, names)
    counts = np.bincount(true_ids, minlength=len(names))
    if not ((counts > 0) & (counts < FEW_FLOWS)).any():
        return {}
    predicted = candidate.probabilities.argmax(axis=2).astype(np.int64)
    matrices = np.stack([confusion_matrix(true_ids, own, len(names)) for own in predicted]).astype(np.float64)
    f1 = class_metrics(matrices)["f1"][:, counts >= FEW_FLOWS].mean(axis=1)
    return {f"{name}: macro F1 without classes below {FEW_FLOWS} rows": f"{f1.mean():.3f}"}


def point_facts(
    name: str,
    rows: SplitPredictions,
    candidate: MethodPredictions,
    classes: Sequence[str],
    benign: str | None,
) -> dict[str, str]:
    """Calibration error, and test FPR and detection rate of the threshold for 1 % FPR on validation rows."""
    true_ids = _true_ids(rows, [*classes, *sorted(set(rows.true) - set(classes))])
    errors = [
        calibration_error(seed.max(axis=1), seed.argmax(axis=1) == true_ids)
        for seed in candidate.probabilities
    ]
    facts = {f"{name}: calibration error": f"{np.mean(errors):.3f}"}
    if (
        benign is None
        or candidate.scores is None
        or not candidate.valid_scores
        or not all((~is_attack).any() for is_attack in candidate.valid_attacks)
    ):
        return facts
    benign_id = classes.index(benign)
    points = [
        threshold_metrics(tested, true_ids != benign_id, fit_threshold(scores, is_attack, TPR_TARGET_FPR))
        for tested, scores, is_attack in zip(
            candidate.scores, candidate.valid_scores, candidate.valid_attacks, strict=True
        )
    ]
    pairs = [(point.fpr, point.tpr) for point in points]
    rates = np.array([pair for pair in pairs if None not in pair], dtype=np.float64).reshape(-1, 2)
    if len(rates):
        rate, detection = rates.mean(axis=0)
        facts[f"{name}: threshold for 1 % on validation"] = (
            f"{rate:.2%} false positives, detection rate {detection:.3f}"
        )
    return facts


def _maps(rows: SplitPredictions, label_map: Mapping[str, str]) -> list[tuple[SplitPredictions, str]]:
    """The rows under their class map, and under the second class map if there is one."""
    if not label_map.keys() & set(rows.labels):
        return [(rows, "")]
    true = tuple(label_map.get(label, own) for label, own in zip(rows.labels, rows.true, strict=True))
    words = ", ".join(f"{label} as {name}" for label, name in label_map.items())
    return [(rows, ""), (replace(rows, true=true), f" ({words})")]


def _true_ids(rows: SplitPredictions, names: Sequence[str]) -> Int64[np.ndarray, " flows"]:
    return np.array([names.index(true) for true in rows.true], dtype=np.int64)[rows.label_ids]


def _logs(probabilities: Float64[np.ndarray, "flows classes"]) -> Float64[np.ndarray, "flows classes"]:
    return np.log(probabilities.clip(_SMALLEST))


def _choice_facts(out: Path, runs: MethodRuns) -> dict[str, str]:
    facts = {"logit offsets": ", ".join(f"{value:+.2f}" for value in runs.logit_offsets)}
    results = [folder.path / "result.json" for folder in runs.chosen]
    fits = [read_result(path) for path in results if path.exists()]
    if fits:
        params = cast(Mapping[str, object], fits[0]["params"])
        facts["chosen settings"] = ", ".join(f"{key}={value}" for key, value in params.items()) or "defaults"
        facts["training (s)"] = f"{np.mean([result['fit_s'] for result in fits]):,.1f}"
        facts["scored rows/s"] = f"{np.mean([result['rows_per_s'] for result in fits]):,.0f}"
    else:
        reports = [read_json(folder.report_json) for folder in runs.chosen]
        facts["chosen settings"] = "the recipe's"
        facts["training (s)"] = f"{np.mean([report.timing.get('training', 0.0) for report in reports]):,.1f}"
    path = out / "choices" / f"{runs.name}.json"
    choice = read_result(path) if path.exists() else {}
    if "params" in choice:
        scores = choice["scores"]
        facts["trials"] = f"{len(scores)} (held-out score: best {max(scores):.3f}, defaults {scores[0]:.3f})"
    elif choice:
        facts["trials"] = f"none, fixed recipe (held-out score: {np.mean(choice['scores']):.3f})"
    return facts


def _choice_notes(out: Path) -> list[str]:
    """Notes on how choices were made, and the hash of the recipe."""
    paths = sorted((out / "choices").glob("*.json"))
    folds = {read_result(path)["folds"] for path in paths}
    recipe = hashlib.sha256((out / "recipe.toml").read_bytes()).hexdigest()
    notes = [
        f"Choices were made on folds of the training file: {'; '.join(sorted(folds))}. "
        f"Recipe sha256 {recipe}."
    ]
    cut = read_result(out / TRIALS)
    if cut["finished"] < cut["planned"]:
        notes.append(f"--minutes cut every method to {cut['finished']} of {cut['planned']} trials.")
    return notes


def _file_usage(out: Path, first: RunFolder, tests: Sequence[str]) -> dict[str, FileUsage]:
    if not first.report_json.exists():
        return {}
    reads = read_ledger(out / "jobs" / "test_reads.jsonl")
    usage = read_json(first.report_json).data.test_usage
    return {
        name: FileUsage(usage[name].sha256, *num_reads(reads, usage[name].sha256))
        for name in tests
        if name in usage
    }


def _train_overlap_notes(all_runs: Sequence[MethodRuns], tests: Sequence[str]) -> list[str]:
    """Notes with metrics of the recipe on rows whose tokens occur in training, and on all others."""
    reports = [
        read_json(folder.report_json) for runs in all_runs if runs.name == RECIPE for folder in runs.chosen
    ]
    notes: list[str] = []
    for test in tests:
        subsets = [
            split.train_overlap
            for report in reports
            if (split := report.splits[test]).train_overlap is not None
        ]
        if subsets:
            seen, unseen = [one.seen for one in subsets], [one.unseen for one in subsets]
            notes.append(
                f"On {test}, {RECIPE} with default settings: {_mean_metrics(seen)} on the "
                f"{seen[0].num_flows:,} rows whose tokens occur in training, {_mean_metrics(unseen)} on the "
                f"other {unseen[0].num_flows:,}."
            )
    return notes


def _mean_metrics(subsets: Sequence[SubsetMetrics]) -> str:
    accuracy, macro = (np.mean([getattr(one, key) for one in subsets]) for key in ("accuracy", "macro_f1"))
    return f"accuracy {accuracy:.3f}, macro F1 {macro:.3f}"


def as_markdown(comparison: Comparison) -> str:
    """The tables as Markdown, for a page of results."""
    blocks: list[str] = []
    for split in comparison.splits:
        (_, *titles), rows = estimate_cells(split, comparison.primary)
        cells = [[cell.partition("\n")[0] for cell in row] for row in rows]  # without intervals
        blocks.append(markdown([split.name, *titles], cells))
    return "\n\n".join(blocks) + "\n"
