"""What a report amounts to, in sentences: the verdict that a reader meets first."""

from wirebert.metrics.intervals import Interval
from wirebert.metrics.reliability import Reliability
from wirebert.metrics.split_metrics import SplitMetrics
from wirebert.report.report import Report

FEW_FLOWS = 50
"""A class with fewer flows in a split has figures that say little."""


def summarize(report: Report) -> list[str]:
    """Two to five sentences on the last split, the one that training saw least of; none where nothing was evaluated."""
    if not report.splits:
        return []
    name, metrics = list(report.splits.items())[-1]
    sentences = [_headline(name, metrics)]
    trees = report.trees(name)
    if trees is not None:
        sentences.append(_against_trees(metrics, trees))
    if metrics.binary is not None:
        sentences.append(_alarms(metrics))
    sentences += _weakest(metrics)
    return sentences


def caveats(report: Report) -> list[str]:
    """What stands between the figures of the last split and what would happen elsewhere; none where nothing was evaluated."""
    if not report.splits:
        return []
    name, metrics = list(report.splits.items())[-1]
    told: list[str] = []
    if metrics.intervals and metrics.intervals.clusters:
        low, high = metrics.intervals.clusters["macro_f1"]
        told.append(
            f"Had it met other attacks of the same kinds, macro F1 could have come out anywhere from {low:.3f} to {high:.3f} "
            f"({metrics.intervals.num_clusters} attack names drawn whole)."
        )
    if metrics.train_overlap is not None and metrics.num_flows:
        seen, unseen = metrics.train_overlap.seen, metrics.train_overlap.unseen
        told.append(
            f"{seen.num_flows / metrics.num_flows:.1%} of the flows look to the model exactly like a training flow; "
            f"on the others accuracy is {unseen.accuracy:.1%} and macro F1 {unseen.macro_f1:.3f}."
        )
    if metrics.calibration is not None:
        told.append(_sureness(metrics.calibration.verdict, metrics.accuracy))
    return told + _rare_attacks(metrics) + _weak_ground(report, name)


def _sureness(diagram: Reliability, accuracy: float) -> str:
    total = sum(part.num_flows for part in diagram.bins)
    said = sum(part.num_flows * part.probability for part in diagram.bins) / max(1, total)
    outcome = (
        "too sure"
        if said > accuracy + 0.02
        else "not sure enough"
        if said < accuracy - 0.02
        else "about right"
    )
    return f"It gives its verdicts {said:.1%} on average, and {accuracy:.1%} of them are right: {outcome}."


def _rare_attacks(metrics: SplitMetrics) -> list[str]:
    point = next((point for point in metrics.operating_points if point.target_fpr == 0.01), None)
    precision = point.precision_at_prevalence.get("0.001") if point is not None else None
    if precision is None:
        return []
    return [
        f"Where one flow in a thousand is an attack, {1 - precision:.0%} of its alerts would be false at the threshold "
        "that aims at 1% false alarms."
    ]


def _weak_ground(report: Report, name: str) -> list[str]:
    told: list[str] = []
    findings = [finding for finding in report.data.findings if not finding.is_accepted]
    counts = {kind: sum(finding.severity == kind for finding in findings) for kind in ("error", "warning")}
    if any(counts.values()):
        listed = " and ".join(f"{count} {kind}{'s' * (count > 1)}" for kind, count in counts.items() if count)
        told.append(f"Validation of the data found {listed}; they stand in the section on the data.")
    judged = report.data.test_usage.get(name)
    if judged is not None and judged.num_reads > 1:
        sets = "1 set" if judged.num_settings == 1 else f"{judged.num_settings} sets"
        told.append(
            f"The runs in this folder opened the test file {judged.num_reads} times, for {sets} of settings: "
            "the more often one looks, the less a good figure says."
        )
    return told


def compare_with_baseline(ours: Interval, theirs: Interval) -> str:
    """ "above", "below", or "level" where the intervals overlap.

    >>> compare_with_baseline((0.5, 0.6), (0.3, 0.4)), compare_with_baseline((0.5, 0.6), (0.55, 0.7))
    ('above', 'level')
    """
    if ours[0] > theirs[1]:
        return "above"
    return "below" if ours[1] < theirs[0] else "level"


def _headline(name: str, metrics: SplitMetrics) -> str:
    largest = max((figures.support for figures in metrics.per_class.values()), default=0)
    guess = largest / max(1, metrics.num_flows)
    return (
        f"On {name} ({metrics.num_flows:,} flows) the detector names the right class for {metrics.accuracy:.1%} of flows, "
        f"with a macro F1 of {metrics.macro_f1:.3f}; always guessing the largest class would be right for {guess:.1%}."
    )


def _against_trees(metrics: SplitMetrics, trees: SplitMetrics) -> str:
    figures = f"(accuracy {trees.accuracy:.1%}, macro F1 {trees.macro_f1:.3f})"
    if metrics.intervals is None or trees.intervals is None:
        return f"Boosted trees on the same rows: {figures}."
    outcome = compare_with_baseline(metrics.intervals.rows["macro_f1"], trees.intervals.rows["macro_f1"])
    words = {
        "above": "In macro F1 it is above boosted trees on the same rows, outside both intervals",
        "below": "In macro F1 it is below boosted trees on the same rows, outside both intervals",
        "level": "In macro F1 it can not be told from boosted trees on the same rows: the intervals overlap",
    }
    return f"{words[outcome]} {figures}."


def _alarms(metrics: SplitMetrics) -> str:
    binary = metrics.binary
    assert binary is not None
    sentence = (
        f"It finds {binary.recall:.1%} of the attacks and raises false alarms on "
        f"{binary.false_positive_rate:.2%} of benign flows"
    )
    at_one_percent = binary.tpr_at_fpr.get("0.01")
    if at_one_percent is None:
        return sentence + "."
    return sentence + f"; held to 1% false alarms, its score finds {at_one_percent:.1%}."


def _weakest(metrics: SplitMetrics) -> list[str]:
    present = {name: figures for name, figures in metrics.per_class.items() if figures.support}
    sentences: list[str] = []
    if len(present) > 1:
        name = min(present, key=lambda label: present[label].recall)
        sentences.append(
            f"Weakest class: {name}, of whose {present[name].support:,} flows {present[name].recall:.1%} are recognised."
        )
    few = [name for name, figures in present.items() if figures.support < FEW_FLOWS]
    if few:
        sentences.append(f"Fewer than {FEW_FLOWS} flows, so take their figures lightly: {', '.join(few)}.")
    unknown = sum(metrics.classes_not_in_training.values())
    if unknown:
        names = ", ".join(metrics.classes_not_in_training)
        sentences.append(
            f"{unknown:,} flows are of classes that training lacks, and count as wrong: {names}."
        )
    return sentences
