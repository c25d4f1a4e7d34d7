"""Boosted trees on the tokens that a model reads: a teacher that is made from the training flows themselves.

Trees that learn slowly, each split looking at a share of the columns, hold up better than a transformer where traffic is
unlike that of training (docs/experiments.md); what they say of such rows can be learned (`wirebert.encoding.augmentation`).
"""

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64
from sklearn.ensemble import HistGradientBoostingClassifier

from wirebert.encoding.matrix import Ranks
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer

ClassWeights = Literal["none", "balanced", "sqrt"]

TREE_SETTINGS: Final = {
    "max_iter": 400,
    "learning_rate": 0.05,
    "max_leaf_nodes": 15,
    "l2_regularization": 5.0,
    "max_features": 0.4,
    "n_iter_no_change": 20,
}
"""What the search for boosted trees in `wirebert compare` chose for NSL-KDD, on attacks that it held out."""

MAX_TOKENS: Final = 255
"""Of a slot whose tokens are split by set; beyond, by their order in the vocabulary, which is by falling frequency."""


@dataclass(frozen=True, slots=True)
class TokenTrees:
    """Fitted trees."""

    ranks: Ranks
    model: HistGradientBoostingClassifier
    class_ids: Int64[np.ndarray, " known"]
    """Classes that the fitted flows show."""
    num_classes: int
    num_flows: int
    """Fitted on."""

    @property
    def summary(self) -> dict[str, object]:
        """What they are and what they were given, for the report."""
        return {
            "method": "scikit-learn HistGradientBoostingClassifier on the model's tokens",
            "num_rounds": self.model.n_iter_,
            "num_flows_used": self.num_flows,
            **TREE_SETTINGS,
        }

    @classmethod
    def fit(
        cls,
        tokenizer: FlowTokenizer,
        train: JaggedRows,
        class_ids: Int64[np.ndarray, " train"],
        valid: EncodedFlows,
        *,
        num_classes: int,
        weights: ClassWeights,
        seed: int,
    ) -> "TokenTrees":
        """Trees on `train`, all of whose flows have a class; those of `valid` say when there are enough."""
        ranks = Ranks.of(tokenizer)
        # scikit-learn counts the classes that it finds from 0, and takes weights by that number.
        known, places, counts = np.unique(class_ids, return_inverse=True, return_counts=True)
        exponent = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}[weights]
        class_weight = dict(enumerate((len(class_ids) / (len(known) * counts)) ** exponent))
        valid_ids = np.asarray(valid.class_ids)
        stops = np.isin(valid_ids, known)
        sizes = np.bincount(tokenizer.token_slots[tokenizer.token_slots >= 0], minlength=len(tokenizer.slots))
        model = HistGradientBoostingClassifier(
            **cast(Any, TREE_SETTINGS),
            categorical_features=cast(Any, ~ranks.is_ordered & (sizes <= MAX_TOKENS)),
            class_weight=class_weight,
            early_stopping=cast(Any, True),
            random_state=seed,
        ).fit(
            ranks.matrix(train),
            places,
            X_val=ranks.matrix(valid)[stops],
            y_val=np.searchsorted(known, valid_ids[stops]),
        )
        return cls(ranks, model, known, num_classes, len(train))

    def predict_proba(self, table: pa.Table) -> Float64[np.ndarray, "flows classes"]:
        """Probability of each class for the rows of a typed table."""
        return self.predict_log_proba(self.ranks.tokenizer.encode(table))

    def predict_log_proba(self, block: JaggedRows) -> Float64[np.ndarray, "flows classes"]:
        """Probability of each class; 0 for classes that the fitted flows lack."""
        found = np.zeros((len(block), self.num_classes))
        found[:, self.class_ids] = self.model.predict_proba(self.ranks.matrix(block))
        return found
