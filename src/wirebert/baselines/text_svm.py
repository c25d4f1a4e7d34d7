"""A linear machine on the words of the tokens that a model reads: a teacher where columns are text.

Character n-grams and a wide margin hold up better than a transformer where a class has a few dozen texts
(docs/experiments.md); what the machine says of spliced texts can be learned (`wirebert.encoding.augmentation`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

from wirebert.baselines.methods import BASELINES, fit_baseline
from wirebert.baselines.task import Predict, Rows, Setting, Task
from wirebert.decision.calibration import TINY, LogitScaling, fit_scaling, softmax
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer

SVM_SETTINGS: Final[dict[str, Setting]] = {"pieces": "char_wb", "longest": 4, "C": 3.0, "lowercase": True}
"""What the search for linear machines in `wirebert compare` chose for HttpParams, on rows that it held out."""

_METHOD: Final = BASELINES["text_svm"]


@dataclass(frozen=True, slots=True)
class TextSvm:
    """A fitted machine."""

    tokenizer: FlowTokenizer
    predict: Predict
    scaling: LogitScaling
    """Turns margins into logits."""
    num_flows: int
    """Fitted on."""

    @property
    def summary(self) -> dict[str, object]:
        """What it is and what it was given, for the report."""
        columns = list(self.tokenizer.text_columns)
        return {
            "method": f"{_METHOD.title} on the model's pieces",
            "text_columns": columns,
            "num_flows_used": self.num_flows,
            **SVM_SETTINGS,
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
        seed: int,
    ) -> "TextSvm":
        """A machine on `train`, all of whose flows have a class; those of `valid` say how sure its margins are."""
        task = Task(
            train=_rows(tokenizer, train),
            train_ids=class_ids,
            stop=Rows(np.zeros((0, 1)), []),  # it does not stop early
            stop_ids=np.zeros(0, np.int64),
            is_categorical=np.zeros(1, dtype=bool),
            num_classes=num_classes,
        )
        predict = fit_baseline(_METHOD, task, SVM_SETTINGS, seed)
        margins = np.log(predict(_rows(tokenizer, valid.block)).clip(TINY))
        # A flow of a class that training lacks says nothing of margins.
        tells = np.isin(valid.class_ids, class_ids)
        scaling = fit_scaling(margins[tells], np.asarray(valid.class_ids)[tells], "temperature")
        return cls(tokenizer, predict, scaling, len(train))

    def predict_proba(self, table: pa.Table) -> Float64[np.ndarray, "flows classes"]:
        """Probability of each class for the rows of a typed table."""
        return self.predict_log_proba(self.tokenizer.encode(table))

    def predict_log_proba(self, block: JaggedRows) -> Float64[np.ndarray, "flows classes"]:
        """Probability of each class; 0 for classes that the fitted flows lack."""
        margins = np.log(self.predict(_rows(self.tokenizer, block)).clip(TINY))
        return softmax(self.scaling.apply(margins))


def _rows(tokenizer: FlowTokenizer, block: JaggedRows) -> Rows:
    """The text columns of each row in one piece, as far as their tokens tell."""
    texts: list[str] = []
    for first, last in zip(block.offsets[:-1], block.offsets[1:], strict=True):
        said = tokenizer.decode(block.ids[first:last])
        texts.append(" ".join(said[name] for name in tokenizer.text_columns))
    return Rows(np.zeros((len(block), 1)), texts)
