"""Several splits of one file as one comparison: what a method does on rows like these, trained on rows like those.

Splits share most of their training rows, and test rows too, so their figures vary less than those of new data would. The
variance is enlarged for that.

Source: Nadeau and Bengio, "Inference for the generalization error", Machine Learning 52, 2003, section 3 (the corrected
resampled t-test).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64
from scipy.stats import t as student

from wirebert.evaluation.comparison import Difference, SplitComparison, Standing, corrected
from wirebert.evaluation.intervals import Interval
from wirebert.evaluation.paired import Contrast


def over_splits(splits: Sequence[SplitComparison], test_share: float) -> SplitComparison:
    """The mean over at least two splits of each figure that all of them have, and of each difference.

    Args:
        test_share: Of the rows that were tested on.
    """
    first, *others = splits
    standings: dict[str, dict[str, Standing]] = {}
    for method, figures in first.standings.items():
        for figure in figures:
            found = [other.standings.get(method, {}).get(figure) for other in splits]
            values = np.array([standing.value for standing in found if standing is not None])
            if len(values) == len(splits):
                mean, std = float(values.mean()), float(values.std(ddof=1))
                intervals = {"splits": corrected_contrast(values, test_share).interval}
                standings.setdefault(method, {})[figure] = Standing(value=mean, std=std, intervals=intervals)
    differences: list[Difference] = []
    for one in first.differences:
        same = [_same(one, other.differences) for other in others]
        values = np.array([one.value, *(found.value for found in same if found is not None)])
        if len(values) == len(splits):
            ways = {"splits": corrected_contrast(values, test_share)}
            differences.append(
                Difference(
                    first=one.first,
                    second=one.second,
                    figure=one.figure,
                    value=float(values.mean()),
                    ways=ways,
                )
            )
    return corrected(
        SplitComparison(
            name=f"{first.name}, {len(splits)} splits",
            num_flows=round(float(np.mean([split.num_flows for split in splits]))),
            num_clusters=0,
            standings=standings,
            differences=tuple(differences),
        )
    )


def corrected_contrast(values: Float64[np.ndarray, " splits"], test_share: float) -> Contrast:
    """95 % interval of the mean of one value per split, and p-value of none, from Student's t distribution.

    >>> corrected_contrast(np.array([0.01, 0.03]), 0.5).p  # t = 0.02 / sqrt((1 / 2 + 1) * 0.0002), one degree of freedom
    0.454...
    """
    if np.ptp(values) == 0:
        value = float(values[0])
        p = float(value == 0)
        return Contrast((value, value), p, p)
    mean, variance = float(values.mean()), float(values.var(ddof=1))
    error = float(np.sqrt((1 / len(values) + test_share / (1 - test_share)) * variance))
    freedom = len(values) - 1
    reach = float(student.ppf(0.975, freedom)) * error
    interval: Interval = (mean - reach, mean + reach)
    p = float(2 * student.sf(abs(mean) / error, freedom))
    return Contrast(interval, p, p)


def _same(one: Difference, others: Sequence[Difference]) -> Difference | None:
    def key(difference: Difference) -> tuple[str, str, str]:
        return difference.first, difference.second, difference.figure

    return next((other for other in others if key(other) == key(one)), None)
