"""A tiny model and tiny flows, whose class can be read off their tokens."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import Int64, UInt16

from wirebert.model.config import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.telemetry.events import Listener, MetricsLog
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.distillation import SoftTargets
from wirebert.training.parallel.process_group import SINGLE_RANK, Communicator
from wirebert.training.result import TrainingResult
from wirebert.training.trainer import fit_model

NUM_TOKENS, NUM_CLASSES, CLS = 40, 3, 1


@dataclass(frozen=True)
class Rows:
    ids: UInt16[np.ndarray, " tokens"]
    offsets: Int64[np.ndarray, " flows+1"]
    class_ids: Int64[np.ndarray, " flows"]


def tiny_model(*, dropout: float = 0.0, seed: int = 0) -> DistilBert:
    architecture = Architecture(
        vocab_size=NUM_TOKENS,
        num_classes=NUM_CLASSES,
        dim=16,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        max_positions=16,
        dropout=dropout,
        attention_dropout=dropout,
        head_dropout=dropout,
    )
    return DistilBert(architecture, generator=torch.Generator().manual_seed(seed))


def tiny_flows(num_flows: int, *, seed: int = 0) -> Rows:
    """Rows of 2 to 9 tokens; a flow of class c has token numbers that leave c when divided by the number of
    classes."""
    random = np.random.default_rng(seed)
    lengths = random.integers(2, 10, num_flows)
    class_ids = random.integers(0, NUM_CLASSES, num_flows)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    numbers = random.integers(2, NUM_TOKENS // NUM_CLASSES, offsets[-1])
    ids = (NUM_CLASSES * numbers + np.repeat(class_ids, lengths)).astype(np.uint16)
    ids[offsets[:-1]] = CLS
    return Rows(ids, offsets, class_ids)


@pytest.fixture
def make_model() -> Callable[..., DistilBert]:
    return tiny_model


@pytest.fixture
def make_flows() -> Callable[..., Rows]:
    return tiny_flows


@pytest.fixture
def fit(request: pytest.FixtureRequest) -> Callable[..., TrainingResult]:
    """A training, by the module's CONFIG, in a folder where it may be gone on with; its flows validate it
    too."""

    def run(
        model: DistilBert,
        flows: Rows,
        folder: Path,
        config: TrainConfig = request.module.CONFIG,
        *,
        seed: int = 5,
        listeners: tuple[Listener, ...] = (),
        world: Communicator = SINGLE_RANK,
        soft: SoftTargets | None = None,
    ) -> TrainingResult:
        with MetricsLog(folder / "metrics.jsonl") if world.is_main else nullcontext() as log:
            return fit_model(
                *(model, flows, flows, config),
                seed=seed,
                corruption=None,
                checkpoints=CheckpointFolder(folder / "checkpoints"),
                log=log,
                listeners=listeners if world.is_main else (),
                world=world,
                soft=soft,
            )

    return run
