from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Int64, UInt16, UInt32

from wirebert.encoding.token_rows import take_rows
from wirebert.model.batches import NO_CLASS, pack, score
from wirebert.model.distilbert import DistilBert
from wirebert.telemetry.events import CheckpointEvent, Event, Listener
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.distillation import SoftTargets, expected_classes
from wirebert.training.feeding import LabelledFlows, StepFlows, micro_batches, share_of, steps
from wirebert.training.losses import Objective
from wirebert.training.trainer import fit_model

MakeModel = Callable[..., DistilBert]
MakeFlows = Callable[..., LabelledFlows]
UNLABELLED = -1
LOGITS = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
TEACHER_LOG_PROBS = torch.log(torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]]))
CLASS_IDS = torch.tensor([0, 0, 1])
COUNTS = np.array([90, 10])


def soft(*, temperature: float = 1.0, mix: float = 1.0) -> SoftTargets:
    return SoftTargets(
        log_probabilities=TEACHER_LOG_PROBS.numpy(), temperature=temperature, teacher_weight=mix
    )


def objective(**settings: object) -> Objective:
    return Objective.for_classes(COUNTS, TrainConfig(**settings))  # pyright: ignore[reportArgumentType]


def softmax(logits: np.ndarray, temperature: float) -> np.ndarray:
    exponent = np.exp(logits / temperature)
    return exponent / exponent.sum(axis=1, keepdims=True)


def divergences(temperature: float) -> np.ndarray:
    """KL(teacher || student) of each flow, both at this temperature, by its definition."""
    teacher, student = softmax(TEACHER_LOG_PROBS.numpy(), temperature), softmax(LOGITS.numpy(), temperature)
    return (teacher * np.log(teacher / student)).sum(axis=1)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_teacher_alone_costs_the_divergence_from_it_times_the_square_of_the_temperature(
    temperature: float,
):
    total = soft(temperature=temperature).total(objective(), LOGITS, CLASS_IDS, TEACHER_LOG_PROBS)
    assert float(total) == pytest.approx(temperature**2 * divergences(temperature).sum(), rel=1e-5)


def test_the_gradient_is_that_of_the_papers_cross_entropy_with_soft_targets():
    logits = LOGITS.clone().requires_grad_()
    soft(temperature=2.0).total(objective(), logits, CLASS_IDS, TEACHER_LOG_PROBS).backward()
    other = LOGITS.clone().requires_grad_()
    teacher = (TEACHER_LOG_PROBS / 2).softmax(1)
    (4 * torch.nn.functional.cross_entropy(other / 2, teacher, reduction="sum")).backward()
    torch.testing.assert_close(logits.grad, other.grad)


def test_labels_and_teacher_share_the_loss_as_mix_says():
    hard = float(objective().total(LOGITS, CLASS_IDS))
    total = soft(mix=0.25).total(objective(), LOGITS, CLASS_IDS, TEACHER_LOG_PROBS)
    assert float(total) == pytest.approx(0.75 * hard + 0.25 * divergences(1.0).sum(), rel=1e-5)


def test_without_a_share_for_the_teacher_it_is_the_loss_of_labels():
    total = soft(mix=0.0).total(objective(), LOGITS, CLASS_IDS, TEACHER_LOG_PROBS)
    torch.testing.assert_close(total, objective().total(LOGITS, CLASS_IDS))


def test_a_flow_without_a_label_has_the_teacher_alone():
    class_ids = torch.tensor([0, UNLABELLED, 1])
    total = soft(mix=0.0).total(objective(), LOGITS, class_ids, TEACHER_LOG_PROBS)
    labelled = torch.tensor([0, NO_CLASS, 1])
    expected = float(objective().total(LOGITS, labelled)) + divergences(1.0)[1]
    assert float(total) == pytest.approx(expected, rel=1e-5)


def test_a_row_of_padding_costs_nothing():
    filled = torch.tensor([0, NO_CLASS, 1])
    some = torch.tensor([0, 2])
    total = soft(mix=0.5).total(objective(), LOGITS, filled, TEACHER_LOG_PROBS)
    alone = soft(mix=0.5).total(objective(), LOGITS[some], CLASS_IDS[some], TEACHER_LOG_PROBS[some])
    torch.testing.assert_close(total, alone)


def test_class_weights_weigh_the_teachers_part_too():
    weighed = objective(class_weights="balanced")
    total = soft().total(weighed, LOGITS, CLASS_IDS, TEACHER_LOG_PROBS)
    weights = weighed.class_weights[CLASS_IDS].numpy()
    assert float(total) == pytest.approx((weights * divergences(1.0)).sum(), rel=1e-5)


def test_a_flow_without_a_label_weighs_one():
    weighed = objective(class_weights="balanced")
    assert float(weighed.weight(torch.tensor([UNLABELLED]))) == 1.0


def test_where_there_is_no_label_the_teachers_class_is_expected():
    found = expected_classes(torch.tensor([0, UNLABELLED, NO_CLASS]), TEACHER_LOG_PROBS)
    assert found.tolist() == [0, 1, NO_CLASS]


def test_a_packed_batch_carries_what_the_teacher_says_exactly_and_zeros_for_padding(make_flows: MakeFlows):
    flows = make_flows(11)
    teacher_log_probs = np.random.default_rng(0).normal(size=(11, 3)).astype(np.float32)
    batch = pack(
        flows, np.arange(11), flows.class_ids, pad_id=0, num_flows=16, teacher_log_probs=teacher_log_probs
    )
    assert batch.teacher_log_probs is not None
    assert np.array_equal(batch.teacher_log_probs[:11].numpy(), teacher_log_probs)
    assert not batch.teacher_log_probs[11:].any()
    assert batch.class_ids[:11].tolist() == flows.class_ids.tolist()


def test_a_batch_of_a_teacher_is_of_another_shape_than_one_without(make_flows: MakeFlows):
    flows = make_flows(11)
    plain = pack(flows, np.arange(11), flows.class_ids, pad_id=0)
    teacher_log_probs = pack(
        flows, np.arange(11), flows.class_ids, pad_id=0, teacher_log_probs=np.zeros((11, 3), np.float32)
    )
    assert plain.teacher_log_probs is None
    assert plain.shape != teacher_log_probs.shape
    assert torch.equal(teacher_log_probs.ids, plain.ids)
    assert all(
        torch.equal(one, other)
        for one, other in zip(teacher_log_probs.packing[:4], plain.packing[:4], strict=True)
    )


def by_flow(flows: LabelledFlows) -> np.ndarray:
    """Scores that tell which flow they belong to."""
    return np.stack([np.arange(len(flows.class_ids)) + column / 10 for column in range(3)], axis=1).astype(
        np.float32
    )


def test_each_flow_of_a_step_meets_its_own_scores(make_flows: MakeFlows):
    flows = make_flows(30)
    for step in steps(flows, TrainConfig(epochs=2, batch_size=8), seed=3, teacher_log_probs=by_flow(flows)):
        assert step.teacher_log_probs is not None
        numbers = step.teacher_log_probs[:, 0].astype(int)
        assert np.array_equal(step.rows.ids, take_rows(flows, numbers).ids)
        assert np.array_equal(step.class_ids, flows.class_ids[numbers])


def test_micro_batches_and_shares_keep_scores_beside_their_flows(make_flows: MakeFlows):
    flows = make_flows(30)
    step = StepFlows(0, 0, take_rows(flows, np.arange(30)), flows.class_ids, by_flow(flows))
    for share in (share_of(step, 0, 2), share_of(step, 1, 2)):
        for batch in micro_batches(share, 20, pad_id=0, device=torch.device("cpu")):
            assert batch.teacher_log_probs is not None
            numbers = batch.teacher_log_probs[:, 0].long()
            assert batch.class_ids.tolist() == flows.class_ids[numbers].tolist()


class Stop:
    """Presses Ctrl-C once a checkpoint is written."""

    def receive(self, event: Event) -> None:
        if isinstance(event, CheckpointEvent):
            raise KeyboardInterrupt


@dataclass(frozen=True)
class Half:
    """Flows of which most have no label."""

    flows: LabelledFlows

    @property
    def ids(self) -> UInt16[np.ndarray, " tokens"] | UInt32[np.ndarray, " tokens"]:
        return self.flows.ids

    @property
    def offsets(self) -> Int64[np.ndarray, " flows+1"]:
        return self.flows.offsets

    @property
    def class_ids(self) -> Int64[np.ndarray, " N"]:
        hidden = np.arange(len(self.flows.class_ids)) >= 30
        return np.where(hidden, UNLABELLED, self.flows.class_ids)


def learn(
    model: DistilBert,
    make_flows: MakeFlows,
    folder: Path,
    listeners: tuple[Listener, ...] = (),
    **settings: float,
) -> DistilBert:
    """The model after a training in which 30 of 240 flows have labels and a teacher knows the class of
    all."""
    flows = make_flows(240, seed=1)
    known = np.log(np.where(np.arange(3) == flows.class_ids[:, None], 0.98, 0.01)).astype(np.float32)
    config = TrainConfig(epochs=16, learning_rate=1e-2, batch_size=32, checkpoint_every=5, device="cpu")
    fit_model(
        *(model, Half(flows), make_flows(60, seed=2), replace(config, **settings)),
        seed=5,
        corruption=None,
        checkpoints=CheckpointFolder(folder),
        log=None,
        listeners=listeners,
        soft=SoftTargets(log_probabilities=known, temperature=2.0, teacher_weight=0.5),
    )
    return model


def test_a_student_learns_flows_without_labels_from_its_teacher(
    make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    model = learn(make_model(), make_flows, tmp_path)
    valid = make_flows(60, seed=2)
    assert (score(model, valid).argmax(axis=1) == valid.class_ids).mean() > 0.95


def test_an_interrupted_student_ends_with_the_same_bits(
    make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    whole = learn(make_model(dropout=0.1), make_flows, tmp_path / "whole", epochs=2).state_dict()
    with pytest.raises(KeyboardInterrupt):
        learn(make_model(dropout=0.1), make_flows, tmp_path / "cut", (Stop(),), epochs=2)
    gone_on = learn(make_model(dropout=0.1, seed=7), make_flows, tmp_path / "cut", epochs=2).state_dict()
    assert all(torch.equal(weight, gone_on[name]) for name, weight in whole.items())
