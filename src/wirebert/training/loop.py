"""The training loop: optimizer steps at the chosen precision, within the available memory.

Shape letters: B flows of a micro-batch, C classes.
"""

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final, final

import numpy as np
import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_

from wirebert.errors import TrainingError
from wirebert.model.batches import Batch, PackedBatch, autocast, class_logits, masked_logits
from wirebert.model.config import Precision
from wirebert.model.distilbert import DistilBert
from wirebert.prefetch import prefetch, short_turns
from wirebert.shapes import Float, Int
from wirebert.training.config import TrainConfig
from wirebert.training.cuda_graphs import Outcome, StepGraphs
from wirebert.training.device import (
    choose_copies,
    choose_device,
    choose_graphs,
    choose_micro_batch_tokens,
    compile_kernels,
)
from wirebert.training.distillation import SoftTargets, expected_classes
from wirebert.training.feeding import PreparedStep, StepFlows, idle_batch, micro_batches, num_passes, share_of
from wirebert.training.interruption import defer_signals
from wirebert.training.losses import Objective
from wirebert.training.optimizer import ClippingAdamW, learning_rates, make_optimizer
from wirebert.training.parallel.fsdp import whole
from wirebert.training.parallel.gradient_sum import GradientSum
from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator
from wirebert.training.parallel.strategy import ParallelStrategy, Replicated, choose_strategy
from wirebert.training.precision import TrainPrecision, choose_precision
from wirebert.training.seeding import Purpose, mix, seed_generators
from wirebert.training.step_metrics import StepMetrics, TrainStep

# Below this scale gradients overflow whatever fp16 scales them by: the weights themselves are too large.
SMALLEST_LOSS_SCALE: Final = 2.0**-10


@final
@dataclass(slots=True, kw_only=True)
class TrainState:
    """Everything a step reads and changes."""

    model: DistilBert
    optimizer: torch.optim.AdamW
    scaler: GradScaler
    objective: Objective
    """On the device."""

    host_objective: Objective
    """The same on the CPU."""

    config: TrainConfig
    seed: int
    num_steps: int
    """Steps of the whole training; the learning rate schedule ends with the last one."""

    device: torch.device
    precision: TrainPrecision
    """How the forward pass computes; weights and optimizer stay in single precision."""

    step: int = 0
    """Steps done."""

    micro_batch_tokens: int
    """Padded tokens of one forward pass; halved when memory runs out."""

    communicator: Communicator = SINGLE_RANK
    """The processes that train this model together."""

    strategy: ParallelStrategy = field(default_factory=lambda: Replicated(SINGLE_RANK))
    """How the processes share the model."""

    soft_targets: SoftTargets | None = None
    """The teacher's predictions for the training flows, if there is a teacher."""

    step_metrics: StepMetrics = field(init=False)
    graphs: StepGraphs | None = field(init=False, default=None)
    """Records steps as CUDA graphs where possible."""

    gradient_sum: GradientSum | None = field(init=False)
    """Adds up the ranks' gradients, where each rank holds all weights."""

    def __post_init__(self) -> None:
        self.step_metrics = StepMetrics(self.communicator)
        self.gradient_sum = self.strategy.gradient_sum(self.model)
        if self.optimizer.defaults["capturable"]:
            optimizer = self.optimizer
            after = optimizer.finish_recording if isinstance(optimizer, ClippingAdamW) else None
            self.graphs = StepGraphs(self._recordable, after)

    @property
    def number_format(self) -> Precision:
        """The number format of activations."""
        return "fp32" if self.precision == "tf32" else self.precision

    def _recordable(self, batch: PackedBatch) -> Outcome:
        """A whole step on one batch."""
        if self.gradient_sum is None:
            loss, num_right = gradients(self, batch)
        elif torch.cuda.is_current_stream_capturing():
            with self.gradient_sum.sent_while_computed():
                loss, num_right = gradients(self, batch)
        else:  # memory may run out: then this rank repeats the pass, and nothing may have been sent
            loss, num_right = gradients(self, batch)
            self.gradient_sum.collect()
        return Outcome(loss, num_right, _update_together(self))

    @classmethod
    def start(
        cls,
        model: DistilBert,
        config: TrainConfig,
        *,
        seed: int,
        num_steps: int,
        class_counts: Int[np.ndarray, " C"],
        world: Communicator = SINGLE_RANK,
        soft: SoftTargets | None = None,
    ) -> "TrainState":
        """The state before the first step, with the model (or its sharded copy) on the device.

        Raises:
            TrainingError: the device has no memory for the weights.
        """
        device = choose_device(config)
        precision = choose_precision(config, device)
        strategy = choose_strategy(config, model, device, world)
        compiling = compile_kernels(config, model.architecture)
        try:
            model = strategy.place(model, device)
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"{device} has no memory left for the weights, perhaps because of other programs; end them "
                "(`nvidia-smi` shows them), choose another GPU with CUDA_VISIBLE_DEVICES, or set "
                f"training.device=cpu ({str(error).splitlines()[0]})"
            ) from error
        objective = Objective.for_classes(class_counts, config)
        if compiling is not None:
            compiling.exception()  # waits; the first step shows what failed
        return cls(
            model=model,
            optimizer=make_optimizer(
                model,
                config,
                capturable=strategy.holds_all_weights and choose_graphs(config, model, device, precision),
                half=choose_copies(strategy, precision, device),
            ),
            scaler=GradScaler(device.type, enabled=precision == "fp16"),
            objective=objective.to(device),
            host_objective=objective,
            config=config,
            seed=seed,
            num_steps=num_steps,
            device=device,
            precision=precision,
            micro_batch_tokens=choose_micro_batch_tokens(config, device),
            communicator=world,
            strategy=strategy,
            soft_targets=soft,
        )

    def close(self) -> None:
        """Free the recorded steps: the process group does not end while one can communicate."""
        if self.graphs is not None:
            self.graphs.free()
        if self.gradient_sum is not None:
            self.gradient_sum.close()

    def set_learning_rate(self) -> None:
        """Set both parameter groups to the learning rate of the next step."""
        rates = learning_rates(self.step, self.num_steps, self.config)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)  # in place: a recorded step reads this tensor
            else:
                group["lr"] = rate

    def check_finite(self) -> None:
        """Stop training if a step since the last call was not finite. Waits for the device.

        Raises:
            TrainingError: a loss or gradient is not finite, or fp16 gradients overflow at the lowest scale.
        """
        bad = self.step_metrics.first_bad_step()
        if bad is not None:
            rate, _ = learning_rates(bad - 1, self.num_steps, self.config)
            raise TrainingError(
                f"step {bad}: the loss or its gradient is not finite, at learning rate {rate:.2g}; lower "
                f"training.learning_rate (now {self.config.peak_lr:g}) or set training.precision=fp32"
            )
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_LOSS_SCALE:
            raise TrainingError(
                f"step {self.step}: fp16 gradients overflow even at loss scale "
                f"{self.scaler.get_scale():.2g}; set training.precision=bf16 or fp32, or lower "
                "training.learning_rate"
            )


def train(state: TrainState, feed: Iterable[StepFlows]) -> Iterator[TrainStep]:
    """Update `state` in place and yield once per optimizer step; the caller may stop at any step."""
    prepared = (_prepare(state, flows) for flows in feed)
    has_thread = state.device.type == "cuda" and state.config.prefetch > 0
    with short_turns() if has_thread else nullcontext():
        for ready in prefetch(prepared, state.config.prefetch if has_thread else 0):
            state.model.train()
            state.set_learning_rate()
            # Dropout depends on seed and step only, so a resumed or replayed step draws the same masks.
            # Rank 0 draws the masks of a single process; other ranks draw different ones.
            rank = [state.communicator.rank] if state.communicator.rank else []
            seed_generators(mix(state.seed, Purpose.DROPOUT, state.step, *rank), state.device)
            yield _step_within_memory(state, ready)


def _prepare(state: TrainState, flows: StepFlows) -> PreparedStep:
    """This rank's part of the step's flows, cut into micro-batches of the current size."""
    max_tokens, pad_id = state.micro_batch_tokens, state.model.architecture.pad_id
    # Computed on the CPU, without waiting for the device.
    asked = flows.answers(state.model.architecture.vocab_size)
    weight = float(state.host_objective.weight(torch.from_numpy(asked)))
    size = state.communicator.size
    batches = micro_batches(
        *(share_of(flows, state.communicator.rank, size), max_tokens),
        pad_id=pad_id,
        device=state.device,
        batch_size=-(-state.config.batch_size // size),
        loss_weight=weight,
    )
    num_idle = state.strategy.num_idle(
        len(batches), lambda: num_passes(flows, max_tokens, size, state.device)
    )
    if num_idle:
        batches += [idle_batch(flows, pad_id=pad_id, device=state.device)] * num_idle
    return PreparedStep(flows, len(asked), max_tokens, batches)


def _step_within_memory(state: TrainState, ready: PreparedStep) -> TrainStep:
    """`_step`, with the micro-batches halved and the step repeated while memory runs out."""
    while True:
        if ready.max_tokens != state.micro_batch_tokens:  # prefetched before memory ran out
            ready = _prepare(state, ready.flows)
        try:
            return _step(state, ready)
        except torch.OutOfMemoryError as error:
            num_tokens = state.micro_batch_tokens or len(ready.flows.rows.ids)
            state.strategy.require_replay(state.step + 1, num_tokens, error)
            failure = str(error)
        # Outside the except block, so that the activations of the failed pass are already freed.
        _halve_micro_batches(state, ready.flows, failure)


def _step(state: TrainState, ready: PreparedStep) -> TrainStep:
    batch = ready.batches[0] if len(ready.batches) == 1 else None
    if state.graphs is not None and isinstance(batch, PackedBatch):
        with defer_signals():
            return _finish(state, ready, state.graphs.run(batch, state.device))
    zeros = torch.zeros(2, device=state.device)  # for a rank without flows in a short step
    parts = [gradients(state, batch) for batch in ready.batches] or [(zeros[0], zeros[1].long())]
    losses, num_right = zip(*parts, strict=True)
    with defer_signals():
        if state.gradient_sum is not None:
            state.gradient_sum.collect()
        outcome = Outcome(torch.stack(losses).sum(), torch.stack(num_right).sum(), _update_together(state))
        return _finish(state, ready, outcome)


def _update_together(state: TrainState) -> Float[Tensor, ""]:
    """`_update` with the sum of all ranks' gradients, if there are several."""
    if state.gradient_sum is None:
        return _update(state)
    try:
        state.gradient_sum.exchange()
        return _update(state)
    except torch.OutOfMemoryError as error:  # other ranks have updated, so the step cannot be repeated
        raise TrainingError(
            f"step {state.step + 1}: memory of rank {state.communicator.rank} ran out in the optimizer; "
            "lower training.micro_batch_tokens, or set training.parallel=fsdp"
        ) from error


def _finish(state: TrainState, ready: PreparedStep, outcome: Outcome) -> TrainStep:
    """Add a finished step to the metrics."""
    state.step += 1
    flows = ready.flows
    sizes = len(flows.class_ids), len(flows.rows.ids), ready.num_answers
    step = TrainStep(state.step, flows.epoch, outcome.loss, outcome.grad_norm, *sizes)
    state.step_metrics.add(step, outcome.num_right, may_overflow=state.scaler.is_enabled())
    return step


def gradients(state: TrainState, batch: Batch) -> tuple[Float[Tensor, ""], Int[Tensor, ""]]:
    """Add a micro-batch's gradients; return its part of the loss and its number of correct predictions."""
    batch = batch.to(state.device)
    class_ids, teacher_log_probs_BC = masked_logits(state.model, batch), batch.teacher_log_probs
    with autocast(str(state.device), state.number_format):
        logits_BC = class_logits(state.model, batch)
    if state.soft_targets is None or teacher_log_probs_BC is None:
        total = state.objective.total(logits_BC, class_ids)
    else:
        total = state.soft_targets.total(state.objective, logits_BC, class_ids, teacher_log_probs_BC)
        class_ids = expected_classes(class_ids, teacher_log_probs_BC)
    loss = total / batch.loss_weight
    state.scaler.scale(loss).backward()
    return loss.detach(), (logits_BC.detach().argmax(1) == class_ids).sum()


def _update(state: TrainState) -> Float[Tensor, ""]:
    """Clip the gradients, update the weights, clear the gradients; return their norm before clipping."""
    limit = state.config.max_grad_norm or float("inf")
    if isinstance(state.optimizer, ClippingAdamW):
        grad_norm = state.optimizer.clip_and_step(limit)
    else:
        state.scaler.unscale_(state.optimizer)
        grad_norm = whole(clip_grad_norm_(state.model.parameters(), limit))
        state.scaler.step(state.optimizer)
        state.scaler.update()
    state.optimizer.zero_grad()
    return grad_norm


def _halve_micro_batches(state: TrainState, flows: StepFlows, failure: str) -> None:
    state.optimizer.zero_grad()
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    lengths = np.diff(flows.rows.offsets)
    longest = int(lengths.max())
    everything = int(lengths.sum()) if state.device.type == "cuda" else longest * len(lengths)
    used = min(state.micro_batch_tokens or everything, everything)
    if used <= longest:
        raise TrainingError(
            f"step {state.step + 1}: memory ran out with a single flow of {longest} tokens; choose a smaller "
            "model, set model.gradient_checkpointing=true, or lower encoding.max_length "
            f"({failure.splitlines()[0]})"
        )
    state.micro_batch_tokens = max(longest, used // 2)
