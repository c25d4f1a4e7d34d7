"""A student and its teacher: shared settings, the teacher's probabilities, and the gap between the two."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from wirebert.config import RunConfig
from wirebert.data.checks.profile import TableProfile
from wirebert.data.flows import DataConfig, Flows, FlowSubset, open_flows
from wirebert.data.labels import UNLABELLED, ClassMap
from wirebert.data.progress import progress_bar
from wirebert.data.schema.schema import FlowSchema
from wirebert.decision.config import DecisionConfig, logit_offsets_of
from wirebert.encoding.store import EncodedFlows, StoreWriter, row_hashes
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ConfigError, DataError
from wirebert.evaluation.evaluate import evaluate_detector
from wirebert.evaluation.predictions_file import as_labelled_rows, positions, read_predictions
from wirebert.inference.artifact import Artifact, load_artifact
from wirebert.inference.coverage import coverage_of
from wirebert.inference.detector import Detector
from wirebert.metrics.student_gap import SplitGap, TeacherGap, split_gap
from wirebert.plurals import counted
from wirebert.run_folder import RunFolder
from wirebert.serialization import settings_from_dict, settings_to_dict
from wirebert.shapes import Bool, Float, Float64, Int64
from wirebert.training.distillation_config import DistillationConfig
from wirebert.training.teacher_store import cached_log_probs, windows
from wirebert.workflows.pretrained import pretrained_tokenizer

if TYPE_CHECKING:
    from wirebert.training.distillation import SoftTargets

COLUMNS: Final = (
    *("label", "benign", "positive", "schema", "drop", "feature_combinations", "context", "context_short_s"),
    *("context_long_s", "min_class_rows", "rare_classes"),
)
"""Settings of section `data` that determine columns and classes: a student has those of its teacher."""

SPLIT: Final = (
    *("split", "valid_fraction", "test_fraction", "split_seed"),
    *("time_column", "group_column", "left_out_class"),
)
"""Settings that determine the split: by default the teacher's, which never trained on its validation rows."""

STUDENT_AIM: Final = ("class_weights", "feature_corruption", "column_dropout")
"""Settings of section `training` that determine what is learned, not how fast: by default the teacher's."""

STUDENT_DEFAULTS: Final = {"augmentation_factor": 2.0, "temperature": 1.0, "teacher_weight": 0.9}
"""Default settings of a student: of those tried, they agree with the teacher on the most validation rows."""

PredictLogProba = Callable[[JaggedRows], Float[np.ndarray, "flows classes"]]
"""A teacher's prediction: probability of each class."""


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches another."""

    folder: Path
    artifact: Artifact

    @classmethod
    def load(cls, folder: Path) -> "Teacher":
        """The teacher in a model folder.

        Raises:
            ArtifactError: there is no model, or a damaged one.
        """
        return cls(folder, load_artifact(folder))

    @property
    def schema(self) -> FlowSchema:
        """The columns that the teacher reads."""
        return self.artifact.schema

    @property
    def tokenizer(self) -> FlowTokenizer:
        """The tokenizer of the teacher."""
        return self.artifact.tokenizer

    @cached_property
    def fingerprint(self) -> str:
        """Sha256 of everything that determines its predictions, as hexadecimal text."""
        classes = self.artifact.classes
        words = [self.tokenizer.to_dict(), classes.classes, dict(classes.label_map)]
        digest = hashlib.sha256(json.dumps(words, sort_keys=True).encode())
        for name, weight in sorted(self.artifact.weights.items()):
            digest.update(name.encode() + weight.tobytes())
        return digest.hexdigest()

    @property
    def data(self) -> DataConfig:
        """The data settings of its training, with an explicit split seed and without a cache."""
        config = settings_from_dict(DataConfig, self._section("data"), "data.")
        seed = cast(int, self._settings.get("seed", 1))
        return replace(
            config, split_seed=seed if config.split_seed is None else config.split_seed, cache=None
        )

    @cached_property
    def class_addends(self) -> Float64[np.ndarray, " classes"]:
        """Offsets added to its logits after calibration; a student learns without them and adds its own."""
        config = settings_from_dict(DecisionConfig, self._section("decision"), "decision.")
        return logit_offsets_of(config, self.artifact.classes.classes)

    def settings(self) -> dict[str, object]:
        """Default settings of a student, most of them taken from its teacher."""
        aim = {name: value for name, value in self._section("training").items() if name in STUDENT_AIM}
        return {
            "data": settings_to_dict(self.data),
            "encoding": settings_to_dict(self.tokenizer.config),
            "training": aim,
            "distillation": STUDENT_DEFAULTS,
            "decision": self._section("decision"),
            "evaluation": self._section("evaluation"),
        }

    @property
    def _settings(self) -> Mapping[str, object]:
        return cast(Mapping[str, object], self.artifact.origin.get("settings", {}))

    def _section(self, name: str) -> Mapping[str, object]:
        return cast(Mapping[str, object], self._settings.get(name, {}))

    def check(self, run: RunConfig) -> None:
        """Raise a ConfigError if the student's settings contradict those that it takes over."""
        ours, theirs = run.encoding, self.tokenizer.config
        pairs = {f"encoding.{name}": (getattr(ours, name), getattr(theirs, name)) for name in _names(ours)}
        pairs |= {f"data.{name}": (getattr(run.data, name), getattr(self.data, name)) for name in COLUMNS}
        for name, (value, teacher_value) in pairs.items():
            if value != teacher_value:
                raise ConfigError(
                    f"{name} must be {teacher_value!r} as in the training of the teacher, whose columns and "
                    f"tokens the student takes over, got {value!r}; leave it out"
                )
        tokenizer = pretrained_tokenizer(run)
        if tokenizer is not None and _tokens(tokenizer) != _tokens(self.tokenizer):
            raise ConfigError(
                f"model.init_from={run.model.init_from!r}: expected a model with the teacher's tokens, found "
                "one with others; leave it out, or start from the model that the teacher started from"
            )

    def require_columns(self, flows: Flows) -> Flows:
        """The traffic, with a finding on features that it lacks; a SchemaError if it lacks most."""
        return replace(flows, findings=(*flows.findings, *coverage_of(flows, self.schema).findings))

    def classes_for(self, seen: TableProfile, left_out: str | None) -> ClassMap:
        """The teacher's classes, checked against the profile of the data.

        Raises:
            DataError: the data has no labels, or a class that the teacher does not know and is not left out.
        """
        classes = self.artifact.classes
        counts = {name: count for name, count in classes.counts(seen.label_counts).items() if count}
        unknown = [name for name in counts if name not in (*classes.classes, left_out)]
        if unknown or not counts:
            found = (
                ", ".join(f"{name!r} ({counted(counts[name], 'row')})" for name in unknown)
                or "no label at all"
            )
            raise DataError(
                f"column {seen.schema.label!r}: expected the classes that the teacher knows "
                f"({', '.join(classes.classes)}), found {found}; leave these rows out, or train a teacher "
                "that knows them"
            )
        return classes

    def is_fresh(self, run: RunConfig, fingerprint: str) -> bool:
        """Whether the run's validation rows are the teacher's own, on which it was not trained."""
        is_same_split = all(getattr(run.data, name) == getattr(self.data, name) for name in SPLIT)
        return is_same_split and self.artifact.origin.get("train_sha256") == fingerprint


def find_teacher(run: RunConfig) -> Teacher | None:
    """The teacher model that the run names, if it names one.

    Raises:
        ArtifactError: there is no model, or a damaged one.
        ConfigError: the run's settings contradict those that a student takes over.
    """
    if run.distillation.model_folder is None:
        return None
    teacher = Teacher.load(run.distillation.model_folder)
    teacher.check(run)
    return teacher


def distillation_inputs(run: RunConfig, teacher: Teacher) -> dict[str, str]:
    """Fingerprints of the teacher and the unlabelled data of a student, by their description."""
    unlabelled = _unlabelled(run, teacher)
    files = {f"unlabelled data {name}": flows.fingerprint() for name, flows in unlabelled.items()}
    return {"teacher": teacher.fingerprint} | files


def unlabelled_parts(
    run: RunConfig, teacher: Teacher, flows: Flows, is_unlabelled: Bool[np.ndarray, " rows"]
) -> tuple[FlowSubset, ...]:
    """Flows trained on the teacher's predictions only: unlabelled training rows and other traffic."""
    unlabelled = [FlowSubset("unlabelled", flows, is_unlabelled)] if is_unlabelled.any() else []
    return (*unlabelled, *(FlowSubset("unlabelled", other) for other in _unlabelled(run, teacher).values()))


def append_unlabelled(
    store: StoreWriter,
    tokenizer: FlowTokenizer,
    blocks: Iterable[tuple[JaggedRows, Int64[np.ndarray, " rows"]]],
    evaluated: Sequence[FlowSubset],
) -> None:
    """Write unlabelled rows and their row numbers to the store, except copies of `evaluated` rows."""
    encoded = (tokenizer.encode(table) for part in evaluated for table in part.tables())
    evaluated_hashes = np.unique(np.concatenate([np.empty(0, np.uint64), *map(row_hashes, encoded)]))
    for block, rows in blocks:
        is_new = np.flatnonzero(~np.isin(row_hashes(block), evaluated_hashes))
        store.append(take_rows(block, is_new), np.full(len(is_new), UNLABELLED), rows[is_new])


def teacher_log_probs(
    how: DistillationConfig,
    flows: EncodedFlows,
    size: tuple[int, int],
    fingerprint: str,
    say: PredictLogProba,
) -> "SoftTargets":
    """A teacher's probabilities for each training flow, stored next to the flows for all trainings on them.

    Args:
        size: Number of flows and classes.
        fingerprint: Of everything except the flows that determines its predictions.
        say: The teacher's class probabilities of some flows.
    """
    from wirebert.training.distillation import SoftTargets  # PyTorch, which the reading of rows does not need

    assert flows.folder is not None, "training flows lie on disk"
    path = flows.folder.with_name(f"{flows.folder.name}.{fingerprint[:32]}.soft_targets")
    what = "fitting and asking trees" if how.teacher == "gbdt" else "asking the teacher"
    log_probs = cached_log_probs(path, progress_bar(windows(flows), what, len, total=len(flows)), size, say)
    return SoftTargets(
        log_probabilities=log_probs, temperature=how.temperature, teacher_weight=how.teacher_weight, path=path
    )


def compare_with_teacher(
    run: RunConfig,
    folder: RunFolder,
    teacher: Teacher,
    parts: Sequence[FlowSubset],
    *,
    fingerprint: str,
    num_unlabelled: int,
) -> TeacherGap:
    """Evaluate the teacher on the same rows as the student, whose predictions are already in `folder`.

    Args:
        fingerprint: Of the training data.
        num_unlabelled: Training flows without a label.
    """
    detector = Detector(
        teacher.artifact,
        device=run.training.device,
        backend="torch",
        allow_absent=run.data.allow_absent,
    )
    seed, num_resamples = run.seed, run.evaluation.num_resamples
    splits: dict[str, SplitGap] = {}
    for part in parts:
        teacher_file = folder.teacher.predictions(part.name)
        evaluate_detector(detector, part, teacher_file, seed=seed, num_resamples=num_resamples)
        ours, theirs = read_predictions(folder.predictions(part.name)), read_predictions(teacher_file)
        names = sorted({*ours.true, *ours.names, *theirs.names})
        student_ids, teacher_ids = (positions(side.names, names)[side.predicted] for side in (ours, theirs))
        labelled = as_labelled_rows(ours, names, detector.artifact.classes.benign)
        splits[part.name] = split_gap(
            labelled, student_ids, teacher_ids, seed=seed, num_resamples=num_resamples
        )
    return TeacherGap(
        teacher=str(teacher.folder),
        teacher_parameters=detector.num_parameters,
        num_unlabelled=num_unlabelled,
        is_fresh=teacher.is_fresh(run, fingerprint),
        splits=splits,
    )


def _unlabelled(run: RunConfig, teacher: Teacher) -> dict[str, Flows]:
    """The traffic that `distillation.unlabelled` names, under the teacher's schema."""
    sources = run.distillation.unlabelled
    opened = {name: open_flows(name, run.data, schema=teacher.schema) for name in sources}
    return {name: teacher.require_columns(flows) for name, flows in opened.items()}


def _tokens(tokenizer: FlowTokenizer) -> dict[str, Any]:
    """Everything that determines how a row is encoded; the choice of label column does not."""
    return {name: value for name, value in tokenizer.to_dict().items() if name != "schema"}


def _names(settings: object) -> list[str]:
    return [field.name for field in fields(cast(Any, settings))]
