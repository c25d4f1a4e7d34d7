"""What context adds: the figures of one training beside those of the same training without the columns of context."""

from collections.abc import Mapping
from dataclasses import dataclass

from wirebert.evaluation.intervals import Interval
from wirebert.evaluation.metrics import SplitMetrics


@dataclass(frozen=True, kw_only=True, slots=True)
class Gain:
    """A figure in [0, 1] with and without context."""

    with_context: float
    without_context: float

    @property
    def difference(self) -> float:
        """What context adds; negative where it takes away."""
        return self.with_context - self.without_context


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitGain:
    """What context adds on one evaluated split."""

    macro_f1: Gain
    intervals: tuple[Interval, Interval] | None
    """Of macro F1 with and without, each by itself; None for an empty split."""
    attack_macro_f1: Gain | None
    """Mean F1 of the attacks that occur; None where there are none, or no class means benign."""
    per_class: Mapping[str, Gain]
    """F1 of each class that occurs."""
    num_flows: Mapping[str, int]
    """Flows of each of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextGain:
    """What context adds, on every evaluated split."""

    columns: tuple[str, ...]
    """The columns that one model saw and the other did not."""
    splits: Mapping[str, SplitGain]


def context_gain(
    columns: tuple[str, ...],
    with_context: Mapping[str, SplitMetrics],
    without_context: Mapping[str, SplitMetrics],
    benign: str | None,
) -> ContextGain:
    """The section of a report; both trainings are judged on the same flows."""
    return ContextGain(
        columns=columns,
        splits={
            name: _split_gain(ours, without_context[name], benign) for name, ours in with_context.items()
        },
    )


def gain_rows(gain: SplitGain) -> list[tuple[str, str, str, str, str]]:
    """A table of the split for people: name, flows, F1 with and without context, gain; classes, then the means."""
    rows = [(name, f"{gain.num_flows[name]:,}", *_texts(figure)) for name, figure in gain.per_class.items()]
    means = {"macro F1": gain.macro_f1, "attacks alone": gain.attack_macro_f1}
    return [*rows, *((name, "", *_texts(figure)) for name, figure in means.items() if figure is not None)]


def gain_remarks(gain: SplitGain) -> list[str]:
    """What the table of a split does not say by itself."""
    if gain.intervals is None:
        return []
    ours, theirs = (f"[{low:.3f}, {high:.3f}]" for low, high in gain.intervals)
    return [f"Macro F1 is in {ours} with context and in {theirs} without (95% each, flows drawn one by one)."]


GAIN_HEAD = ("class", "flows", "F1 with", "F1 without", "gain")
"""Names of the columns of `gain_rows`."""

GAIN_NOTE = (
    "This model beside a second one, trained on the same flows with the same settings, but without the columns that say "
    "what a flow's hosts did before it."
)
"""What is compared, for people."""


def _split_gain(ours: SplitMetrics, theirs: SplitMetrics, benign: str | None) -> SplitGain:
    names = [name for name, figures in ours.per_class.items() if figures.support]
    per_class = {
        name: Gain(with_context=ours.per_class[name].f1, without_context=theirs.per_class[name].f1)
        for name in names
    }
    attacks = [figure for name, figure in per_class.items() if name != benign]
    intervals = None
    if ours.intervals is not None and theirs.intervals is not None:
        intervals = (ours.intervals.rows["macro_f1"], theirs.intervals.rows["macro_f1"])
    return SplitGain(
        macro_f1=Gain(with_context=ours.macro_f1, without_context=theirs.macro_f1),
        intervals=intervals,
        attack_macro_f1=_mean(attacks) if benign is not None and attacks else None,
        per_class=per_class,
        num_flows={name: ours.per_class[name].support for name in names},
    )


def _mean(gains: list[Gain]) -> Gain:
    return Gain(
        with_context=sum(gain.with_context for gain in gains) / len(gains),
        without_context=sum(gain.without_context for gain in gains) / len(gains),
    )


def _texts(gain: Gain) -> tuple[str, str, str]:
    return f"{gain.with_context:.3f}", f"{gain.without_context:.3f}", f"{gain.difference:+.3f}"
