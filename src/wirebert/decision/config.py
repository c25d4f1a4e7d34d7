"""The settings of section `decision`, and the class priors in them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

import numpy as np

from wirebert.data.labels import ClassMap
from wirebert.errors import ConfigError
from wirebert.metrics.thresholds import FALSE_POSITIVE_RATES
from wirebert.shapes import Float64


@dataclass(frozen=True, kw_only=True, slots=True)
class DecisionConfig:
    """What probabilities mean and where alerts are raised: the settings of section `decision`."""

    calibration: Literal["auto", "none", "temperature", "biases", "vector"] = "auto"
    """How logits are scaled to the validation flows; auto: the best in cross-validation by log-loss, but none
    or temperature where class weights or logit adjustment tilt the classes on purpose."""

    prior: Mapping[str, float] = field(default_factory=dict[str, float], hash=False)
    """Class -> its fraction of the traffic in use, in (0, 1); other classes share the rest as in training.
    Empty: as in training."""

    logit_offsets: Mapping[str, float] = field(default_factory=dict[str, float], hash=False)
    """Class -> number added to its logit after calibration and prior, in nats. `wirebert compare` fits them
    on folds that hold attacks out. They move verdicts, probabilities and the attack score, so that
    probabilities are no longer calibrated."""

    alert_fpr: float | None = None
    """Target false positive rate of alerts: 0.01, 0.001 or 0.0001; none: 0.001, or 0.01 where
    benign validation flows are too few for that."""

    alert_score: Literal["attack", "attack_and_novelty"] = "attack"
    """What raises alerts: the attack score, or that and the novelty, each by how rarely benign validation
    flows reach it. The latter detects more attacks that training lacked, but also alerts on new benign flows;
    it needs novelty_reference_flows and a benign class, and scoring is slower."""

    novelty_weight: float = 1.0
    """Weight of novelty in attack_and_novelty, above 0; the attack score has weight 1. A higher weight
    detects more traffic that is unlike training, as long as benign traffic is uniform; where it is varied,
    novelty drowns the attack score."""

    novelty_reference_flows: int = 5_000
    """Training flows kept in the model folder to recognise flows unlike all of them (`predict --novelty`), at
    least 0; 0: none."""

    def __post_init__(self) -> None:
        require_shares(self.prior, "decision.prior")
        for name, offset in self.logit_offsets.items():
            if not isfinite(offset):
                raise ConfigError(f"decision.logit_offsets.{name} must be a finite number, got {offset}")
        if self.alert_fpr not in (None, *FALSE_POSITIVE_RATES):
            known = ", ".join(map(np.format_float_positional, FALSE_POSITIVE_RATES))
            raise ConfigError(f"decision.alert_fpr must be one of {known}, got {self.alert_fpr}")
        if not 0 < self.novelty_weight < float("inf"):
            raise ConfigError(f"decision.novelty_weight must be above 0, got {self.novelty_weight}")
        if self.novelty_weight != 1 and self.alert_score == "attack":
            raise ConfigError(
                "decision.novelty_weight must be 1 where alerts go by the attack score alone, got "
                f"{self.novelty_weight}; set decision.alert_score=attack_and_novelty"
            )
        if self.novelty_reference_flows < 0:
            raise ConfigError(
                f"decision.novelty_reference_flows must be at least 0, got {self.novelty_reference_flows}"
            )
        if self.alert_score == "attack_and_novelty" and not self.novelty_reference_flows:
            raise ConfigError(
                "decision.novelty_reference_flows must be above 0 for "
                "decision.alert_score=attack_and_novelty, got 0"
            )


def require_classes(config: DecisionConfig, classes: ClassMap) -> None:
    """Raise a ConfigError for an unknown class, or where alerts need a benign class and there is none."""
    for name in config.logit_offsets:
        if name not in classes.classes:
            raise ConfigError(
                f"decision.logit_offsets must name classes of the data ({', '.join(classes.classes)}), "
                f"got {name!r}"
            )
    if config.alert_score == "attack_and_novelty" and classes.benign is None:
        raise ConfigError(
            "decision.alert_score must be attack where no class means benign, got attack_and_novelty; set "
            "decision.alert_score=attack, or name the benign class with --benign"
        )


def parse_prior(entries: Iterable[str]) -> dict[str, float]:
    """Class -> share, from the entries of `--prior`.

    >>> parse_prior(("normal=0.99",))
    {'normal': 0.99}
    >>> parse_prior(("normal",))
    Traceback (most recent call last):
    ...
    wirebert.errors.ConfigError: --prior must be CLASS=SHARE, each class once, got 'normal'
    """
    shares: dict[str, float] = {}
    for entry in entries:
        name, _, text = entry.rpartition("=")
        try:
            share = float(text)
        except ValueError:
            name, share = "", 0.0
        if not name or name in shares:
            raise ConfigError(f"--prior must be CLASS=SHARE, each class once, got {entry!r}")
        shares[name] = share
    require_shares(shares, "--prior")
    return shares


def require_shares(shares: Mapping[str, float], where: str) -> None:
    """Raise a ConfigError for shares outside (0, 1), or that add up to more than 1."""
    for name, share in shares.items():
        if not 0 < share < 1:
            raise ConfigError(f"{where}: the share of a class must be in (0, 1), got {name}={share}")
    if sum(shares.values()) > 1 + 1e-9:
        raise ConfigError(f"{where}: shares must add up to at most 1, got {sum(shares.values())}")


def logit_offsets_of(config: DecisionConfig, classes: tuple[str, ...]) -> Float64[np.ndarray, " classes"]:
    """The offset of each class's logit, in the order of `classes`; 0 where none is set."""
    return np.array([config.logit_offsets.get(name, 0.0) for name in classes])


def stated_priors(
    stated: Mapping[str, float], classes: tuple[str, ...], trained: Float64[np.ndarray, " classes"]
) -> Float64[np.ndarray, " classes"]:
    """The prior of every class: as stated; the other classes share the rest as in training.

    Raises:
        ConfigError: a class that the model does not know, or shares of all classes that do not add up to 1.
    """
    for name in stated:
        if name not in classes:
            raise ConfigError(
                f"decision.prior must name classes of the model ({', '.join(classes)}), got {name!r}"
            )
    shares = np.array([stated.get(name, 0.0) for name in classes])
    is_open = np.array([name not in stated for name in classes])
    rest = 1 - shares.sum()
    if not is_open.any() and abs(rest) > 1e-6:
        raise ConfigError(f"decision.prior must add up to 1 where it names every class, got {shares.sum()}")
    total = trained[is_open].sum()
    if total > 0:
        shares[is_open] = rest * trained[is_open] / total
    return shares / shares.sum()
