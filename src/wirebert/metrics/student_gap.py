"""The gap between student and teacher: both on the same flows, with intervals of the paired difference."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wirebert.metrics.intervals import Interval, percentile_interval
from wirebert.metrics.significance import LabelledRows, paired_metrics, resample
from wirebert.shapes import Int64


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedMetric:
    """A metric in [0, 1] of student and teacher."""

    student: float
    teacher: float
    rows: Interval | None = None
    """95 % CI of the difference, flows resampled; None for an empty split."""
    clusters: Interval | None = None
    """The same with attack names resampled, if classes have several of them."""

    @property
    def difference(self) -> float:
        """Student minus teacher; negative if the teacher is better."""
        return self.student - self.teacher


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitGap:
    """Student and teacher on one evaluated split."""

    num_flows: int
    """Number of labelled flows."""
    agreement: float | None
    """Fraction of the flows with the same predicted class; None for an empty split."""
    metrics: Mapping[str, PairedMetric]
    """Headline metric -> its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherGap:
    """Student and teacher on every evaluated split."""

    teacher: str
    """Model folder as given by the user."""
    teacher_parameters: int
    num_unlabelled: int
    """Number of training flows labelled by the teacher's predictions only."""
    is_fresh: bool
    """Whether the teacher certainly did not train on the validation flows: same file, same split."""
    splits: Mapping[str, SplitGap]


GAP_HEAD = ("metric", "student", "teacher", "difference", "95 % interval")
"""Names of the columns of `gap_rows`."""


def split_gap(
    labelled: LabelledRows,
    student: Int64[np.ndarray, " flows"],
    teacher: Int64[np.ndarray, " flows"],
    *,
    seed: int,
    num_resamples: int,
) -> SplitGap:
    """The comparison on one split; `student` and `teacher` are their predicted classes."""
    predicted = np.stack([student, teacher])
    if not len(student):
        return SplitGap(num_flows=0, agreement=None, metrics={})
    plain = paired_metrics(labelled, predicted)
    draws = {
        way: resample(
            labelled, predicted, by_cluster=way == "clusters", seed=seed, num_resamples=num_resamples
        )
        for way in ("rows", "clusters")
        if way == "rows" or labelled.has_clusters
    }
    return SplitGap(
        num_flows=len(student),
        agreement=float(np.mean(student == teacher)),
        metrics={
            name: PairedMetric(
                student=float(ours),
                teacher=float(theirs),
                **{way: percentile_interval(drawn[name][0] - drawn[name][1]) for way, drawn in draws.items()},
            )
            for name, (ours, theirs) in plain.items()
        },
    )


def gap_rows(gap: SplitGap, names: Mapping[str, str]) -> list[tuple[str, str, str, str, str]]:
    """The table of one split; `names` maps each metric to show to its title."""
    shown = [(names[name], own) for name, own in gap.metrics.items() if name in names]
    return [
        (
            title,
            f"{own.student:.3f}",
            f"{own.teacher:.3f}",
            f"{own.difference:+.3f}",
            "-" if own.rows is None else f"[{own.rows[0]:+.3f}, {own.rows[1]:+.3f}]",
        )
        for title, own in shown
    ]


def gap_remarks(gap: TeacherGap, split: str) -> list[str]:
    """Remarks for the table of a split."""
    split_gap = gap.splits[split]
    if split_gap.agreement is None:
        return []
    lines = [f"Student and teacher put {split_gap.agreement:.2%} of the flows into the same class."]
    macro = split_gap.metrics.get("macro_f1")
    if macro is not None and macro.clusters is not None:
        low, high = macro.clusters
        lines.append(
            f"Resampling attack names instead of flows, the difference in macro F1 is in "
            f"[{low:+.3f}, {high:+.3f}]."
        )
    if split == "valid" and not gap.is_fresh:
        lines.append(
            "The teacher was trained on another file or with another split: it may have seen these flows in "
            "training."
        )
    return lines
