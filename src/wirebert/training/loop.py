"""The loop: one optimizer step after another, at the precision and within the memory that there is.

Shape letters: B flows of a micro-batch, C classes.
"""

import signal
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, NamedTuple, final

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad_norm_

from wirebert.errors import ConfigError, TrainingError
from wirebert.model.batches import FlowBatch, Precision, autocast
from wirebert.model.distilbert import DistilBert
from wirebert.training.feeding import StepFlows, micro_batches
from wirebert.training.losses import Objective
from wirebert.training.optimizer import learning_rates, make_optimizer
from wirebert.training.seeding import Purpose, mix
from wirebert.training.settings import TrainConfig

NEVER: Final = -1
# Below this scale gradients overflow whatever fp16 scales them by: the weights themselves are too large.
SMALLEST_LOSS_SCALE: Final = 2.0**-10


@final
@dataclass(frozen=True, slots=True)
class TrainStep:
    """What one optimizer step did. The tensors stay on the device: reading one waits for it."""

    index: int
    """Steps done, this one included."""

    epoch: int
    """Epochs done before this step's."""

    loss: Float[Tensor, ""]
    grad_norm: Float[Tensor, ""]
    """Norm of all gradients before clipping; not finite where fp16 overflowed and the weights were left alone."""

    num_flows: int
    num_tokens: int
    """Tokens without padding."""


class Totals(NamedTuple):
    """What the steps since the last reading amount to, as plain numbers."""

    num_steps: int
    num_flows: int
    num_tokens: int
    loss: float
    """Mean over the flows."""

    accuracy: float
    """Share of the flows put into their class, while the weights moved and with dropout and corruption on."""

    grad_norm: float
    """Of the last step."""

    num_overflows: int
    """Steps whose fp16 gradients overflowed."""


@final
class Tally:
    """Sums over steps that stay on the device until they are read."""

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(
            3, dtype=torch.float64, device=device
        )  # loss * flows, right answers, overflows
        self._grad_norm = torch.zeros((), device=device)
        self._first_bad_step = torch.full((), NEVER, device=device)
        self._num_steps = self._num_flows = self._num_tokens = 0

    def add(self, step: TrainStep, num_right: Int[Tensor, ""], *, may_overflow: bool) -> None:
        """Count one step; nothing waits for the device."""
        overflowed = ~torch.isfinite(step.grad_norm)
        is_bad = ~torch.isfinite(step.loss) if may_overflow else overflowed | ~torch.isfinite(step.loss)
        self._sums += torch.stack(
            [step.loss.double() * step.num_flows, num_right.double(), overflowed.double()]
        )
        self._grad_norm = step.grad_norm
        is_first = is_bad & (self._first_bad_step == NEVER)
        self._first_bad_step = torch.where(is_first, step.index, self._first_bad_step)
        self._num_steps += 1
        self._num_flows += step.num_flows
        self._num_tokens += step.num_tokens

    @property
    def num_steps(self) -> int:
        """Steps counted since the last reading."""
        return self._num_steps

    def first_bad_step(self) -> int | None:
        """The first step since the last reading whose loss or gradient was not finite. Waits for the device."""
        step = int(self._first_bad_step)
        return None if step == NEVER else step

    def read(self) -> Totals:
        """The sums, which then start over. Waits for the device."""
        loss, num_right, num_overflows = self._sums.tolist()
        totals = Totals(
            num_steps=self._num_steps,
            num_flows=self._num_flows,
            num_tokens=self._num_tokens,
            loss=loss / max(1, self._num_flows),
            accuracy=num_right / max(1, self._num_flows),
            grad_norm=float(self._grad_norm),
            num_overflows=int(num_overflows),
        )
        self._sums.zero_()
        self._num_steps = self._num_flows = self._num_tokens = 0
        return totals


@final
@dataclass(slots=True, kw_only=True)
class TrainState:
    """Everything a step reads and changes."""

    model: DistilBert
    optimizer: torch.optim.AdamW
    scaler: GradScaler
    objective: Objective
    config: TrainConfig
    seed: int
    num_steps: int
    """Steps of the whole training: what the schedule falls over."""

    device: torch.device
    precision: Precision
    """Number format of the forward pass; weights and optimizer stay in single precision."""

    step: int = 0
    """Steps done."""

    micro_batch_tokens: int
    """Padded tokens of one forward pass; halved when memory runs out."""

    tally: Tally = field(init=False)

    def __post_init__(self) -> None:
        self.tally = Tally(self.device)

    @classmethod
    def start(
        cls,
        model: DistilBert,
        config: TrainConfig,
        *,
        seed: int,
        num_steps: int,
        class_counts: Int[np.ndarray, " C"],
    ) -> "TrainState":
        """The state before the first step; moves the model to the device."""
        device = choose_device(config)
        precision = choose_precision(config, device)
        model.to(device)
        return cls(
            model=model,
            optimizer=make_optimizer(model, config),
            scaler=GradScaler(device.type, enabled=precision == "fp16"),
            objective=Objective.for_classes(class_counts, config).to(device),
            config=config,
            seed=seed,
            num_steps=num_steps,
            device=device,
            precision=precision,
            micro_batch_tokens=choose_micro_batch_tokens(config, device),
        )

    def set_learning_rate(self) -> None:
        """Give both groups the rate of the step to come."""
        rates = learning_rates(self.step, self.num_steps, self.config)
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    def check_finite(self) -> None:
        """Stop training if a step since the last reading was not finite. Waits for the device.

        Raises:
            TrainingError: names the step, its learning rate and the way out.
        """
        bad = self.tally.first_bad_step()
        if bad is not None:
            rate, _ = learning_rates(bad - 1, self.num_steps, self.config)
            raise TrainingError(
                f"step {bad}: the loss or its gradient is not finite, at learning rate {rate:.2g}; lower "
                f"training.learning_rate (now {self.config.learning_rate:g}) or set training.precision=fp32"
            )
        if self.scaler.is_enabled() and self.scaler.get_scale() < SMALLEST_LOSS_SCALE:
            raise TrainingError(
                f"step {self.step}: fp16 gradients overflow even at loss scale {self.scaler.get_scale():.2g}; "
                "set training.precision=bf16 or fp32, or lower training.learning_rate"
            )


def choose_device(config: TrainConfig) -> torch.device:
    """Where to train.

    Raises:
        ConfigError: a GPU is asked for where there is none.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device must be auto or cpu on a machine without a CUDA GPU, got 'cuda'")
    if config.device == "cpu" or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def choose_precision(config: TrainConfig, device: torch.device) -> Precision:
    """Number format of the forward pass."""
    if config.precision != "auto":
        return config.precision
    if device.type == "cpu":
        return "fp32"
    return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"


def choose_micro_batch_tokens(config: TrainConfig, device: torch.device) -> int:
    """Padded tokens of one forward pass; 0 is the whole step."""
    if config.micro_batch_tokens is not None:
        return config.micro_batch_tokens
    # A processor is fastest while activations stay in its cache and little is padded; a GPU wants to be filled.
    return 4_096 if device.type == "cpu" else 65_536


def train(state: TrainState, feed: Iterable[StepFlows]) -> Iterator[TrainStep]:
    """Update `state` in place; yield once per optimizer step. Stop by not asking for the next."""
    for flows in feed:
        state.model.train()
        state.set_learning_rate()
        loss, num_right = _gradients_within_memory(state, flows)
        state.scaler.unscale_(state.optimizer)
        grad_norm = _clip(state)
        with undisturbed():
            state.scaler.step(state.optimizer)
            state.scaler.update()
            state.optimizer.zero_grad()
            state.step += 1
            step = TrainStep(
                state.step, flows.epoch, loss, grad_norm, len(flows.class_ids), len(flows.rows.ids)
            )
            state.tally.add(step, num_right, may_overflow=state.scaler.is_enabled())
        yield step


def _clip(state: TrainState) -> Float[Tensor, ""]:
    limit = state.config.max_grad_norm or float("inf")
    return clip_grad_norm_(state.model.parameters(), limit)


def _gradients_within_memory(state: TrainState, flows: StepFlows) -> tuple[Tensor, Tensor]:
    """`_gradients`, with the micro-batches halved and the step played again for as long as memory runs out."""
    while True:
        try:
            return _gradients(state, flows)
        except torch.OutOfMemoryError as error:
            failure = str(error)
        # Out of the except block, so that nothing holds the failed pass's activations any more.
        _halve_micro_batches(state, flows, failure)


def _halve_micro_batches(state: TrainState, flows: StepFlows, failure: str) -> None:
    state.optimizer.zero_grad()
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    lengths = np.diff(flows.rows.offsets)
    longest = int(lengths.max())
    used = min(state.micro_batch_tokens or longest * len(lengths), longest * len(lengths))
    if used <= longest:
        raise TrainingError(
            f"step {state.step + 1}: memory ran out with a single flow of {longest} tokens; choose a smaller model, set "
            f"model.gradient_checkpointing=true, or a shorter encoding.max_length ({failure.splitlines()[0]})"
        )
    state.micro_batch_tokens = max(longest, used // 2)


def _gradients(state: TrainState, flows: StepFlows) -> tuple[Tensor, Tensor]:
    """Add the gradients of the step's mean loss to the parameters; the loss, and how many flows were right."""
    # What dropout draws depends on seed and step alone, so a resumed or replayed step draws the same.
    torch.manual_seed(mix(state.seed, Purpose.DROPOUT, state.step))
    weight = state.objective.weight(torch.from_numpy(flows.class_ids).to(state.device))
    total = torch.zeros((), device=state.device)
    num_right = torch.zeros((), dtype=torch.int64, device=state.device)
    pad_id = state.model.architecture.pad_id
    for batch in micro_batches(flows, state.micro_batch_tokens, pad_id=pad_id, device=state.device):
        logits_BC = _forward(state, batch)
        loss = state.objective.total(logits_BC, batch.class_ids) / weight
        state.scaler.scale(loss).backward()
        total += loss.detach()
        num_right += (logits_BC.detach().argmax(1) == batch.class_ids).sum()
    return total, num_right


def _forward(state: TrainState, batch: FlowBatch) -> Float[Tensor, "B C"]:
    with autocast(str(state.device), state.precision):
        return state.model(batch.ids, batch.mask)


@contextmanager
def undisturbed() -> Generator[None]:
    """Ctrl-C waits until the block is done: a half-made update could not be continued from."""
    interrupts: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous is None:
        yield  # signals reach the main thread only, and a handler that Python did not set can not be put back
        return
    signal.signal(signal.SIGINT, lambda number, _frame: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupts:
        signal.raise_signal(signal.SIGINT)
