import numpy as np
import pytest
from sklearn.metrics import f1_score

from wirebert.decision.logit_offsets import add_logit_offsets, fit_logit_offsets

RNG = np.random.default_rng(0)
TRUE = RNG.choice(3, 900, p=[0.6, 0.3, 0.1]).astype(np.int64)
FOLDS = np.arange(900) % 3
SURE = np.eye(3)[TRUE] * 2 + RNG.normal(0, 0.7, (900, 3))
PROBABILITIES = np.exp(SURE) / np.exp(SURE).sum(axis=1, keepdims=True)


def test_addends_undo_a_bias_that_all_folds_share() -> None:
    biased = add_logit_offsets(PROBABILITIES, np.array([3.0, 0.0, 0.0]))
    found = fit_logit_offsets(biased, TRUE, FOLDS, 0, "macro_f1")
    before, after = (
        f1_score(TRUE, p.argmax(axis=1), average="macro") for p in (biased, add_logit_offsets(biased, found))
    )
    plain = f1_score(TRUE, PROBABILITIES.argmax(axis=1), average="macro")
    assert before < plain - 0.1
    assert after >= plain - 0.005


def test_what_helps_one_fold_only_is_left_alone() -> None:
    odd = np.where(FOLDS == 0, (TRUE + 1) % 3, TRUE)
    noise = np.eye(3)[odd] * 0.4 + 0.2
    assert (fit_logit_offsets(noise, TRUE, FOLDS, 0, "accuracy") == 0).all()


def test_addends_are_those_of_a_classifier_bias() -> None:
    addends = np.array([0.5, -1.0, 2.0])
    logits = np.log(PROBABILITIES) + addends
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert add_logit_offsets(PROBABILITIES, addends) == pytest.approx(expected)


def test_what_helps_every_fold_but_says_nothing_of_another_is_left_alone() -> None:
    """Each fold asks for the opposite of the other, so what one teaches leaves the other where it was."""
    told = np.repeat([[0.55, 0.45], [0.45, 0.55]], 50, axis=0)
    true, folds = np.repeat([1, 0], 50), np.repeat([0, 1], 50)
    assert (fit_logit_offsets(told, true, folds, 0, "accuracy") == 0).all()
