"""What is decided on validation flows when training is over, and folded or put into the artifact.

Calibration and prior go into the classifier's last layer, so that stock `transformers` gives the same probabilities;
thresholds and what tells unknown flows stand beside it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite, nan
from typing import Final, Literal

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float32, Float64, Int64
from torch import Tensor

from wirebert.data.labels import ClassMap
from wirebert.data.flows import (Flows)
from wirebert.errors import ConfigError
from wirebert.evaluation.alarm import AlarmScore
from wirebert.evaluation.calibration import (
    METHODS,
    Scaling,
    choose_scaling,
    fit_scaling,
    log_losses,
    mean_probabilities,
    softmax,
)
from wirebert.metrics.split_metrics import (FALSE_POSITIVE_RATES, attack_scores)
from wirebert.evaluation.novelty import Strangeness
from wirebert.metrics.thresholds import (Threshold, fit_threshold)
from wirebert.encoding.matrix import (concatenate, measure)
from wirebert.serving.artifact import Artifact
from wirebert.serving.operating import Folded, Operating

MOST_SAMPLED: Final = 100_000
"""Training flows from which those that stand for all are taken at most; and benign validation flows for thresholds."""

MOST_BENIGN: Final = 200_000
"""Benign validation flows whose novelty is worked out at most where alerts go by it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OperatingConfig:
    """What probabilities mean and where alerts are raised: the settings of section `operating`."""

    calibration: Literal["auto", "none", "temperature", "biases", "vector"] = "auto"
    """How logits are scaled to the validation flows; auto: the best in cross-validation by log-loss, but none or
    temperature where class weights or logit adjustment tilt the classes on purpose."""

    prior: tuple[str, ...] = ()
    """CLASS=SHARE of traffic in use, shares in (0, 1); other classes share the rest as in training. Empty: as in training."""

    class_addends: tuple[str, ...] = ()
    """CLASS=NUMBER, added to the logit of the class after all that, in nats: what `wirebert compare` fits on folds that hold
    attacks out. Verdicts, probabilities and the attack score move with it, so probabilities are calibrated no more."""

    alert_at: float = 0.0
    """False positive rate at which the model raises alerts unless asked otherwise: 0.01, 0.001 or 0.0001; 0: 0.001, or
    0.01 where benign validation flows are too few to fix that."""

    alert_on: Literal["attack", "attack_and_novelty"] = "attack"
    """What raises alerts: the attack score, or that and the novelty, each by how rarely benign validation flows reach it.
    The latter finds more attacks of which training had none, and alarms at benign flows that are new, too; it needs
    unknown_flows and a benign class, and scoring is slower."""

    novelty_weight: float = 1.0
    """What novelty counts in attack_and_novelty, above 0, where the attack score counts 1. More finds more of what is like
    nothing in training, as long as benign traffic is much alike; where it is not, it buries the attack score."""

    unknown_flows: int = 5_000
    """Training flows kept in the model folder so that what is like none of them can be told (`predict --unknown`), at
    least 0; 0: none."""

    def __post_init__(self) -> None:
        parse_prior(self.prior)
        parse_addends(self.class_addends)
        if self.alert_at not in (0.0, *FALSE_POSITIVE_RATES):
            known = ", ".join(map(np.format_float_positional, FALSE_POSITIVE_RATES))
            raise ConfigError(f"operating.alert_at must be 0 or one of {known}, got {self.alert_at}")
        if not 0 < self.novelty_weight < float("inf"):
            raise ConfigError(f"operating.novelty_weight must be above 0, got {self.novelty_weight}")
        if self.novelty_weight != 1 and self.alert_on == "attack":
            raise ConfigError(
                f"operating.novelty_weight must be 1 where alerts go by the attack score alone, got {self.novelty_weight}; "
                "set operating.alert_on=attack_and_novelty"
            )
        if self.unknown_flows < 0:
            raise ConfigError(f"operating.unknown_flows must be at least 0, got {self.unknown_flows}")
        if self.alert_on == "attack_and_novelty" and not self.unknown_flows:
            raise ConfigError(
                "operating.unknown_flows must be above 0 for operating.alert_on=attack_and_novelty, got 0"
            )


def require_classes(config: OperatingConfig, classes: ClassMap) -> None:
    """Raise a ConfigError for a class that is none, or where alerts go by a score of benign flows and no class means benign."""
    for name in parse_addends(config.class_addends):
        if name not in classes.classes:
            raise ConfigError(
                f"operating.class_addends must name classes of the data ({', '.join(classes.classes)}), got {name!r}"
            )
    if config.alert_on == "attack_and_novelty" and classes.benign is None:
        raise ConfigError(
            "operating.alert_on must be attack where no class means benign, got attack_and_novelty; or name that class "
            "with --benign"
        )


def calibrated(
    artifact: Artifact,
    logits: Float32[np.ndarray, "flows classes"],
    class_ids: Int64[np.ndarray, " flows"],
    config: OperatingConfig,
    *,
    is_tilted: bool,
    seed: int,
) -> Artifact:
    """The artifact with calibration and prior folded in, and thresholds of its attack score.

    Args:
        logits: Of validation flows, by the artifact as it is.
        class_ids: Their classes; flows with a negative one are left out.
        is_tilted: Whether training weighed classes against their frequency.
    """
    logits, class_ids = logits[class_ids >= 0], class_ids[class_ids >= 0]
    names = artifact.classes.classes
    if config.calibration == "auto":
        methods = METHODS[:2] if is_tilted and not config.prior else METHODS
        scaling = choose_scaling(logits, class_ids, methods=methods, seed=seed)
    else:
        scaling = fit_scaling(logits, class_ids, config.calibration)
    loss_before, loss_after = (
        float(log_losses(some, class_ids).mean()) for some in (logits, scaling.apply(logits))
    )
    shares = np.bincount(class_ids, minlength=len(names)) / len(class_ids)
    probabilities = softmax(scaling.apply(logits))
    confusion = mean_probabilities(probabilities, class_ids)
    if config.prior:
        stated = stated_shares(parse_prior(config.prior), names, shares)
        scaling, shares = scaling.with_prior(shares, stated), stated
        probabilities = softmax(scaling.apply(logits))
    if config.class_addends:
        scaling = scaling.moved(addends_of(config, names))
        probabilities = softmax(scaling.apply(logits))
    thresholds: tuple[Threshold, ...] = ()
    if artifact.classes.benign is not None:
        benign_id = names.index(artifact.classes.benign)
        is_attack = class_ids != benign_id
        if not is_attack.all():
            scores = attack_scores(probabilities, benign_id)
            thresholds = tuple(fit_threshold(scores, is_attack, rate) for rate in FALSE_POSITIVE_RATES)
    # With weighed classes and no biases fitted, or with addends, the probabilities assume no shares that anyone could name.
    is_named = (not is_tilted or scaling.method in ("biases", "vector")) and not config.class_addends
    operating = Operating(
        shares=dict(zip(names, shares.tolist(), strict=True)) if is_named else {},
        folded=Folded(
            method=scaling.method,
            factors=tuple(scaling.factors.tolist()),
            addends=tuple(scaling.addends.tolist()),
            num_flows=len(logits),
            loss_before=loss_before,
            loss_after=loss_after,
        ),
        confusion=tuple(tuple(row) for row in confusion.tolist()),
        thresholds=thresholds,
        alert_at=config.alert_at or _default_rate(thresholds),
    )
    return replace(artifact, weights=fold(artifact.weights, scaling), operating=operating)


def _default_rate(thresholds: tuple[Threshold, ...]) -> float:
    is_fixed = {one.target_fpr: one.is_fixed for one in thresholds}
    return 0.001 if is_fixed.get(0.001) else 0.01


def folded_attack_scores(
    artifact: Artifact, logits: Float32[np.ndarray, "flows classes"]
) -> Float64[np.ndarray, " flows"]:
    """Attack scores by a calibrated artifact, which has a benign class, from the logits it gave before."""
    assert artifact.operating is not None, "calibrated before"
    assert artifact.classes.benign is not None, "attack scores need a benign class"
    folded = artifact.operating.folded
    probabilities = softmax(logits * np.array(folded.factors) + np.array(folded.addends))
    return attack_scores(probabilities, artifact.classes.classes.index(artifact.classes.benign))


def fold(weights: Mapping[str, Tensor], scaling: Scaling) -> dict[str, Tensor]:
    """The weights of a model whose logits are the scaled ones."""
    factors, addends = (torch.from_numpy(part) for part in (scaling.factors, scaling.addends))
    weight, bias = weights["classifier.weight"].double().cpu(), weights["classifier.bias"].double().cpu()
    return {
        **weights,
        "classifier.weight": (weight * factors[:, None]).float(),
        "classifier.bias": (bias * factors + addends).float(),
    }


def parse_prior(entries: tuple[str, ...]) -> dict[str, float]:
    """Class -> share.

    >>> parse_prior(("normal=0.99",))
    {'normal': 0.99}
    >>> parse_prior(("normal",))
    Traceback (most recent call last):
    ...
    wirebert.errors.ConfigError: operating.prior must be CLASS=SHARE entries with shares in (0, 1), each class once, got 'normal'
    """
    expected = "operating.prior must be CLASS=SHARE entries with shares in (0, 1), each class once"
    shares = _numbers(entries, expected, lambda share: 0 < share < 1)
    if sum(shares.values()) > 1 + 1e-9:
        raise ConfigError(f"operating.prior must add up to at most 1, got {sum(shares.values())}")
    return shares


def parse_addends(entries: tuple[str, ...]) -> dict[str, float]:
    """Class -> what is added to its logit.

    >>> parse_addends(("normal=-3.25",))
    {'normal': -3.25}
    >>> parse_addends(("normal=much",))
    Traceback (most recent call last):
    ...
    wirebert.errors.ConfigError: operating.class_addends must be CLASS=NUMBER entries, each class once, got 'normal=much'
    """
    expected = "operating.class_addends must be CLASS=NUMBER entries, each class once"
    return _numbers(entries, expected, isfinite)


def _numbers(entries: tuple[str, ...], expected: str, is_good: Callable[[float], bool]) -> dict[str, float]:
    """Class -> number, of `CLASS=NUMBER` entries; a ConfigError that says what was `expected`."""
    numbers: dict[str, float] = {}
    for entry in entries:
        name, equals, text = entry.rpartition("=")
        try:
            number = float(text)
        except ValueError:
            number = nan
        if not equals or not is_good(number) or name in numbers:
            raise ConfigError(f"{expected}, got {entry!r}")
        numbers[name] = number
    return numbers


def addends_of(config: OperatingConfig, classes: tuple[str, ...]) -> Float64[np.ndarray, " classes"]:
    """What the settings add to the logit of each class."""
    addends = parse_addends(config.class_addends)
    return np.array([addends.get(name, 0.0) for name in classes])


def stated_shares(
    stated: Mapping[str, float], classes: tuple[str, ...], trained: Float64[np.ndarray, " classes"]
) -> Float64[np.ndarray, " classes"]:
    """The share of every class: as stated, and of the rest as in training.

    Raises:
        ConfigError: a class that the model does not know, or shares of all classes that do not add up to 1.
    """
    for name in stated:
        if name not in classes:
            raise ConfigError(
                f"operating.prior must name classes of the model ({', '.join(classes)}), got {name!r}"
            )
    shares = np.array([stated.get(name, 0.0) for name in classes])
    is_open = np.array([name not in stated for name in classes])
    rest = 1 - shares.sum()
    if not is_open.any() and abs(rest) > 1e-6:
        raise ConfigError(f"operating.prior must add up to 1 where it names every class, got {shares.sum()}")
    total = trained[is_open].sum()
    if total > 0:
        shares[is_open] = rest * trained[is_open] / total
    return shares / shares.sum()


def with_strangeness(
    artifact: Artifact,
    flows: Flows,
    is_train: Bool[np.ndarray, " rows"],
    is_benign: Bool[np.ndarray, " rows"],
    *,
    num_kept: int,
    seed: int,
    attack_scores: Float64[np.ndarray, " rows"] | None = None,
    novelty_weight: float = 1.0,
) -> Artifact:
    """The artifact with what tells unknown flows, and thresholds of it; one pass over the file.

    With attack scores, alerts go by these and the novelty joined from then on.

    Args:
        is_train: Rows that training saw, some of which are kept.
        is_benign: Benign validation rows, on some of which thresholds are fitted; other rows are not looked at.
        attack_scores: Of the benign validation rows, by the artifact as it is; anything for other rows.
        novelty_weight: What novelty counts beside them.
    """
    assert artifact.operating is not None, "thresholds of novelty stand beside those of the attack score"
    rng = np.random.default_rng(seed)
    most_benign = MOST_SAMPLED if attack_scores is None else MOST_BENIGN
    chosen = {"train": _some(is_train, MOST_SAMPLED, rng), "valid": _some(is_benign, most_benign, rng)}
    found: dict[str, list[pa.Table]] = {"train": [], "valid": []}
    first = 0
    for table in flows.blocks():
        last = first + table.num_rows
        for name, rows in chosen.items():
            if rows[first:last].any():
                found[name].append(measure(table.filter(pa.array(rows[first:last])), flows.schema))
        first = last
    strangeness = Strangeness.fit(concatenate(found["train"]), num_kept, seed)
    operating = artifact.operating
    if found["valid"]:
        novelty = np.concatenate([strangeness.scores(table) for table in found["valid"]])
        operating = replace(operating, unknown=_benign_thresholds(novelty))
        if attack_scores is not None:
            known = attack_scores[chosen["valid"]]
            alarm = AlarmScore.fit(known, novelty, novelty_weight)
            thresholds = _benign_thresholds(alarm.scores(known, novelty))
            operating = replace(operating, alarm=alarm, thresholds=thresholds)
    return replace(artifact, strangeness=strangeness, operating=operating)


def _benign_thresholds(scores: Float64[np.ndarray, " benign"]) -> tuple[Threshold, ...]:
    no_attack = np.zeros(len(scores), bool)
    return tuple(fit_threshold(scores, no_attack, rate) for rate in FALSE_POSITIVE_RATES)


def _some(rows: Bool[np.ndarray, " rows"], most: int, rng: np.random.Generator) -> Bool[np.ndarray, " rows"]:
    places = np.flatnonzero(rows)
    if len(places) <= most:
        return rows
    kept = np.zeros(len(rows), bool)
    kept[rng.permutation(places)[:most]] = True
    return kept
