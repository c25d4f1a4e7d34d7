"""Learning without labels: unlabelled traffic in, a detector of unusual flows out.

The order is that of a training. The latest rows are split off before anything is fitted, and set the
thresholds. A masked language model learns the other rows; how much each feature of a flow surprises it is the
flow's score; a classifier of one pass is trained to give the same score. No label is read.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from wirebert.config import LearnConfig, write_run
from wirebert.data.labels import UNLABELLED, ClassMap
from wirebert.data.progress import progress_bar
from wirebert.decision.calibration import LogitScaling
from wirebert.decision.fit import (
    NoveltyRows,
    add_novelty,
    calibrated_attack_scores,
    measure_novelty,
    unlabelled_operating_point,
)
from wirebert.encoding.augmentation import augment_rows
from wirebert.encoding.store import EncodedFlows, StoreWriter, row_hashes
from wirebert.encoding.token_rows import JaggedRows, take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.detector import choose_device
from wirebert.inference.export import add_default_export
from wirebert.inference.score_cache import distinct_rows
from wirebert.metrics.masked_lm import MaskedMetrics, column_metrics, masked_metrics
from wirebert.model.batches import SCORE_WINDOW, score
from wirebert.model.checkpoints import build, numpy_state
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout
from wirebert.model.masked_predictions import predict_masked
from wirebert.report.learning import LearningReport
from wirebert.run_folder import RunFolder
from wirebert.shapes import Bool, Float64, Int64
from wirebert.training.config import TrainConfig
from wirebert.training.device import check_machine
from wirebert.training.distillation import SoftTargets
from wirebert.training.feeding import NO_STEP
from wirebert.training.masking import Masking
from wirebert.training.parallel.process_group import SINGLE_PROCESS, ProcessGroup
from wirebert.training.seeding import Purpose, mix
from wirebert.training.teacher_store import WINDOW, cached_log_probs, windows
from wirebert.unsupervised.surprisal import SurprisalScorer, grouped_passes
from wirebert.unsupervised.targets import UnusualTarget, most_surprising
from wirebert.untrusted_text import warn
from wirebert.workflows.fit import origin_of, run_training, with_reference, with_threads
from wirebert.workflows.learning_report import (
    UNUSUAL_ID,
    Learned,
    describe_learning,
    show_learning,
    write_learning,
)
from wirebert.workflows.model_card import learned_card
from wirebert.workflows.prepare import PreparedData, encode, encoded_folder, fit_tokenizer
from wirebert.workflows.report import RunLog, show_data
from wirebert.workflows.unlabelled_rows import prepare_rows

CLASSES: Final = ClassMap(classes=("normal", "unusual"), benign="normal")

FLOWS_SEEN: Final = 150_000
"""Flows that each of the two trainings sees, all at least twice, unless training.epochs is set."""
MAX_EPOCHS: Final = 20
MAX_SCORED: Final = 50_000
"""Training flows, drawn at random, whose surprisal the one-pass model learns, beside synthetic ones."""
MAX_REFERENCE: Final = 20_000
"""Training flows whose surprisal makes the scale of the score."""
TEMPERATURE: Final = 2.0
"""Of the distillation loss."""
COMPARED_FLOWS: Final = 1_000
"""Later flows on which the score is compared with the full leave-one-out surprisal."""


@dataclass(frozen=True)
class EncodedTraffic:
    """The training flows and the later flows as tokens."""

    tokenizer: FlowTokenizer
    masking: Masking
    train: EncodedFlows
    later: EncodedFlows


def learn(
    run: LearnConfig, folder: RunFolder, console: Console, group: ProcessGroup = SINGLE_PROCESS
) -> LearningReport:
    """Learn a detector of unusual flows in `folder` and write its report.

    An interrupted run continues from its newest checkpoint. The other processes of the group only train.
    """
    check_machine(run.training)
    log = RunLog(console)
    run = replace(run, training=with_threads(run.training))
    write_run(run, folder.run_toml)
    data = prepare_rows(run, folder)  # checks, split; nothing is fitted yet
    show_data(data.flows, {}, data.findings, console, num_rows=data.profile.num_rows)
    log.end_stage("reading_and_checks")
    learned = learn_detector(run, folder, data, log, group)
    save_artifact(learned.artifact, folder.model, card=learned_card(learned.artifact, data.split))
    if (reason := add_default_export(folder.model)) is not None:
        warn(f"no ONNX export was written, so scoring needs PyTorch: {reason}")
    log.end_stage("export")
    report = describe_learning(run, folder, data, learned)
    log.end_stage("report")
    report = replace(report, timing=log.seconds)
    write_learning(report, folder)
    folder.discard_working_files()
    show_learning(report, folder, console)
    return report


def learn_detector(
    run: LearnConfig,
    folder: RunFolder,
    data: PreparedData,
    log: RunLog,
    group: ProcessGroup = SINGLE_PROCESS,
) -> Learned:
    """The detector of the rows for training in `data`, with thresholds from its validation rows."""
    traffic = encode_traffic(run, data, folder)
    log.end_stage("encoding")
    masked = pretrain(run, folder, traffic, log.console, group)
    log.end_stage("pretraining")
    passes = grouped_passes(traffic.tokenizer, run.surprisal.num_groups, run.seed)
    device = choose_device(run.training.device)
    scorer = SurprisalScorer(masked, traffic.tokenizer, traffic.masking, passes, device)
    targets = surprisal_targets(run, folder, traffic, scorer)
    log.end_stage("surprisal")
    model = train_scorer(run, folder, traffic, scorer, targets, log.console, group)
    group.release_workers()
    log.end_stage("training")
    is_trusted = trusted_rows(run, data, traffic, targets[1])
    artifact = build_artifact(run, data, traffic, model, is_trusted)
    log.end_stage("thresholds")
    quality = masked_quality(run, folder, traffic, masked)
    correlation = compare_with_leave_one_out(run, traffic, model, scorer)
    log.end_stage("comparison")
    num_left_out = len(scored_flows(run, traffic)) - int(is_trusted.sum())
    return Learned(artifact, num_left_out, quality, correlation)


def encode_traffic(run: LearnConfig, data: PreparedData, folder: RunFolder) -> EncodedTraffic:
    """Training and later flows as tokens, by a tokenizer that is fitted on the training flows."""
    cache = encoded_folder(run, folder)
    tokenizer = fit_tokenizer(run, data, cache)
    train, later = (encode(part, data, tokenizer, cache) for part in (data.train, data.valid))
    return EncodedTraffic(tokenizer, Masking.of(tokenizer, run.masking), train, later)


def stage_settings(training: TrainConfig, num_flows: int, width: int, head_rate: float) -> TrainConfig:
    """The settings of one of the two trainings, with epochs and learning rate chosen."""
    epochs = min(MAX_EPOCHS, max(2, -(-FLOWS_SEEN // max(1, num_flows))))
    training = replace(training, epochs=training.epochs or epochs, classifier_lr_multiplier=head_rate)
    return training.resolved(num_flows=num_flows, width=width, is_pretrained=False)


def pretrain(
    run: LearnConfig, folder: RunFolder, traffic: EncodedTraffic, console: Console, group: ProcessGroup
) -> DistilBert:
    """The masked language model of the training flows."""
    tokenizer, masking = traffic.tokenizer, traffic.masking
    valid_flows = mask_once(traffic.later, masking, folder.encoded / "masked", run.seed)
    model = build(run.model, TokenLayout.of(tokenizer), seed=run.seed, max_masked=masking.max_masked)
    # The head is as new as the other layers, so it learns at the same rate.
    training = stage_settings(run.training, len(traffic.train), model.architecture.dim, 1.0)
    folder.pretraining.path.mkdir(exist_ok=True)
    run_training(
        replace(run, training=training),
        folder.pretraining,
        model,
        tokenizer,
        traffic.train,
        valid_flows,
        console,
        group,
        masking,
        resume=f"learn --resume {folder.path}",
    )
    return model


def masked_quality(
    run: LearnConfig, folder: RunFolder, traffic: EncodedTraffic, model: DistilBert
) -> dict[str, MaskedMetrics]:
    """How well masked features of later flows are predicted, column by column; `""`: all together."""
    flows = EncodedFlows.open(folder.encoded / "masked")
    predictions = predict_masked(model, flows, device=choose_device(run.training.device))
    slots = traffic.tokenizer.default_ids, traffic.tokenizer.token_slots
    columns = column_metrics(*predictions, *slots, traffic.tokenizer.slot_names)
    return {"": masked_metrics(*predictions, *slots), **columns}


def mask_once(flows: EncodedFlows, masking: Masking, folder: Path, seed: int) -> EncodedFlows:
    """The flows with fixed masks, the same in every evaluation; written to `folder`."""

    def masked() -> Iterable[JaggedRows]:
        for number, block in enumerate(windows(flows, SCORE_WINDOW)):
            rows = masking.apply(block, mix(seed, Purpose.CORRUPTION, NO_STEP, number * SCORE_WINDOW))
            yield JaggedRows(rows.ids, rows.offsets, 0)

    return write_flows(folder, masking.dtype, masked(), np.asarray(flows.class_ids))


def write_flows(
    folder: Path,
    dtype: np.dtype[np.uint16] | np.dtype[np.uint32],
    blocks: Iterable[JaggedRows],
    class_ids: Int64[np.ndarray, " flows"] | None = None,
) -> EncodedFlows:
    """Encoded flows on disk; without `class_ids` they are unlabelled."""
    first = 0
    with StoreWriter(folder, dtype) as store:
        for block in blocks:
            rows = np.arange(first, first + len(block))
            first += len(block)
            store.append(
                block, np.full(len(block), UNLABELLED) if class_ids is None else class_ids[rows], rows
            )
    return EncodedFlows.open(folder)


def scored_flows(run: LearnConfig, traffic: EncodedTraffic) -> Int64[np.ndarray, " flows"]:
    """The training flows, by position, whose surprisal is computed; in random order."""
    return np.random.default_rng(run.seed).permutation(len(traffic.train))[:MAX_SCORED]


def surprisal_targets(
    run: LearnConfig, folder: RunFolder, traffic: EncodedTraffic, scorer: SurprisalScorer
) -> tuple[EncodedFlows, SoftTargets, UnusualTarget]:
    """Some training flows (`scored_flows`), then synthetic ones; and P(normal) and P(unusual) of each."""
    train, some = traffic.train, scored_flows(run, traffic)
    reference = scorer.surprisals(take_rows(train.block, np.sort(some[:MAX_REFERENCE])))
    target = UnusualTarget.fit(reference, run.surprisal.left_out_fraction)
    num_mixed = round(run.surprisal.augmentation_factor * len(some))
    mixed = augment_rows(traffic.tokenizer, train, num_mixed, run.seed)
    drawn = (take_rows(train.block, some[first : first + WINDOW]) for first in range(0, len(some), WINDOW))
    flows = write_flows(folder.encoded / "scored", traffic.tokenizer.dtype, chain(drawn, mixed))
    watched = progress_bar(windows(flows), "surprisal", len, total=len(flows))
    path = folder.encoded / "scored.soft_targets"

    def ask(block: JaggedRows) -> Float64[np.ndarray, "flows 2"]:
        distinct = distinct_rows(block, row_hashes(block))
        found = target.probabilities(scorer.surprisals(take_rows(block, distinct.rows)))
        return found[distinct.numbers]

    log_probs = cached_log_probs(path, watched, (len(flows), 2), ask)
    soft = SoftTargets(log_probabilities=log_probs, temperature=TEMPERATURE, teacher_weight=1.0, path=path)
    return flows, soft, target


def train_scorer(
    run: LearnConfig,
    folder: RunFolder,
    traffic: EncodedTraffic,
    scorer: SurprisalScorer,
    targets: tuple[EncodedFlows, SoftTargets, UnusualTarget],
    console: Console,
    group: ProcessGroup,
) -> DistilBert:
    """A classifier that gives the score in one pass, trained from the body of the masked language model."""
    flows, soft, target = targets
    model = build(run.model, TokenLayout.of(traffic.tokenizer), classes=CLASSES.classes, seed=run.seed)
    body = {name: part.cpu() for name, part in scorer.model.state_dict().items() if "masked." not in name}
    model.load_state_dict(body, strict=False)
    # Validation reads classes: each is drawn by its probability, so the loss is lowest where both agree.
    p_unusual = target.probabilities(scorer.surprisals(traffic.later))[:, UNUSUAL_ID]
    class_ids = (np.random.default_rng(run.seed).random(len(p_unusual)) < p_unusual).astype(np.int64)
    dtype = traffic.tokenizer.dtype
    later = write_flows(folder.encoded / "later", dtype, windows(traffic.later), class_ids)
    rate = run.training.classifier_lr_multiplier
    run_training(
        replace(run, training=stage_settings(run.training, len(flows), model.architecture.dim, rate)),
        folder,
        model,
        traffic.tokenizer,
        flows,
        later,
        console,
        group,
        soft=soft,
        resume=f"learn --resume {folder.path}",
    )
    return model


def trusted_rows(
    run: LearnConfig, data: PreparedData, traffic: EncodedTraffic, soft: SoftTargets
) -> Bool[np.ndarray, " rows"]:
    """The rows that stand for normal: those whose surprisal is known, but for the most surprising ones."""
    some = scored_flows(run, traffic)
    unusual = np.asarray(soft.log_probabilities[: len(some), UNUSUAL_ID])
    is_out = most_surprising(unusual, run.surprisal.left_out_fraction)
    is_trusted = np.zeros(data.profile.num_rows, bool)
    is_trusted[np.asarray(traffic.train.rows)[some[~is_out]]] = True
    return is_trusted


def build_artifact(
    run: LearnConfig,
    data: PreparedData,
    traffic: EncodedTraffic,
    model: DistilBert,
    is_trusted: Bool[np.ndarray, " rows"],
) -> Artifact:
    """The detector: kept flows from the trusted rows, thresholds from the later ones."""
    logits = score(model, traffic.later, device=choose_device(run.training.device))
    model.cpu()
    scores = calibrated_attack_scores(logits, LogitScaling.identity(len(CLASSES.classes)), 0)
    num_distinct = len(np.unique(row_hashes(traffic.later)))
    operating = unlabelled_operating_point(scores, num_distinct, run.decision)
    measured = None
    if run.decision.novelty_reference_flows:
        is_later = np.zeros(len(is_trusted), bool)
        is_later[traffic.later.rows] = True
        joins = run.decision.alert_score == "attack_and_novelty"
        rows = NoveltyRows(
            flows=data.flows,
            is_train=is_trusted,
            is_valid=is_later,
            is_benign=is_later,
            num_kept=run.decision.novelty_reference_flows,
            seed=run.seed,
            joins_attack_score=joins,
            is_relative=True,
        )
        measured = measure_novelty(lambda: rows)
        operating = add_novelty(operating, measured, scores if joins else None, run.decision.novelty_weight)
    artifact = Artifact(
        architecture=model.architecture,
        weights=numpy_state(model),
        tokenizer=replace(traffic.tokenizer, schema=data.schema or traffic.tokenizer.schema),
        classes=CLASSES,
        origin=origin_of(run, data),
        operating_point=operating,
        novelty=None if measured is None else measured.scorer,
    )
    novelty = None if measured is None else measured.scores
    return with_reference(artifact, traffic.later, logits.astype(np.float64), novelty)


def compare_with_leave_one_out(
    run: LearnConfig,
    traffic: EncodedTraffic,
    model: DistilBert,
    scorer: SurprisalScorer,
) -> float:
    """Rank correlation of the model's score with the full leave-one-out surprisal, on some later flows.

    The latter predicts each column from all others, one pass per column.
    """
    later = traffic.later
    some = np.sort(np.random.default_rng(run.seed).permutation(len(later))[:COMPARED_FLOWS])
    rows = take_rows(later.block, some)
    train = np.sort(np.random.default_rng(run.seed).permutation(len(traffic.train))[:COMPARED_FLOWS])
    full = replace(scorer, passes=grouped_passes(traffic.tokenizer, None, run.seed))
    reference = full.surprisals(take_rows(traffic.train.block, train))
    expected = UnusualTarget.fit(reference, run.surprisal.left_out_fraction).scores(full.surprisals(rows))
    logits = score(model, rows, device=scorer.device)
    from scipy.stats import rankdata  # a second of imports, which `train` does not need

    ranks = rankdata(logits[:, UNUSUAL_ID] - logits[:, 0]), rankdata(expected)
    if min(map(np.ptp, ranks)) == 0:
        return 0.0  # all flows rank alike
    return float(np.corrcoef(*ranks)[0, 1])
