"""`WirebertClassifier`: a detector with scikit-learn's contract, for pipelines, cross-validation and search.

This is the one module of the library that imports scikit-learn.
"""

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_array, check_is_fitted, column_or_1d, validate_data

from wirebert.api.detector import Detector
from wirebert.api.settings import nested_settings
from wirebert.api.tables import ArrowStream, arrow_table, as_arrow, write_traffic
from wirebert.config import resolve_run
from wirebert.console import SafeConsole
from wirebert.data.schema.label_names import fold_label, is_placeholder, means_benign
from wirebert.errors import UserError
from wirebert.inference.artifact import load_artifact, save_artifact
from wirebert.inference.detector import Detector as Scorer
from wirebert.run_folder import create_run_folder
from wirebert.serialization import merge
from wirebert.shapes import Float64, Shaped
from wirebert.workflows.fit import fit_decision, train_model
from wirebert.workflows.model_card import model_card
from wirebert.workflows.prepare import prepare, write_typed_rows
from wirebert.workflows.report import RunLog

_LABEL = "wirebert_label"
"""Column of the labels, beside those of the data."""


class WirebertClassifier(ClassifierMixin, BaseEstimator):
    """A DistilBERT classifier of tables, with columns of numbers, categories, addresses and text.

    Missing values are values of their own. What a column means is recognised at `fit`, by name and values.
    Every class needs at least two different rows.

    Args:
        size: model size: base, mini, or a DistilBERT config.json.
        epochs: passes over the training rows.
        random_state: random seed; the same seed gives the same model.
        benign: the class that means "no attack"; None: by its name.
        settings: further settings, by name or section, as those of `wirebert.train`.

    Attributes:
        classes_: the classes, sorted.
        detector_: the trained `Detector`, with verdicts, thresholds and explanations.
    """

    def __init__(
        self,
        *,
        size: str = "mini",
        epochs: int = 10,
        random_state: int | np.random.RandomState | None = None,
        benign: object = None,
        settings: Mapping[str, object] | None = None,
    ) -> None:
        self.size = size
        self.epochs = epochs
        self.random_state = random_state
        self.benign = benign
        self.settings = settings

    def fit(self, X: Any, y: Any) -> "WirebertClassifier":
        """Train on the rows of a data frame or array and their classes; a tenth of them is for validation.

        Raises:
            ValueError: there is nothing to learn from, or a setting is wrong.
        """
        table = self._table(X, is_fit=True)
        if y is None:
            raise ValueError("requires y to be passed, but the target y is None")
        y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        if len(y) != table.num_rows:
            raise ValueError(f"expected a class for each of the {table.num_rows} rows, found {len(y)}")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("expected at least two classes, found only one class")
        self._names = _class_names(self.classes_)
        labels = pa.array(self._names).take(pa.array(codes, pa.int64()))
        table = table.append_column(_LABEL, labels)
        folder = Path(tempfile.mkdtemp(prefix="wirebert-"))
        try:
            self.detector_ = self._trained(table, folder)
        except UserError as error:
            raise ValueError(str(error)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return self

    def predict_proba(self, X: Any) -> Float64[np.ndarray, "rows classes"]:
        """The probability of each class of each row, in the order of `classes_`."""
        check_is_fitted(self)
        table = self._table(X, is_fit=False)
        try:
            probabilities = self.detector_.predict_proba(table)
        except UserError as error:
            raise ValueError(str(error)) from error
        whole = np.zeros((len(probabilities), len(self.classes_)))
        whole[:, [self._names.index(name) for name in self.detector_.classes]] = probabilities
        return whole

    def predict(self, X: Any) -> Shaped[np.ndarray, " rows"]:
        """The most probable class of each row."""
        chosen = self.predict_proba(X).argmax(axis=1)
        return self.classes_[chosen]

    def _trained(self, table: pa.Table, folder: Path) -> Detector:
        settings = nested_settings(
            {
                "size": self.size,
                "epochs": self.epochs,
                "seed": self.random_state
                if isinstance(self.random_state, int)
                else int(check_random_state(self.random_state).randint(2**31 - 1)),
                "label": _LABEL,
                "benign": None if self.benign is None else self._names[self._code_of(self.benign)],
            }
        )
        settings = merge(settings, nested_settings(self.settings or {}))
        run = resolve_run(given=merge(settings, {"train": str(write_traffic(table, folder, "table"))}))
        run_folder, console = create_run_folder(folder / "run"), SafeConsole()
        console.quiet = True
        data = prepare(run, write_typed_rows(run, run_folder))
        artifact = fit_decision(train_model(run, data, run_folder, RunLog(console)), data)
        return Detector(Scorer(artifact, backend="torch", allow_absent=True))

    def _code_of(self, name: object) -> int:
        found = np.flatnonzero(self.classes_ == name)
        if not len(found):
            raise ValueError(f"benign must be one of the classes {self.classes_.tolist()}, got {name!r}")
        return int(found[0])

    def _table(self, X: Any, *, is_fit: bool) -> pa.Table:
        """The rows as an Arrow table, their number and names of columns checked."""
        if isinstance(X, ArrowStream):
            validate_data(self, cast(Any, X), reset=is_fit, skip_check_array=True)
            table = arrow_table(X)
            if not table.num_rows:
                raise ValueError("Found array with 0 sample(s) while a minimum of 1 is required.")
            if "feature_names_in_" in vars(self):
                return table
            return table.rename_columns([f"x{at}" for at in range(table.num_columns)])  # as of an array
        values = check_array(X, dtype=cast(Any, None), ensure_all_finite=False, estimator=self)
        validate_data(self, values, reset=is_fit, skip_check_array=True)
        return pa.table({f"x{at}": as_arrow(values[:, at]) for at in range(values.shape[1])})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = tags.input_tags.string = True
        return tags

    def __getstate__(self) -> dict[str, object]:
        state = dict(cast(dict[str, object], super().__getstate__()))
        detector = state.pop("detector_", None)
        if isinstance(detector, Detector):
            state["artifact_files"] = _packed(detector)
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        files = state.pop("artifact_files", None)
        super().__setstate__(state)
        if files is not None:
            self.detector_ = _unpacked(cast("dict[str, bytes]", files))


def _class_names(classes: Shaped[np.ndarray, " classes"]) -> list[str]:
    """The classes as labels; numbered where labels are read by meaning and would not stay apart.

    >>> _class_names(np.array(["dos", "normal"])), _class_names(np.array(["DoS", "dos"]))
    (['dos', 'normal'], ['class 0', 'class 1'])
    """
    names = [str(name) for name in classes.tolist()]
    is_apart = len(set(map(fold_label, names))) == len(names) and sum(map(means_benign, names)) <= 1
    if is_apart and not any(map(is_placeholder, names)):
        return names
    return [f"class {at}" for at in range(len(names))]


def _packed(detector: Detector) -> dict[str, bytes]:
    """The files of the model folder."""
    with tempfile.TemporaryDirectory(prefix="wirebert-") as folder:
        path = Path(folder) / "model"
        save_artifact(detector.artifact, path, card=model_card(detector.artifact))
        return {file.name: file.read_bytes() for file in sorted(path.iterdir())}


def _unpacked(files: Mapping[str, bytes]) -> Detector:
    """The detector in these files, each checked as in a model folder."""
    with tempfile.TemporaryDirectory(prefix="wirebert-") as folder:
        for name, content in files.items():
            (Path(folder) / Path(name).name).write_bytes(content)
        artifact = load_artifact(Path(folder))
        artifact = replace(artifact, weights=dict(artifact.weights.items()))  # read before they are deleted
    return Detector(Scorer(artifact, backend="torch", allow_absent=True))
