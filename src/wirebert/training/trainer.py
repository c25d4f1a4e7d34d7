"""The training session: epochs, validation, early stopping, checkpoints, and resuming."""

import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any, Final, cast, final

import numpy as np
from torch import Tensor

from wirebert.errors import RunError, TrainingError
from wirebert.model.distilbert import DistilBert
from wirebert.telemetry.events import (
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
from wirebert.training.checkpoint import Checkpoint, CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.corruption import RowChange
from wirebert.training.distillation import SoftTargets
from wirebert.training.feeding import LabelledFlows, describe_feeding, steps, steps_per_epoch
from wirebert.training.interruption import Termination, defer_signals, device_failures_told, stop_for
from wirebert.training.loop import TrainState, train
from wirebert.training.memory import fit_into_memory
from wirebert.training.optimizer import ClippingAdamW, learning_rates
from wirebert.training.parallel.fsdp import whole
from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator, StopVote
from wirebert.training.precision import allow_tf32, deterministic_algorithms, torch_threads
from wirebert.training.result import NOT_EVALUATED, TrainerState, TrainingResult
from wirebert.training.snapshot import BackgroundWriter, best_weights, pack_state, unpack_state
from wirebert.training.step_metrics import TrainStep
from wirebert.training.validation import validate

# Settings that do not affect the weights: a resumed run may change them.
FREE_SETTINGS: Final = (
    *("device", "log_every", "keep_checkpoints", "checkpoint_every", "checkpoint_seconds"),
    *("micro_batch_tokens", "trackers", "prefetch", "workers", "threads", "cuda_graphs", "parallel"),
)


def fit_model(
    model: DistilBert,
    train_flows: LabelledFlows,
    valid_flows: LabelledFlows,
    config: TrainConfig,
    *,
    seed: int,
    corruption: RowChange | None,
    checkpoints: CheckpointFolder,
    log: MetricsLog | None,
    listeners: Sequence[Listener] = (),
    world: Communicator = SINGLE_RANK,
    soft: SoftTargets | None = None,
) -> TrainingResult:
    """Train `model` in place; it ends on the CPU with the weights of the lowest validation loss.

    Resumes from the newest complete checkpoint in `checkpoints`, bit-identically on the same CPU. On Ctrl-C
    or SIGTERM it saves the last complete step, then raises KeyboardInterrupt or `Terminated`.

    Under torchrun every rank calls this with the same arguments and gets the same result; only rank 0 writes
    files. The flows of a step and their corruption do not depend on the number of ranks; each rank trains on
    its part of them.

    `soft` adds a teacher's distillation loss, the only loss of unlabelled flows; validation uses labels only.

    Raises:
        TrainingError: there are no flows to train or validate on, the loss is not finite, or a GPU failed.
        RunError: the checkpoints are damaged, have different settings, or cannot be written.
    """
    for name, flows in {"training": train_flows, "validation": valid_flows}.items():
        if len(flows.class_ids) == 0:
            raise TrainingError(f"there are no {name} flows; give more data or another data.valid_fraction")
    with (
        device_failures_told(checkpoints),
        deterministic_algorithms(config.deterministic),
        allow_tf32(config.precision == "tf32"),
        torch_threads(config.threads),
        BackgroundWriter(checkpoints) as writer,
        Termination(waits_for_others=world.size > 1) as termination,
    ):
        data = train_flows, valid_flows, corruption, soft
        session = _Session(model, data, config, seed, checkpoints, writer, termination, log, listeners, world)
        with closing(session.state):
            session.resume()
            try:
                session.run()
            except KeyboardInterrupt:
                session.save()
                session.wait_for_writer()
                world.barrier()  # torchrun ends all ranks once one leaves, so wait until rank 0 has saved
                raise
            return session.finish()


@final
class _Session:
    def __init__(
        self,
        model: DistilBert,
        data: tuple[LabelledFlows, LabelledFlows, RowChange | None, SoftTargets | None],
        config: TrainConfig,
        seed: int,
        checkpoints: CheckpointFolder,
        writer: BackgroundWriter,
        termination: Termination,
        log: MetricsLog | None,
        listeners: Sequence[Listener],
        world: Communicator,
    ) -> None:
        self.config, self.model, self.world = config, model, world
        self.train_flows, self.valid_flows, self.corruption, self.soft = data
        self.checkpoints, self.writer, self.termination = checkpoints, writer, termination
        self.log, self.listeners = log, (*([] if log is None else [log]), *listeners)
        self.steps_per_epoch = steps_per_epoch(len(self.train_flows.class_ids), config.batch_size)
        class_ids = np.asarray(self.train_flows.class_ids)
        counts = np.bincount(class_ids[class_ids >= 0], minlength=model.architecture.num_classes)
        self.state = TrainState.start(
            *(model, config),
            seed=seed,
            num_steps=self.steps_per_epoch * config.num_epochs,
            class_counts=counts,
            world=world,
            soft=self.soft,
        )
        fit_into_memory(self.state, len(self.train_flows.ids) / len(self.train_flows.class_ids))
        self.feeding = describe_feeding(self.train_flows, config, self.state.device)
        self.progress = TrainerState()
        self.best_weights: dict[str, Tensor] = {}
        self.saved_step = NOT_EVALUATED
        self._began_s = self._read_s = self._saved_s = time.perf_counter()
        self._micro_batch_tokens = self.state.micro_batch_tokens

    def resume(self) -> None:
        """Resume from the newest complete checkpoint, if there is one, and send the start event."""
        warnings: list[str] = []
        newest = self.checkpoints.newest(warnings.append) if self.world.is_main else None
        step = self.world.broadcast_object(
            lambda: None if newest is None else cast(int, newest.scalars["step"])
        )
        if step is not None:
            self._unpack(newest or self.checkpoints.load(step))
        state = self.state
        if self.log is not None:
            self.log.go_back_to(state.step)
        self._micro_batch_tokens = state.micro_batch_tokens
        self._tell(
            StartEvent(
                step=state.step,
                num_steps=state.num_steps,
                num_epochs=self.config.num_epochs,
                num_train=len(self.train_flows.class_ids),
                num_valid=len(self.valid_flows.class_ids),
                num_parameters=sum(weight.numel() for weight in state.model.parameters()),
                batch_size=self.config.batch_size,
                device=str(state.device),
                precision=state.precision,
                seed=state.seed,
                num_ranks=self.world.size,
                feeding=self.feeding,
            )
        )
        for message in warnings:
            self._tell(WarningEvent(step=state.step, message=message))

    def run(self) -> None:
        """Train until the last step, or until early stopping."""
        self._began_s = self._read_s = time.perf_counter()
        if self._is_due(self.state.step, self.config.evaluate_every) and self.state.step > 0:
            self._evaluate()  # does nothing if the interrupted run already evaluated this step
        if self._is_done:
            return
        feed = steps(
            self.train_flows,
            self.config,
            seed=self.state.seed,
            corruption=self.corruption,
            teacher_log_probs=None if self.soft is None else self.soft.log_probabilities,
            first_step=self.state.step,
        )
        vote = StopVote(self.world)
        for step in train(self.state, feed):
            self._after(step)
            if self._is_done:
                vote.close()
                return
            stop_for(vote.result(self.termination.asked))

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
        if (is_checkpoint or self._is_done) and self.world.broadcast_object(self._has_waited):
            self.save()
        self._tell_of(self.writer.written())

    def _has_waited(self) -> bool:
        """Whether the last checkpoint is old enough for another one."""
        waited_s = time.perf_counter() - self._saved_s
        return self.config.checkpoint_every > 0 or waited_s >= self.config.checkpoint_seconds

    def _read_tally(self) -> None:
        """Report the steps since the last call; the only place where training waits for the device."""
        state, progress = self.state, self.progress
        if state.step_metrics.num_steps == 0:
            return
        state.check_finite()
        with defer_signals():
            totals = state.step_metrics.read()
            progress.overflows += totals.num_overflows
            progress.flows_since += totals.num_flows
            progress.loss_since += totals.loss * totals.num_flows
            progress.right_since += totals.accuracy * totals.num_flows
            now_s = time.perf_counter()
            seconds, self._read_s = max(1e-9, now_s - self._read_s), now_s
            rates = learning_rates(state.step - 1, state.num_steps, self.config)
            if state.micro_batch_tokens != self._micro_batch_tokens:
                self._micro_batch_tokens = state.micro_batch_tokens
                message = (
                    f"memory ran out; continuing with at most {state.micro_batch_tokens:,} tokens at once"
                )
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
        with self.termination.at_once():
            result = validate(state, self.valid_flows)
        if not isfinite(result.loss):
            raise TrainingError(
                f"step {state.step}: the validation loss is not finite; lower training.learning_rate "
                f"(now {self.config.peak_lr:g}) or set training.precision=fp32"
            )
        is_best = progress.best_step == NOT_EVALUATED or result.loss < progress.best_valid_loss
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
        with defer_signals():
            if is_best:
                progress.best_step, progress.best_valid_loss = state.step, result.loss
                weights = state.model.state_dict().items()
                self.best_weights = {name: weight.detach().clone() for name, weight in weights}
            progress.num_worse = 0 if is_best else progress.num_worse + 1
            patience = self.config.early_stopping_patience
            progress.stopped_early = 0 < patience <= progress.num_worse and state.step < state.num_steps
            progress.flows_since, progress.loss_since, progress.right_since = 0, 0.0, 0.0
            progress.history.append(asdict(event))
            progress.evaluated_step = state.step
            self._tell(event)
        self._read_s = time.perf_counter()  # rows per second exclude the evaluation

    def save(self) -> None:
        """Begin to write a checkpoint of the last complete step, unless it has one."""
        state = self.state
        self._read_tally()
        if self.saved_step == state.step or state.step == 0:
            return
        progress = replace(self.progress, elapsed_s=self._elapsed_s())
        packed = pack_state(state, self.best_weights)
        scalars = packed.scalars | {"progress": asdict(progress), "config": asdict(self.config)}
        if self.world.is_main:
            self._tell_of(self.writer.start(state.step, Checkpoint(packed.tensors, scalars)))
        self.saved_step = state.step
        self._read_s = self._saved_s = time.perf_counter()

    def wait_for_writer(self) -> None:
        """Wait until every checkpoint is on disk."""
        self._tell_of(self.writer.wait())

    def _tell_of(self, written: Path | None) -> None:
        if written is not None:
            self._tell(CheckpointEvent(step=self.state.step, path=written.name))

    def _unpack(self, checkpoint: Checkpoint) -> None:
        before = cast(dict[str, object], checkpoint.scalars["config"])
        for name, ours in asdict(self.config).items():
            if name not in FREE_SETTINGS and before.get(name) != ours:
                raise RunError(
                    f"{self.checkpoints.path}: the run started with training.{name} = {before.get(name)!r}, "
                    f"now it is {ours!r}; resume with the settings that the run started with"
                )
        unpack_state(self.state, checkpoint)
        self.progress = TrainerState(**cast(dict[str, Any], checkpoint.scalars["progress"]))
        self.best_weights, self.saved_step = best_weights(checkpoint), self.state.step

    def finish(self) -> TrainingResult:
        """Load the best weights into the model and return the result.

        Raises:
            RunError: a checkpoint could not be written.
        """
        self.wait_for_writer()
        if isinstance(self.state.optimizer, ClippingAdamW):
            self.state.optimizer.drop_copies()
        progress, elapsed_s = self.progress, self._elapsed_s()
        weights = {name: whole(weight) for name, weight in self.best_weights.items()}
        self.model.to("cpu").eval().load_state_dict(weights)
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
            feeding=self.feeding,
        )

    def _tell(self, event: Event) -> None:
        for listener in self.listeners:
            listener.receive(event)

    def _elapsed_s(self) -> float:
        return self.progress.elapsed_s + time.perf_counter() - self._began_s

    def _rows_per_s(self, elapsed_s: float) -> float:
        epochs, step_in_epoch = divmod(self.state.step, self.steps_per_epoch)
        num_rows = epochs * len(self.train_flows.class_ids) + step_in_epoch * self.config.batch_size
        return num_rows / max(1e-9, elapsed_s)
