import numpy as np
import pytest

from wirebert.data.labels import ClassMap
from wirebert.decision.config import DecisionConfig, parse_prior, require_classes, stated_priors
from wirebert.errors import ConfigError

# Priors


NAMES = ("normal", "dos", "probe")


@pytest.mark.parametrize("entry", ["normal", "normal=x", "=", "=0.5", "normal=0", "normal=1.5", "normal=nan"])
def test_an_invalid_prior_entry_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match=r"^--prior.* got '?" + entry):
        parse_prior((entry,))


@pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share: float) -> None:
    with pytest.raises(ConfigError, match=rf"decision\.prior.* in \(0, 1\), got normal={share}"):
        DecisionConfig(prior={"normal": share})


@pytest.mark.parametrize("offset", [float("inf"), float("nan")])
def test_an_infinite_logit_offset_is_refused(offset: float) -> None:
    with pytest.raises(ConfigError, match=rf"decision\.logit_offsets\.normal must be .*, got {offset}"):
        DecisionConfig(logit_offsets={"normal": offset})


def test_an_alert_rate_without_a_threshold_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"decision\.alert_fpr must be one of 0\.01, .*, got 0\.0"):
        DecisionConfig(alert_fpr=0.0)


def test_a_logit_offset_of_an_unknown_class_is_refused_before_training() -> None:
    with pytest.raises(
        ConfigError, match=r"decision\.logit_offsets must name classes of the data .*'nothing'"
    ):
        require_classes(DecisionConfig(logit_offsets={"nothing": 1.0}), ClassMap(classes=NAMES))


def test_shares_of_more_than_everything_are_refused() -> None:
    with pytest.raises(ConfigError, match="add up to at most 1"):
        parse_prior(("a=0.6", "b=0.6"))
    with pytest.raises(ConfigError, match="each class once"):
        parse_prior(("a=0.1", "a=0.2"))


def test_classes_that_are_not_stated_share_the_rest_as_in_training() -> None:
    found = stated_priors({"a": 0.9}, ("a", "b", "c"), np.array([0.5, 0.4, 0.1]))
    np.testing.assert_allclose(found, [0.9, 0.08, 0.02])
    with pytest.raises(ConfigError, match=r"classes of the model \(a, b\), got 'x'"):
        stated_priors({"x": 0.5}, ("a", "b"), np.array([0.5, 0.5]))
    with pytest.raises(ConfigError, match="add up to 1"):
        stated_priors({"a": 0.5, "b": 0.1}, ("a", "b"), np.array([0.5, 0.5]))


def test_novelty_needs_flows_to_compare_with() -> None:
    with pytest.raises(
        ConfigError, match=r"decision\.novelty_reference_flows must be above 0 .*attack_and_novelty"
    ):
        DecisionConfig(alert_score="attack_and_novelty", novelty_reference_flows=0)


def test_novelty_has_no_weight_of_nothing_and_none_where_alerts_do_not_go_by_it() -> None:
    with pytest.raises(ConfigError, match=r"decision\.novelty_weight must be above 0, got -1"):
        DecisionConfig(alert_score="attack_and_novelty", novelty_weight=-1.0)
    with pytest.raises(ConfigError, match=r"novelty_weight must be 1 .* set decision\.alert_score"):
        DecisionConfig(novelty_weight=2.0)


def test_without_a_benign_class_alerts_can_not_go_by_novelty() -> None:
    nameless = ClassMap(classes=NAMES)
    with pytest.raises(ConfigError, match=r"decision\.alert_score must be attack where .* --benign"):
        require_classes(DecisionConfig(alert_score="attack_and_novelty"), nameless)
    require_classes(DecisionConfig(), nameless)
