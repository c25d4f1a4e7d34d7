"""Distillation data: unlabelled and augmented flows, and the teacher's probabilities for every flow."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache as once
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np

from wirebert.baselines.fitted import TEACHER_SETTINGS, TokenBaseline
from wirebert.config import RunConfig
from wirebert.data.progress import progress_bar
from wirebert.data.sampling import sample_by_name
from wirebert.decision.logit_offsets import add_logit_offsets
from wirebert.encoding.augmentation import augment_rows
from wirebert.encoding.store import EncodedFlows, StoreWriter, find_or_encode, store_key
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.detector import Detector
from wirebert.shapes import Int64
from wirebert.training.distillation import SoftTargets
from wirebert.training.teacher_store import windows
from wirebert.workflows.prepare import PreparedData
from wirebert.workflows.teacher import PredictLogProba, Teacher, append_unlabelled, teacher_log_probs

MAX_FITTED: Final = 200_000
"""Most flows that a teacher is fitted on, all rare classes included: as many as the report's baseline."""


@dataclass(frozen=True, slots=True)
class DistillationData:
    """What a model learns from: flows and soft targets."""

    flows: EncodedFlows
    """The training flows, followed by flows without a class, if there are any."""
    soft_targets: SoftTargets | None = None
    """The teacher's probabilities for each flow, if there is a teacher."""
    fitted_teacher: Callable[[], TokenBaseline] | None = None
    """A teacher that is fitted on the training flows; fitted at the first call."""


def build_distillation_data(
    run: RunConfig,
    data: PreparedData,
    tokenizer: FlowTokenizer,
    train: EncodedFlows,
    valid: EncodedFlows,
    cache: Path,
) -> DistillationData:
    """The flows to train on, with synthetic ones, and the probabilities of the teacher, if there is one."""
    how = run.distillation
    if not how.teacher:
        return DistillationData(train)
    assert train.folder is not None, "training flows lie on disk"
    assert valid.folder is not None, "validation flows lie on disk"
    flows = _with_augmented(run, data, tokenizer, train, cache) if how.augmentation_factor else train
    size = (len(flows), len(data.classes.classes))
    if data.teacher is not None:
        return DistillationData(
            flows,
            teacher_log_probs(
                how, flows, size, data.teacher.fingerprint, _teacher_log_probs(run, data.teacher)
            ),
        )

    name = "text_svm" if how.teacher == "text_svm" else "gbdt"
    params = TEACHER_SETTINGS[name] | ({} if name == "text_svm" else {"class_weight": how.gbdt_class_weights})

    @once  # fitted on demand: its probabilities may already be on disk
    def fitted() -> TokenBaseline:
        sample = np.flatnonzero(sample_by_name(np.asarray(train.class_ids), MAX_FITTED, run.seed))
        block = take_rows(train.block, sample)
        class_ids = np.asarray(train.class_ids)[sample]
        return TokenBaseline.fit(
            name, params, tokenizer, block, class_ids, valid, num_classes=size[1], seed=run.seed
        )

    teacher_key = fingerprint(name, params, run.seed, train.folder.name, valid.folder.name)
    return DistillationData(
        flows,
        teacher_log_probs(how, flows, size, teacher_key, lambda block: fitted().predict_encoded(block)),
        fitted,
    )


def fingerprint(*words: object) -> str:
    """Sha256 of everything that determines the predictions of a fitted teacher, as hexadecimal text."""
    return hashlib.sha256(json.dumps([*words, version("scikit-learn")]).encode()).hexdigest()


def _teacher_log_probs(run: RunConfig, teacher: Teacher) -> PredictLogProba:
    """The teacher's calibrated probabilities, without its logit offsets: the student adds its own later."""
    detector = Detector(teacher.artifact, device=run.training.device, backend="torch")
    return lambda block: add_logit_offsets(
        detector.score_encoded(block).probabilities, -teacher.class_addends
    )


def _with_augmented(
    run: RunConfig, data: PreparedData, tokenizer: FlowTokenizer, train: EncodedFlows, cache: Path
) -> EncodedFlows:
    """The training flows, then synthetic flows by column mixing; copies of evaluated flows are left out."""
    assert train.folder is not None, "training flows lie on disk"
    num_mixed = round(run.distillation.augmentation_factor * len(train))
    made = progress_bar(augment_rows(tokenizer, train, num_mixed, run.seed), "mixing", len, total=num_mixed)
    blocks: Iterator[tuple[JaggedRows, Int64[np.ndarray, " rows"]]] = (
        (block, np.full(len(block), -1)) for block in made
    )

    def write(store: StoreWriter) -> None:
        first = 0
        for block in windows(train):
            window = slice(first, first + len(block))
            store.append(block, np.asarray(train.class_ids[window]), np.asarray(train.rows[window]))
            first += len(block)
        append_unlabelled(store, tokenizer, blocks, data.evaluated)

    evaluated = [part.rows for part in data.evaluated if part.rows is not None]
    note = json.dumps(["mixed, texts too", train.folder.name, num_mixed, run.seed])
    key = store_key(data.fingerprint, tokenizer, *evaluated, note=note)
    return find_or_encode(cache, key, tokenizer, write)[0]
