"""How far a student is from its teacher: both evaluated on the same flows, and their difference resampled
together."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from wirebert.metrics.intervals import Interval
from wirebert.metrics.significance import LabelledRows, paired_metrics, percentile_interval, resample


@dataclass(frozen=True, kw_only=True, slots=True)
class PairedMetric:
    """A metric in [0, 1] of both."""

    student: float
    teacher: float
    rows: Interval | None = None
    """95 % interval of the difference, flows drawn one by one; None for an empty split."""
    clusters: Interval | None = None
    """The same with attack names drawn whole, where classes hold several of them."""

    @property
    def difference(self) -> float:
        """What the student has more; negative where the teacher is better."""
        return self.student - self.teacher


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitGap:
    """Student and teacher on one evaluated split."""

    num_flows: int
    """Flows with a label."""
    agreement: float | None
    """Share of the flows that both put into the same class; None for an empty split."""
    metrics: Mapping[str, PairedMetric]
    """Headline metric -> its values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeacherGap:
    """Student and teacher on every evaluated split."""

    teacher: str
    """Model folder, as it was named."""
    teacher_parameters: int
    num_unlabelled: int
    """Training flows that the teacher alone said something about."""
    is_fresh: bool
    """Whether the teacher is known to have been trained without the validation flows: on this file, by this
    split."""
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
    """The comparison on one split; `student` and `teacher` are the classes that they say."""
    predicted = np.stack([student, teacher])
    if not len(student):
        return SplitGap(num_flows=0, agreement=None, metrics={})
    plain = paired_metrics(labelled, predicted)
    drawn = {
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
                **{way: percentile_interval(found[name][0] - found[name][1]) for way, found in drawn.items()},
            )
            for name, (ours, theirs) in plain.items()
        },
    )


def gap_rows(gap: SplitGap, names: Mapping[str, str]) -> list[tuple[str, str, str, str, str]]:
    """A table of the split for people; `names` are the metrics to show, with their names."""
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
    """What the table of a split does not say by itself."""
    own = gap.splits[split]
    if own.agreement is None:
        return []
    lines = [f"Student and teacher put {own.agreement:.2%} of the flows into the same class."]
    macro = own.metrics.get("macro_f1")
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
