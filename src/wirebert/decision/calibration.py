"""Calibrated probabilities: scaling of logits, and class priors that differ from training.

Everything here is a scale and a bias per class logit, so that it can be folded into a model's last layer.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal, get_args

import numpy as np

from wirebert.shapes import Float, Float64, Int64

Method = Literal["none", "temperature", "biases", "vector"]
METHODS: Final[tuple[Method, ...]] = get_args(Method)
"""From fewest to most parameters: none, one scale, one scale and a bias per class, both per class."""

NUM_FOLDS: Final = 5
_MOST_STEPS: Final = 50
TINY: Final = 1e-300


@dataclass(frozen=True, kw_only=True, slots=True)
class LogitScaling:
    """Logit of class c -> `scales[c]` * logit + `biases[c]`."""

    method: Method
    scale: Float64[np.ndarray, " classes"]
    bias: Float64[np.ndarray, " classes"]

    @staticmethod
    def identity(num_classes: int) -> "LogitScaling":
        """The scaling that leaves logits unchanged."""
        return LogitScaling(method="none", scale=np.ones(num_classes), bias=np.zeros(num_classes))

    def apply(self, logits: Float[np.ndarray, "flows classes"]) -> Float64[np.ndarray, "flows classes"]:
        """The scaled logits."""
        return logits * self.scale + self.bias

    def with_prior(
        self, old: Float64[np.ndarray, " classes"], new: Float64[np.ndarray, " classes"]
    ) -> "LogitScaling":
        """The same for traffic with the class priors `new` instead of `old`; a prior of 0 counts as tiny.

        Source: Saerens, Latinne & Decaestecker, "Adjusting the outputs of a classifier to new a priori
        probabilities", Neural Computation 2002, equation 2.4.
        """
        return self.moved(np.log(new.clip(TINY)) - np.log(old.clip(TINY)))

    def moved(self, biases: Float64[np.ndarray, " classes"]) -> "LogitScaling":
        """The same, with these biases added to the scaled logits."""
        return replace(self, bias=self.bias + biases)


def softmax(logits: Float[np.ndarray, "flows classes"]) -> Float64[np.ndarray, "flows classes"]:
    """Probabilities of logits."""
    _, exponents, sums = _exponents(logits.astype(np.float64))
    return exponents / sums[:, None]


def log_losses(
    logits: Float[np.ndarray, "flows classes"], class_ids: Int64[np.ndarray, " flows"]
) -> Float64[np.ndarray, " flows"]:
    """Minus the logarithm of the probability of each flow's class (nats)."""
    wide = logits.astype(np.float64)
    top, _, sums = _exponents(wide)
    return top + np.log(sums) - wide[np.arange(len(wide)), class_ids]


def fit_scaling(
    logits: Float[np.ndarray, "flows classes"], class_ids: Int64[np.ndarray, " flows"], method: Method
) -> LogitScaling:
    """The scaling with the least log-loss on these flows; the identity without flows.

    Newton's method on a convex loss. A penalty worth one flow pulls scales to 1 and biases to 0, so that a
    class without a flow here is not scaled away.

    Source: Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2 (temperature and
    vector scaling); Alexandari et al., "Maximum likelihood with bias-corrected calibration is hard-to-beat at
    label shift adaptation", ICML 2020 (temperature with biases).

    NOTE[DIFF]: the papers have no such penalty.
    """
    num_classes = logits.shape[1]
    free = _free_directions(method, num_classes)
    if not free.size or not len(logits):
        return replace(LogitScaling.identity(num_classes), method=method)
    start = np.concatenate([np.ones(num_classes), np.zeros(num_classes)])
    moved = np.zeros(free.shape[1])
    wide = logits.astype(np.float64)
    loss, gradient, curvature = _penalised(wide, class_ids, free, start, moved)
    for _ in range(_MOST_STEPS):
        step = np.linalg.solve(curvature, gradient)
        if gradient @ step < 1e-12:
            break
        length = 1.0
        while length > 1e-6:
            tried = _penalised(wide, class_ids, free, start, moved - length * step)
            if tried[0] <= loss - 1e-4 * length * float(gradient @ step):
                break
            length /= 2
        else:
            break
        moved = moved - length * step
        loss, gradient, curvature = tried
    scales, biases = np.split(start + free @ moved, 2)
    return LogitScaling(method=method, scale=scales, bias=biases)


def choose_scaling(
    logits: Float[np.ndarray, "flows classes"],
    class_ids: Int64[np.ndarray, " flows"],
    *,
    methods: tuple[Method, ...] = METHODS,
    seed: int,
) -> LogitScaling:
    """The simplest of `methods` that no richer one clearly beats in cross-validation, fitted on all flows.

    A richer method must win by more than two standard errors of the difference. It always fits its own flows
    better, so only flows that it was not fitted on count.
    """
    fold = np.random.default_rng(seed).permutation(len(logits)) % NUM_FOLDS
    best, best_losses = methods[0], held_out_losses(logits, class_ids, methods[0], fold)
    for method in methods[1:]:
        losses = held_out_losses(logits, class_ids, method, fold)
        gain = best_losses - losses
        if len(gain) > 1 and gain.mean() > 2 * gain.std(ddof=1) / np.sqrt(len(gain)):
            best, best_losses = method, losses
    return fit_scaling(logits, class_ids, best)


def held_out_losses(
    logits: Float[np.ndarray, "flows classes"],
    class_ids: Int64[np.ndarray, " flows"],
    method: Method,
    fold: Int64[np.ndarray, " flows"],
) -> Float64[np.ndarray, " flows"]:
    """Log-loss of each flow under the scaling fitted on the flows of all other folds."""
    losses = np.zeros(len(logits))
    for fold_id in np.unique(fold):
        is_out = fold == fold_id
        scaling = fit_scaling(logits[~is_out], class_ids[~is_out], method)
        losses[is_out] = log_losses(scaling.apply(logits[is_out]), class_ids[is_out])
    return losses


def priors_by_likelihood(
    probabilities: Float[np.ndarray, "flows classes"],
    trained: Float64[np.ndarray, " classes"],
    *,
    num_steps: int = 1000,
    tolerance: float = 1e-7,
) -> Float64[np.ndarray, " classes"]:
    """Class priors of unlabelled traffic: the most likely ones given calibrated probabilities, by EM.

    Valid only if flows of a class look as they did in training, and no class is new.

    Args:
        trained: The class priors that the probabilities assume.

    Source: Saerens et al., Neural Computation 2002, equations 2.9.
    """
    shares = trained.copy()
    for _ in range(num_steps):
        weighed = probabilities * (shares / trained.clip(TINY))
        updated = (weighed / weighed.sum(axis=1, keepdims=True).clip(TINY)).mean(axis=0)
        moved, shares = float(np.abs(updated - shares).max()), updated
        if moved < tolerance:
            break
    return shares


def priors_by_confusion(
    probabilities: Float[np.ndarray, "flows classes"],
    confusion: Float64[np.ndarray, "classes classes"],
    trained: Float64[np.ndarray, " classes"],
) -> Float64[np.ndarray, " classes"]:
    """Class priors from the mean probabilities alone, given how the model confuses classes on labelled flows.

    Args:
        confusion: Row: true class; column: mean probability of each class on flows of that true class.

    Source: Lipton, Wang & Smola, "Detecting and correcting for label shift with black box predictors", ICML
    2018, section 4 (here with probabilities instead of verdicts). Negative priors, due to noise, become 0.
    """
    solved = np.linalg.lstsq(confusion.T, probabilities.mean(axis=0), rcond=None)[0].clip(0)
    return solved / solved.sum() if solved.sum() > 0 else trained


def mean_probabilities(
    probabilities: Float[np.ndarray, "flows classes"], class_ids: Int64[np.ndarray, " flows"]
) -> Float64[np.ndarray, "classes classes"]:
    """Mean probabilities of the flows of each true class; a class without flows counts as always right."""
    table = np.eye(probabilities.shape[1])
    for class_id in np.unique(class_ids):
        table[class_id] = probabilities[class_ids == class_id].mean(axis=0)
    return table


def _free_directions(method: Method, num_classes: int) -> Float64[np.ndarray, "parameters free"]:
    """Columns: how each free parameter moves the scales, then the biases."""
    together = np.concatenate([np.ones(num_classes), np.zeros(num_classes)])[:, None]
    everything = np.eye(2 * num_classes)
    return {
        "none": together[:, :0],
        "temperature": together,
        "biases": np.hstack([together, everything[:, num_classes:]]),
        "vector": everything,
    }[method]


def _exponents(
    logits: Float64[np.ndarray, "flows classes"],
) -> tuple[
    Float64[np.ndarray, " flows"], Float64[np.ndarray, "flows classes"], Float64[np.ndarray, " flows"]
]:
    """The highest logit of each flow, the exponentials of all less that one, and their sum."""
    top = logits.max(axis=1)
    exponents = np.exp(logits - top[:, None])
    return top, exponents, exponents.sum(axis=1)


def _penalised(
    logits: Float64[np.ndarray, "flows classes"],
    class_ids: Int64[np.ndarray, " flows"],
    free: Float64[np.ndarray, "parameters free"],
    start: Float64[np.ndarray, " parameters"],
    moved: Float64[np.ndarray, " free"],
) -> tuple[float, Float64[np.ndarray, " free"], Float64[np.ndarray, "free free"]]:
    """Loss, gradient and curvature at `start + free @ moved`."""
    num_flows, num_classes = logits.shape
    away = free @ moved
    scales, biases = np.split(start + away, 2)
    scaled = logits * scales + biases
    top, exponents, sums = _exponents(scaled)
    losses = top + np.log(sums) - scaled[np.arange(num_flows), class_ids]
    probabilities = exponents / sums[:, None]
    error = probabilities.copy()
    error[np.arange(num_flows), class_ids] -= 1
    gradient = np.concatenate([(error * logits).mean(axis=0), error.mean(axis=0)])
    # Second derivative of the log-loss: the diagonal blocks, less the outer product of the softmax terms.
    felt = np.hstack([probabilities * logits, probabilities])
    blocks = np.zeros((2 * num_classes, 2 * num_classes))
    at = np.arange(num_classes)
    blocks[at, at] = (probabilities * logits**2).mean(axis=0)
    blocks[at, at + num_classes] = blocks[at + num_classes, at] = felt[:, :num_classes].mean(axis=0)
    blocks[at + num_classes, at + num_classes] = probabilities.mean(axis=0)
    curvature = blocks - felt.T @ felt / num_flows
    pull = 1 / num_flows
    return (
        float(losses.mean()) + 0.5 * pull * float(away @ away),
        free.T @ (gradient + pull * away),
        free.T @ (curvature + pull * np.eye(len(away))) @ free,
    )
