"""The summary and the caveats of a report, in sentences."""

from collections.abc import Mapping

from wirebert.metrics.intervals import Interval
from wirebert.metrics.reliability import Reliability
from wirebert.metrics.split_metrics import BinaryMetrics, SplitMetrics
from wirebert.plurals import counted
from wirebert.report.report import GBDT, Report

SHIFT = (
    "The threshold was fitted on validation flows, and no validation covers a shift of the traffic: set it "
    "on later traffic of your own with `wirebert calibrate`."
)
FEW_FLOWS = 50
"""Metrics of a class with fewer flows in a split are unreliable."""


def summarize(report: Report) -> list[str]:
    """Two to five sentences on the last split, which is the most independent of training; none without
    splits."""
    if not report.splits:
        return []
    name, metrics = list(report.splits.items())[-1]
    sentences = [*_deployed(name, metrics), _headline(name, metrics)]
    trees = report.trees(name)
    if trees is not None:
        sentences.append(_versus_trees(trees, report.baselines[GBDT].differences.get(name, {})))
    sentences += _weak_classes(metrics)
    return sentences


def caveats(report: Report) -> list[str]:
    """Reasons why metrics of the last split may not hold elsewhere; none without splits."""
    if not report.splits:
        return []
    name, metrics = list(report.splits.items())[-1]
    sentences: list[str] = []
    if metrics.deployed is not None:
        sentences.append(SHIFT)
    if metrics.intervals and metrics.intervals.clusters:
        low, high = metrics.intervals.clusters["macro_f1"]
        sentences.append(
            f"With other attacks of the same kinds, macro F1 could lie anywhere from {low:.3f} to {high:.3f} "
            f"(95 % bootstrap CI over {metrics.intervals.num_clusters} attack names)."
        )
    if metrics.train_overlap is not None and metrics.num_flows:
        seen, unseen = metrics.train_overlap.seen, metrics.train_overlap.unseen
        sentences.append(
            f"{_percent(seen.num_flows / metrics.num_flows, 1)} of the flows are identical to a training "
            "flow after "
            f"tokenisation; on the others accuracy is {_percent(unseen.accuracy, 1)} and macro F1 "
            f"{unseen.macro_f1:.3f}."
        )
    if metrics.calibration is not None:
        sentences.append(_confidence(metrics.calibration.verdict, metrics.accuracy))
    return sentences + _low_prevalence(metrics) + _data_caveats(report, name)


def _confidence(diagram: Reliability, accuracy: float) -> str:
    total = sum(part.num_flows for part in diagram.bins)
    confidence = sum(part.num_flows * part.probability for part in diagram.bins) / max(1, total)
    outcome = (
        "Overconfident"
        if confidence > accuracy + 0.02
        else "Underconfident"
        if confidence < accuracy - 0.02
        else "Well calibrated"
    )
    return f"{outcome}: mean confidence {_percent(confidence, 1)}, accuracy {_percent(accuracy, 1)}."


def _low_prevalence(metrics: SplitMetrics) -> list[str]:
    point = next((point for point in metrics.operating_points if point.target_fpr == 0.01), None)
    precision = point.precision_at_prevalence.get("0.001") if point is not None else None
    if precision is None:
        return []
    return [
        f"Where one flow in a thousand is an attack, {_percent(1 - precision, 0)} of the alerts would be "
        "false positives "
        "at the threshold for a target FPR of 1 %."
    ]


def _data_caveats(report: Report, name: str) -> list[str]:
    sentences: list[str] = []
    findings = [finding for finding in report.data.findings if not finding.is_accepted]
    counts = {kind: sum(finding.severity == kind for finding in findings) for kind in ("error", "warning")}
    if any(counts.values()):
        listed = " and ".join(counted(count, kind) for kind, count in counts.items() if count)
        sentences.append(f"Data checks raised {listed} (see Data).")
    usage = report.data.test_usage.get(name)
    if usage is not None and usage.num_reads > 1:
        sets = counted(usage.num_settings, "set")
        sentences.append(
            f"The runs in this folder used the test file {usage.num_reads} times, for {sets} of settings. "
            "Repeated use makes test results optimistic."
        )
    return sentences


def compare_with_baseline(difference: Interval) -> str:
    """ "above", "below", or "level" where the interval of the difference holds 0.

    >>> compare_with_baseline((0.01, 0.2)), compare_with_baseline((-0.1, 0.2))
    ('above', 'level')
    """
    if difference[0] > 0:
        return "above"
    return "below" if difference[1] < 0 else "level"


def _headline(name: str, metrics: SplitMetrics) -> str:
    largest = max((row.support for row in metrics.per_class.values()), default=0)
    majority = largest / max(1, metrics.num_flows)
    return (
        f"On {name} ({metrics.num_flows:,} flows) accuracy is {_percent(metrics.accuracy, 1)} and macro F1 "
        f"{metrics.macro_f1:.3f}; always predicting the largest class would reach an accuracy of "
        f"{_percent(majority, 1)}."
    )


def _versus_trees(trees: SplitMetrics, differences: Mapping[str, Interval]) -> str:
    scores = f"accuracy {_percent(trees.accuracy, 1)}, macro F1 {trees.macro_f1:.3f}"
    if "macro_f1" not in differences:
        return f"Boosted trees on the same rows: {scores}."
    low, high = differences["macro_f1"]
    words = {
        "above": "Macro F1 is higher than that of boosted trees on the same rows",
        "below": "Macro F1 is lower than that of boosted trees on the same rows",
        "level": "No significant difference from boosted trees on the same rows in macro F1",
    }
    return (
        f"{words[compare_with_baseline((low, high))]}: the difference is in [{low:+.3f}, {high:+.3f}] "
        f"(paired bootstrap over flows; trees: {scores})."
    )


def _deployed(name: str, metrics: SplitMetrics) -> list[str]:
    """What the verdicts of the model as stored are worth; without a stored threshold, of the classes."""
    point = metrics.deployed
    if point is None:
        return [] if metrics.binary is None else [_by_classes(metrics.binary)]
    target = f"{100 * point.target_fpr:.3g} %"
    found = "" if point.tpr is None else f" and detects {_percent(point.tpr, 1)} of the attacks"
    if point.fpr is None or point.fpr_interval is None:
        return [f"At its stored threshold (target FPR {target}), on {name} it has no benign flows{found}."]
    low, high = point.fpr_interval
    held = (
        f"off the target of {target}"
        if point.is_off_target
        else f"the target of {target} is inside the interval"
    )
    return [
        f"At its stored threshold, on {name} it raises an alert on {_percent(point.fpr, 2)} of the benign "
        f"flows (95 % CI {_percent(low, 2)} to {_percent(high, 2)}: {held}){found}."
    ]


def _by_classes(binary: BinaryMetrics) -> str:
    return (
        f"By its classes it detects {_percent(binary.recall, 1)} of the attacks, with false positives on "
        f"{_percent(binary.false_positive_rate, 2)} of the benign flows."
    )


def _weak_classes(metrics: SplitMetrics) -> list[str]:
    present = {name: row for name, row in metrics.per_class.items() if row.support}
    sentences: list[str] = []
    if len(present) > 1:
        name = min(present, key=lambda label: present[label].recall)
        sentences.append(
            f"Weakest class: {name}, with a recall of {_percent(present[name].recall, 1)} "
            f"({present[name].support:,} flows)."
        )
    few = [name for name, row in present.items() if row.support < FEW_FLOWS]
    if few:
        sentences.append(f"Fewer than {FEW_FLOWS} flows, so metrics are unreliable: {', '.join(few)}.")
    unknown = sum(metrics.classes_not_in_training.values())
    if unknown:
        names = ", ".join(metrics.classes_not_in_training)
        flows = counted(unknown, "flow is of a class", "flows are of classes")
        sentences.append(f"{flows} that training lacks, which counts as wrong: {names}.")
    return sentences


def _percent(fraction: float, digits: int) -> str:
    return f"{100 * fraction:.{digits}f} %"
