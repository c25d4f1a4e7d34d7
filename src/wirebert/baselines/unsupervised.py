"""Detectors that learn without labels: how far a flow lies from the training flows.

All read the same points (`ColumnSpace`): standardised logarithms of numbers, one-hot categories.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
import torch
from sklearn.ensemble import IsolationForest
from torch import Tensor, nn

from wirebert.decision.novelty import Neighbours
from wirebert.shapes import Float, Float32, Float64

NUM_EPOCHS: Final = 30
_BATCH: Final = 256
_ROWS_AT_ONCE: Final = 4_096
_WIDTHS: Final = (64, 32)
"""Hidden layers of both networks, as in PyOD."""

Points = Float32[np.ndarray, "flows dims"]
ScorePoints = Callable[[Points], Float64[np.ndarray, " flows"]]
"""The higher, the less like training."""


@dataclass(frozen=True, slots=True)
class UnsupervisedMethod:
    """A detector without labels."""

    title: str
    fit: Callable[[Points, int], ScorePoints]
    """Training flows and a seed -> its scores."""


def fit_nearest(points: Points, seed: int) -> ScorePoints:
    """Distance to the nearest of all training flows."""
    return Neighbours.fit(points, len(points), seed).distances


def fit_forest_of_isolation(points: Points, seed: int) -> ScorePoints:
    """scikit-learn's isolation forest."""
    forest = IsolationForest(random_state=seed).fit(points)
    return lambda flows: -np.asarray(forest.score_samples(flows), np.float64)


def fit_ecod(points: Points, seed: int) -> ScorePoints:  # noqa: ARG001 -- nothing is drawn
    """ECOD: how far each dimension is in a tail of the training flows, summed.

    Source: Li et al., "ECOD: unsupervised outlier detection using empirical cumulative distribution
    functions", TKDE 2022, as in PyOD 3.6.7.

    NOTE[DIFF]: tails are those of the training flows and the flow itself; PyOD adds all flows of a call.
    """
    tails = Tails(points)
    return lambda flows: tails.scores(flows, np.maximum)


def fit_copod(points: Points, seed: int) -> ScorePoints:  # noqa: ARG001 -- nothing is drawn
    """COPOD: the same, with the mean of both tails instead of the larger one.

    Source: Li et al., "COPOD: copula-based outlier detection", ICDM 2020, as in PyOD 3.6.7.
    """
    tails = Tails(points)
    return lambda flows: tails.scores(flows, lambda left, right: (left + right) / 2)


class Tails:
    """Minus log of the fraction of training flows, and the flow itself, as far out in each dimension."""

    def __init__(self, points: Points) -> None:
        self._sorted = np.sort(points.astype(np.float64), axis=0)
        centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
        self._skew = np.sign((centred**3).mean(axis=0)) * (points.std(axis=0) > 0)

    def scores(
        self,
        flows: Points,
        join: Callable[[np.ndarray, np.ndarray], np.ndarray],
    ) -> Float64[np.ndarray, " flows"]:
        """The larger of the tail that the skew points to and of both tails joined, summed."""
        num_known, total = len(self._sorted), np.zeros(len(flows))
        for column, known, skew in zip(flows.T.astype(np.float64), self._sorted.T, self._skew, strict=True):
            below = np.searchsorted(known, column, side="right")
            above = num_known - np.searchsorted(known, column, side="left")
            left, right = (-np.log((count + 1) / (num_known + 1)) for count in (below, above))
            total += np.maximum(left * (skew <= 0) + right * (skew >= 0), join(left, right))
        return total


def fit_autoencoder(points: Points, seed: int) -> ScorePoints:
    """Reconstruction error of a network with a narrow middle."""
    dims = points.shape[1]
    sizes = (dims, *_WIDTHS, *_WIDTHS[-2::-1], dims)

    def error(model: nn.Module, flows: Tensor) -> Tensor:
        return (model(flows) - flows).square().sum(dim=1)

    return _train(sizes, points, seed, lambda _: error, bias=True)


def fit_deep_svdd(points: Points, seed: int) -> ScorePoints:
    """Distance from the centre to which a network without biases draws the training flows.

    Source: Ruff et al., "Deep one-class classification", ICML 2018, section 3.
    """

    def distance_from(start: nn.Module) -> Callable[[nn.Module, Tensor], Tensor]:
        with torch.inference_mode():
            centre = start(torch.from_numpy(points)).mean(dim=0)
        centre = torch.where(centre.abs() < 0.1, torch.where(centre < 0, -0.1, 0.1), centre).clone()
        return lambda model, flows: (model(flows) - centre).square().sum(dim=1)

    return _train((points.shape[1], *_WIDTHS), points, seed, distance_from, bias=False)


def _train(
    sizes: tuple[int, ...],
    points: Points,
    seed: int,
    loss_for: Callable[[nn.Module], Callable[[nn.Module, Tensor], Tensor]],
    *,
    bias: bool,
) -> ScorePoints:
    """A perceptron whose loss of each flow is its score."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for wide, narrow in pairwise(sizes):
            layers += [nn.Linear(wide, narrow, bias=bias), nn.ReLU()]
        model = nn.Sequential(*layers[:-1])
    loss = loss_for(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-6)
    train = torch.from_numpy(points)
    for _ in range(NUM_EPOCHS):
        for rows in torch.randperm(len(train), generator=generator).split(_BATCH):
            optimizer.zero_grad()
            loss(model, train[rows]).mean().backward()
            optimizer.step()

    def scores(flows: Float[np.ndarray, "flows dims"]) -> Float64[np.ndarray, " flows"]:
        with torch.inference_mode():
            parts = [loss(model, part) for part in torch.from_numpy(flows).split(_ROWS_AT_ONCE)]
        return torch.cat(parts).double().numpy()

    return scores


UNSUPERVISED: Final[Mapping[str, UnsupervisedMethod]] = {
    "nearest": UnsupervisedMethod("nearest training flow", fit_nearest),
    "ecod": UnsupervisedMethod("ECOD", fit_ecod),
    "copod": UnsupervisedMethod("COPOD", fit_copod),
    "isolation_forest": UnsupervisedMethod("isolation forest", fit_forest_of_isolation),
    "autoencoder": UnsupervisedMethod("autoencoder", fit_autoencoder),
    "deep_svdd": UnsupervisedMethod("deep SVDD", fit_deep_svdd),
}
