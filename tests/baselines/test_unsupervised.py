import numpy as np
import pytest

from wirebert.baselines.unsupervised import UNSUPERVISED, fit_copod, fit_ecod


def training() -> np.ndarray:
    rng = np.random.default_rng(0)
    skewed = rng.exponential(size=(400, 2))
    return np.concatenate([skewed, -skewed[:, :1], rng.integers(0, 3, (400, 1))], axis=1).astype(np.float32)


def tails(points: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Minus log of the fraction as low, and as high, in each dimension: among the flows and this one."""
    together = np.vstack([points, flow])
    return -np.log(np.stack([(together <= flow).mean(axis=0), (together >= flow).mean(axis=0)]))


def test_tails_are_those_that_the_papers_count() -> None:
    points, flows = training(), training()[:50] * 1.5
    skew = ((points - points.mean(axis=0)) ** 3).mean(axis=0)
    ecod, copod = fit_ecod(points, 0)(flows), fit_copod(points, 0)(flows)
    for row, flow in enumerate(flows):
        left, right = tails(points, flow)
        towards = np.where(skew < 0, left, right)
        assert ecod[row] == pytest.approx(np.maximum(left, right).sum())
        assert copod[row] == pytest.approx(np.maximum(towards, (left + right) / 2).sum())


@pytest.mark.parametrize("name", UNSUPERVISED)
def test_what_lies_far_out_scores_higher_and_a_seed_decides_all(name: str) -> None:
    points = training()
    score = UNSUPERVISED[name].fit(points, 1)
    assert score(points[:100] * 6).mean() > score(points[:100]).mean()
    np.testing.assert_array_equal(score(points[:20]), UNSUPERVISED[name].fit(points, 1)(points[:20]))
