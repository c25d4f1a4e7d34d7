"""One whole training: epochs, validation, early stopping, checkpoints, and going on after an interruption."""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from math import isfinite
from typing import Any, Final, NamedTuple, cast, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from wirebert.errors import RunError, TrainingError
from wirebert.model.batches import score
from wirebert.model.distilbert import DistilBert
from wirebert.training.checkpoint import Checkpoint, CheckpointFolder, pack_state, unpack_state, weights_of
from wirebert.training.corruption import Corruption
from wirebert.training.feeding import LabelledRows, steps, steps_per_epoch
from wirebert.training.loop import TrainState, TrainStep, train, undisturbed
from wirebert.training.monitoring import (
    CheckpointEvent,
    EndEvent,
    EpochEvent,
    Event,
    Listener,
    MetricsLog,
    StartEvent,
    StepEvent,
    WarningEvent,
)
from wirebert.training.optimizer import learning_rates
from wirebert.training.settings import TrainConfig

NOT_YET: Final = -1
# Settings that change no weight: a run may be resumed with others.
FREE_SETTINGS: Final = ("device", "log_every", "keep_checkpoints", "checkpoint_every", "micro_batch_tokens")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingResult:
    """What a finished training leaves besides the model, which holds the best weights."""

    best_step: int
    best_valid_loss: float
    history: tuple[EpochEvent, ...]
    """Every evaluation, in order."""

    stopped_early: bool
    seconds: float
    """Time spent training and evaluating, before an interruption too."""

    rows_per_s: float
    """Training flows per second of that time."""


class Validation(NamedTuple):
    """How the model does on the validation flows."""

    loss: float
    accuracy: float
    macro_f1: float


@dataclass(slots=True, kw_only=True)
class Progress:
    """What the driver knows beyond the training state; plain values, saved with every checkpoint."""

    best_step: int = NOT_YET
    best_valid_loss: float = 0.0
    num_worse: int = 0
    """Evaluations since the best one."""

    stopped_early: bool = False
    evaluated_step: int = NOT_YET
    overflows: int = 0
    elapsed_s: float = 0.0
    flows_since: int = 0
    """Flows since the last evaluation, and sums over them."""

    loss_since: float = 0.0
    right_since: float = 0.0
    history: list[dict[str, object]] = field(default_factory=list)


def fit_model(
    model: DistilBert,
    train_flows: LabelledRows,
    valid_flows: LabelledRows,
    config: TrainConfig,
    *,
    seed: int,
    corruption: Corruption | None,
    checkpoints: CheckpointFolder,
    log: MetricsLog,
    listeners: Sequence[Listener] = (),
) -> TrainingResult:
    """Train `model` in place; afterwards it is on the CPU and holds the weights with the lowest validation loss.

    Goes on from the newest whole checkpoint in `checkpoints` if there is one, to the same bits on the same CPU. On
    Ctrl-C the last complete step is saved, then KeyboardInterrupt goes on to the caller.

    Raises:
        TrainingError: no flows to train or validate on, or a loss that is not finite.
        RunError: the checkpoints are damaged, belong to other settings, or can not be written.
    """
    assert config.epochs > 0, "TrainConfig.settled() chooses what is left open"
    assert config.learning_rate > 0, "TrainConfig.settled() chooses what is left open"
    for name, flows in {"training": train_flows, "validation": valid_flows}.items():
        if len(flows.class_ids) == 0:
            raise TrainingError(f"there are no {name} flows; give more data or another data.valid_fraction")
    session = _Session(model, train_flows, valid_flows, config, seed, corruption, checkpoints, log, listeners)
    session.resume()
    try:
        session.run()
    except KeyboardInterrupt:
        session.save()
        raise
    return session.finish()


@final
class _Session:
    def __init__(
        self,
        model: DistilBert,
        train_flows: LabelledRows,
        valid_flows: LabelledRows,
        config: TrainConfig,
        seed: int,
        corruption: Corruption | None,
        checkpoints: CheckpointFolder,
        log: MetricsLog,
        listeners: Sequence[Listener],
    ) -> None:
        self.config, self.corruption = config, corruption
        self.train_flows, self.valid_flows = train_flows, valid_flows
        self.checkpoints, self.log, self.listeners = checkpoints, log, (log, *listeners)
        self.steps_per_epoch = steps_per_epoch(len(train_flows.class_ids), config.batch_size)
        counts = np.bincount(train_flows.class_ids, minlength=model.architecture.num_classes)
        self.state = TrainState.start(
            model, config, seed=seed, num_steps=self.steps_per_epoch * config.epochs, class_counts=counts
        )
        self.progress = Progress()
        self.best_weights: dict[str, Tensor] = {}
        self.saved_step = NOT_YET
        self._began_s = self._read_s = time.perf_counter()
        self._micro_batch_tokens = self.state.micro_batch_tokens

    def resume(self) -> None:
        """Go on from the newest whole checkpoint, if there is one, and tell the listeners that training starts."""
        warnings: list[str] = []
        found = self.checkpoints.newest(warnings.append)
        if found is not None:
            self._unpack(found)
        state = self.state
        self.log.go_back_to(state.step)
        self._micro_batch_tokens = state.micro_batch_tokens
        self._tell(
            StartEvent(
                step=state.step,
                num_steps=state.num_steps,
                num_epochs=self.config.epochs,
                num_train=len(self.train_flows.class_ids),
                num_valid=len(self.valid_flows.class_ids),
                num_parameters=sum(weight.numel() for weight in state.model.parameters()),
                batch_size=self.config.batch_size,
                device=str(state.device),
                precision=state.precision,
                seed=state.seed,
            )
        )
        for message in warnings:
            self._tell(WarningEvent(step=state.step, message=message))

    def run(self) -> None:
        """Train until the last step, or until waiting longer is no use."""
        self._began_s = self._read_s = time.perf_counter()
        if self._is_due(self.state.step, self.config.evaluate_every) and self.state.step > 0:
            self._evaluate()  # unless it was done before the interruption
        if self._is_done:
            return
        feed = steps(
            self.train_flows,
            self.config,
            seed=self.state.seed,
            corruption=self.corruption,
            first_step=self.state.step,
        )
        for step in train(self.state, feed):
            self._after(step)
            if self._is_done:
                return

    @property
    def _is_done(self) -> bool:
        return self.progress.stopped_early or self.state.step == self.state.num_steps

    def _is_due(self, step: int, every: int) -> bool:
        return step % (every or self.steps_per_epoch) == 0 or step == self.state.num_steps

    def _after(self, step: TrainStep) -> None:
        is_evaluation = self._is_due(step.index, self.config.evaluate_every)
        is_checkpoint = self._is_due(step.index, self.config.checkpoint_every)
        if is_evaluation or is_checkpoint or step.index % self.config.log_every == 0:
            self._read_tally()
        if is_evaluation:
            self._evaluate()
        if is_checkpoint or self._is_done:
            self.save()

    def _read_tally(self) -> None:
        """Report the steps since the last reading; the only place where training waits for the device."""
        state, progress = self.state, self.progress
        if state.tally.num_steps == 0:
            return
        state.check_finite()
        with undisturbed():
            totals = state.tally.read()
            progress.overflows += totals.num_overflows
            progress.flows_since += totals.num_flows
            progress.loss_since += totals.loss * totals.num_flows
            progress.right_since += totals.accuracy * totals.num_flows
            now_s = time.perf_counter()
            seconds, self._read_s = max(1e-9, now_s - self._read_s), now_s
            rates = learning_rates(state.step - 1, state.num_steps, self.config)
            if state.micro_batch_tokens != self._micro_batch_tokens:
                self._micro_batch_tokens = state.micro_batch_tokens
                message = f"memory ran out; going on with at most {state.micro_batch_tokens:,} tokens at once"
                self._tell(WarningEvent(step=state.step, message=message))
            self._tell(
                StepEvent(
                    step=state.step,
                    epoch=state.step / self.steps_per_epoch,
                    loss=totals.loss,
                    accuracy=totals.accuracy,
                    lr_backbone=rates[0],
                    lr_classifier=rates[1],
                    grad_norm=totals.grad_norm,
                    loss_scale=state.scaler.get_scale(),
                    overflows=progress.overflows,
                    micro_batch_tokens=state.micro_batch_tokens,
                    rows_per_s=totals.num_flows / seconds,
                    tokens_per_s=totals.num_tokens / seconds,
                    elapsed_s=self._elapsed_s(),
                )
            )

    def _evaluate(self) -> None:
        state, progress = self.state, self.progress
        if progress.evaluated_step == state.step:
            return
        result = validate(state, self.valid_flows)
        if not isfinite(result.loss):
            raise TrainingError(
                f"step {state.step}: the validation loss is not finite; lower training.learning_rate "
                f"(now {self.config.learning_rate:g}) or set training.precision=fp32"
            )
        is_best = progress.best_step == NOT_YET or result.loss < progress.best_valid_loss
        rates = learning_rates(state.step - 1, state.num_steps, self.config)
        elapsed_s = self._elapsed_s()
        event = EpochEvent(
            step=state.step,
            epoch=state.step / self.steps_per_epoch,
            train_loss=progress.loss_since / max(1, progress.flows_since),
            train_accuracy=progress.right_since / max(1, progress.flows_since),
            valid_loss=result.loss,
            valid_accuracy=result.accuracy,
            valid_macro_f1=result.macro_f1,
            is_best=is_best,
            lr_backbone=rates[0],
            lr_classifier=rates[1],
            rows_per_s=self._rows_per_s(elapsed_s),
            elapsed_s=elapsed_s,
        )
        with undisturbed():
            if is_best:
                progress.best_step, progress.best_valid_loss = state.step, result.loss
                self.best_weights = _copy_of_weights(state.model)
            progress.num_worse = 0 if is_best else progress.num_worse + 1
            patience = self.config.early_stopping_patience
            progress.stopped_early = 0 < patience <= progress.num_worse and state.step < state.num_steps
            progress.flows_since, progress.loss_since, progress.right_since = 0, 0.0, 0.0
            progress.history.append(asdict(event))
            progress.evaluated_step = state.step
            self._tell(event)
        self._read_s = time.perf_counter()  # evaluating is not training: rows/s leave it out

    def save(self) -> None:
        """Write a checkpoint of the last complete step, unless there is one."""
        state = self.state
        self._read_tally()
        if self.saved_step == state.step or state.step == 0:
            return
        packed = pack_state(state)
        # The best weights are the model's own right after the best evaluation; then they are not written twice.
        if self.best_weights and self.progress.best_step != state.step:
            packed.tensors.update({f"best.{name}": weight for name, weight in self.best_weights.items()})
        progress = asdict(replace(self.progress, elapsed_s=self._elapsed_s()))
        path = self.checkpoints.save(
            state.step,
            Checkpoint(
                packed.tensors, packed.scalars | {"progress": progress, "config": asdict(self.config)}
            ),
        )
        self.saved_step = state.step
        self._tell(CheckpointEvent(step=state.step, path=path.name))
        self._read_s = time.perf_counter()

    def _unpack(self, found: Checkpoint) -> None:
        before = cast(dict[str, object], found.scalars["config"])
        for name, ours in asdict(self.config).items():
            if name not in FREE_SETTINGS and before.get(name) != ours:
                raise RunError(
                    f"{self.checkpoints.path}: the run started with training.{name} = {before.get(name)!r}, now it is "
                    f"{ours!r}; resume with the settings that the run started with"
                )
        unpack_state(self.state, found)
        self.progress = Progress(**cast(dict[str, Any], found.scalars["progress"]))
        self.best_weights = weights_of(found, "best.")
        if not self.best_weights and self.progress.best_step == self.state.step:
            self.best_weights = _copy_of_weights(self.state.model)
        self.saved_step = self.state.step

    def finish(self) -> TrainingResult:
        """Give the model its best weights, and say how the training went."""
        progress, elapsed_s = self.progress, self._elapsed_s()
        self.state.model.to("cpu").load_state_dict(self.best_weights)
        self.state.model.eval()
        self._tell(
            EndEvent(
                step=self.state.step,
                best_step=progress.best_step,
                best_valid_loss=progress.best_valid_loss,
                stopped_early=progress.stopped_early,
                elapsed_s=elapsed_s,
            )
        )
        return TrainingResult(
            best_step=progress.best_step,
            best_valid_loss=progress.best_valid_loss,
            history=tuple(EpochEvent(**cast(dict[str, Any], event)) for event in progress.history),
            stopped_early=progress.stopped_early,
            seconds=elapsed_s,
            rows_per_s=self._rows_per_s(elapsed_s),
        )

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener.receive(event)

    def _elapsed_s(self) -> float:
        return self.progress.elapsed_s + time.perf_counter() - self._began_s

    def _rows_per_s(self, elapsed_s: float) -> float:
        epochs, place = divmod(self.state.step, self.steps_per_epoch)
        num_rows = epochs * len(self.train_flows.class_ids) + place * self.config.batch_size
        return num_rows / max(1e-9, elapsed_s)


def _copy_of_weights(model: DistilBert) -> dict[str, Tensor]:
    return {name: weight.detach().to("cpu", copy=True) for name, weight in model.state_dict().items()}


def validate(state: TrainState, flows: LabelledRows) -> Validation:
    """Loss, accuracy and macro-F1 on `flows`.

    The loss is what training minimises, class weights and logit adjustment included, without label smoothing, so that
    the best model by this loss is the best by the training's own aim.
    """
    logits = score(state.model, flows, device=str(state.device), precision=state.precision)
    objective = replace(state.objective.to(torch.device("cpu")), label_smoothing=0.0)
    class_ids = torch.from_numpy(
        np.array(flows.class_ids, dtype=np.int64)
    )  # a copy: a store on disk is read-only
    loss = objective.total(torch.from_numpy(logits), class_ids) / objective.weight(class_ids)
    predicted = logits.argmax(axis=1)
    return Validation(
        loss=float(loss),
        accuracy=float(np.mean(predicted == flows.class_ids)),
        macro_f1=macro_f1(np.asarray(flows.class_ids), predicted),
    )


def macro_f1(true_ids: Int[np.ndarray, " n"], predicted_ids: Int[np.ndarray, " n"]) -> float:
    """Mean F1 over the classes that are true or predicted at least once.

    >>> macro_f1(np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0]))  # (0.8 + 0.6667) / 2
    0.7333333333333334
    """
    num_classes = int(max(true_ids.max(), predicted_ids.max())) + 1
    num_right: Float[np.ndarray, " C"] = np.bincount(
        true_ids[true_ids == predicted_ids], minlength=num_classes
    )
    both = np.bincount(true_ids, minlength=num_classes) + np.bincount(predicted_ids, minlength=num_classes)
    seen = both > 0
    return float(np.mean(2 * num_right[seen] / both[seen]))
