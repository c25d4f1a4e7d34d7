import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wirebert.errors import RunError, Terminated, TrainingError
from wirebert.model.batches import score
from wirebert.model.distilbert import DistilBert
from wirebert.telemetry.events import EpochEvent, Event, StartEvent, StepEvent, read_metrics
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.feeding import LabelledFlows
from wirebert.training.result import TrainingResult

MakeModel = Callable[..., DistilBert]
MakeFlows = Callable[..., LabelledFlows]
Fit = Callable[..., TrainingResult]
CONFIG = TrainConfig(
    epochs=3,
    batch_size=16,
    learning_rate=3e-3,
    device="cpu",
    checkpoint_every=4,
    log_every=3,
    evaluate_every=5,
)


class Interrupter:
    """Presses Ctrl-C once a step is reported."""

    def __init__(self, step: int) -> None:
        self.step = step

    def receive(self, event: Event) -> None:
        if isinstance(event, StepEvent) and event.step >= self.step:
            raise KeyboardInterrupt


class Terminator:
    """Sends SIGTERM at the first event of a kind."""

    def __init__(self, kind: type[Event]) -> None:
        self.kind = kind
        self.sent_at = 0

    def receive(self, event: Event) -> None:
        if isinstance(event, self.kind) and not self.sent_at:
            self.sent_at = event.step
            os.kill(os.getpid(), signal.SIGTERM)


def same_bits(one: DistilBert, other: DistilBert) -> bool:
    others = other.state_dict()
    return all(torch.equal(weight, others[name]) for name, weight in one.state_dict().items())


def without_times(folder: Path) -> list[dict[str, object]]:
    """The events that say what was learned, without what depends on the clock or on interruptions."""
    clocks = ("time", "elapsed_s", "rows_per_s", "tokens_per_s")
    return [
        {name: value for name, value in record.items() if name not in clocks}
        for record in read_metrics(folder / "metrics.jsonl")
        if record["event"] in ("epoch", "end")
    ]


@pytest.mark.parametrize("interrupted_at", [1, 4, 10, 17])
def test_interrupted_training_goes_on_to_the_same_bits(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, interrupted_at: int
):
    flows, straight = make_flows(100), make_model(dropout=0.1)
    expected = fit(straight, flows, tmp_path / "straight")

    with pytest.raises(KeyboardInterrupt):
        fit(make_model(dropout=0.1), flows, tmp_path / "stopped", listeners=(Interrupter(interrupted_at),))
    resumed = make_model(dropout=0.1, seed=77)  # its own first weights must not matter
    result = fit(resumed, flows, tmp_path / "stopped")

    assert same_bits(straight, resumed)
    assert (result.best_step, result.best_valid_loss) == (expected.best_step, expected.best_valid_loss)
    assert without_times(tmp_path / "stopped") == without_times(tmp_path / "straight")


@pytest.mark.parametrize("kind", [StartEvent, StepEvent, EpochEvent])
def test_terminated_training_saves_the_step_and_goes_on_to_the_same_bits(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, kind: type[Event]
):
    flows, straight, resumed = make_flows(100), make_model(dropout=0.1), make_model(dropout=0.1)
    fit(straight, flows, tmp_path / "straight")
    terminator = Terminator(kind)
    with pytest.raises(Terminated):
        fit(resumed, flows, tmp_path / "stopped", listeners=(terminator,))
    steps = CheckpointFolder(tmp_path / "stopped" / "checkpoints").steps()
    assert steps[-1] == terminator.sent_at or (terminator.sent_at, steps) == (0, [1])
    fit(resumed, flows, tmp_path / "stopped")
    assert same_bits(straight, resumed)


def test_termination_does_not_wait_for_an_evaluation(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flows, straight, resumed = make_flows(100), make_model(), make_model()
    fit(straight, flows, tmp_path / "straight")

    def long(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")

    with monkeypatch.context() as patch:
        patch.setattr("wirebert.training.trainer.validate", long)
        with pytest.raises(Terminated):
            fit(resumed, flows, tmp_path / "stopped")
    assert CheckpointFolder(tmp_path / "stopped" / "checkpoints").steps()[-1] == 5
    fit(resumed, flows, tmp_path / "stopped")
    assert same_bits(straight, resumed)
    assert without_times(tmp_path / "stopped") == without_times(tmp_path / "straight")


def test_full_disk_stops_a_training_that_can_be_gone_on_with(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flows, straight, resumed = make_flows(100), make_model(), make_model()
    fit(straight, flows, tmp_path / "straight")
    left = [True, True, False]
    write = CheckpointFolder._write  # pyright: ignore[reportPrivateUsage]  # where the disk is written

    def write_while_there_is_room(*arguments: object) -> None:
        if not left.pop(0):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(*arguments)  # pyright: ignore[reportArgumentType]  # as it was called

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "_write", write_while_there_is_room)
        with pytest.raises(RunError, match=r"No space left on device.*make room, then go on with --resume"):
            fit(resumed, flows, tmp_path / "stopped")
    fit(resumed, flows, tmp_path / "stopped")
    assert same_bits(straight, resumed)


def test_lost_gpu_is_a_sentence_that_names_the_last_checkpoint(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def lost(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with ...")

    monkeypatch.setattr("wirebert.training.trainer.validate", lost)
    expected = (
        r"the GPU failed \(CUDA error: unspecified launch failure\); the last checkpoint is of step 4; go on"
    )
    with pytest.raises(TrainingError, match=expected):
        fit(make_model(), make_flows(100), tmp_path)


def test_best_weights_survive_an_interruption_however_long_ago_they_were(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    flows, straight, resumed = make_flows(100), make_model(), make_model()
    config = replace(CONFIG, learning_rate=0.3, evaluate_every=2)
    best_step = fit(straight, flows, tmp_path / "straight", config).best_step
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, flows, tmp_path / "stopped", config, listeners=(Interrupter(17),))
    assert best_step < min(CheckpointFolder(tmp_path / "stopped" / "checkpoints").steps())
    fit(resumed, flows, tmp_path / "stopped", config)
    assert same_bits(straight, resumed)


def test_a_run_tells_of_every_checkpoint_that_is_on_disk(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    fit(make_model(), make_flows(100), tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    told = [str(record["path"]) for record in records if record["event"] == "checkpoint"]
    assert told == [f"checkpoint-{step:08d}" for step in (4, 8, 12, 16, 20, 21)]


def test_log_and_result_say_who_feeds_the_training(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    result = fit(make_model(), make_flows(100), tmp_path)
    start = read_metrics(tmp_path / "metrics.jsonl")[0]
    assert result.feeding == start["feeding"] == "the main process, from memory (0.0 MB)"


def test_finished_training_is_not_done_again(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    flows, first, second = make_flows(100), make_model(), make_model(seed=9)
    one = fit(first, flows, tmp_path)
    other = fit(second, flows, tmp_path)
    assert same_bits(first, second)
    assert [event.step for event in one.history] == [event.step for event in other.history]


def test_seed_decides_every_bit(fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path):
    models = [make_model(dropout=0.1) for _ in range(3)]
    for number, (model, seed) in enumerate(zip(models, (5, 5, 6), strict=True)):
        fit(model, make_flows(100), tmp_path / str(number), seed=seed)
    assert same_bits(models[0], models[1])
    assert not same_bits(models[0], models[2])


def test_model_ends_with_the_weights_of_the_lowest_validation_loss(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    flows, model = make_flows(60), make_model()
    result = fit(
        model, flows, tmp_path, TrainConfig(epochs=4, batch_size=16, learning_rate=0.3, device="cpu")
    )
    losses = [event.valid_loss for event in result.history]
    assert result.best_valid_loss == min(losses)
    logits = torch.from_numpy(score(model, flows))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(flows.class_ids))
    assert float(loss) == pytest.approx(min(losses), rel=1e-6)


def test_training_stops_when_patience_is_spent_and_says_so_again_on_resume(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    config = TrainConfig(
        checkpoint_seconds=0,
        epochs=30,
        batch_size=16,
        learning_rate=0.3,
        device="cpu",
        early_stopping_patience=2,
    )
    flows = make_flows(60)
    first, second = make_model(), make_model(seed=3)
    result = fit(first, flows, tmp_path, config)
    assert result.stopped_early
    assert not any(event.is_best for event in result.history[-2:])
    assert len(result.history) < 30
    again = fit(second, flows, tmp_path, config)
    assert again.stopped_early
    assert len(again.history) == len(result.history)
    assert same_bits(first, second)


def test_damaged_newest_checkpoint_costs_time_but_no_bits(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    flows, straight, resumed = make_flows(100), make_model(), make_model()
    fit(straight, flows, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        fit(resumed, flows, tmp_path / "stopped", listeners=(Interrupter(10),))
    newest = max((tmp_path / "stopped" / "checkpoints").iterdir())
    (newest / "tensors.safetensors").write_bytes(b"torn")
    fit(resumed, flows, tmp_path / "stopped")
    assert same_bits(straight, resumed)
    warnings = [
        r["message"] for r in read_metrics(tmp_path / "stopped" / "metrics.jsonl") if r["event"] == "warning"
    ]
    assert len(warnings) == 1
    assert newest.name in str(warnings[0])


def test_resuming_with_other_settings_is_refused_by_name(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    flows = make_flows(40)
    started = TrainConfig(epochs=1, device="cpu", learning_rate=3e-4, checkpoint_seconds=0)
    fit(make_model(), flows, tmp_path, started)
    with pytest.raises(RunError, match=r"training\.learning_rate = 0\.0003, now it is 0\.5"):
        fit(make_model(), flows, tmp_path, replace(started, learning_rate=0.5))
    fit(make_model(), flows, tmp_path, replace(started, log_every=7, threads=1))


def test_no_checkpoint_is_written_of_weights_that_are_not_finite(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    model = make_model()
    with torch.no_grad():
        model.classifier.bias.fill_(torch.nan)
    with pytest.raises(TrainingError, match="step 1: the loss or its gradient is not finite"):
        fit(model, make_flows(100), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_no_flows_is_a_sentence(fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path):
    with pytest.raises(TrainingError, match="there are no training flows"):
        fit(make_model(), make_flows(0), tmp_path)


def test_metrics_have_every_figure_that_a_person_follows(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    fit(make_model(), make_flows(100), tmp_path)
    records = read_metrics(tmp_path / "metrics.jsonl")
    kinds = [record["event"] for record in records]
    assert (kinds[0], kinds[-1]) == ("start", "end")
    of_step = next(record for record in records if record["event"] == "step")
    assert {
        *(
            "v",
            "step",
            "epoch",
            "loss",
            "lr_backbone",
            "lr_classifier",
            "grad_norm",
            "loss_scale",
            "overflows",
        ),
        *("rows_per_s", "tokens_per_s", "elapsed_s"),
    } <= of_step.keys()
    of_epoch = next(record for record in records if record["event"] == "epoch")
    assert {"valid_loss", "valid_accuracy", "valid_macro_f1", "train_loss"} <= of_epoch.keys()
    steps_of_epochs = [record["step"] for record in records if record["event"] == "epoch"]
    assert steps_of_epochs == [5, 10, 15, 20, 21]


PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import torch
from safetensors.torch import save_file
from conftest import tiny_flows, tiny_model
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.telemetry.events import MetricsLog
from wirebert.training.trainer import fit_model
from wirebert.training.config import TrainConfig

folder = Path(sys.argv[2])
config = TrainConfig(
    epochs=4, batch_size=16, learning_rate=3e-3, device="cpu", checkpoint_every=3, log_every=5,
    early_stopping_patience=9,
)
model = tiny_model(dropout=0.1)
with MetricsLog(folder / "metrics.jsonl") as log:
    print("ready", flush=True)
    fit_model(
        model, tiny_flows(600), tiny_flows(100, seed=1), config, seed=5, corruption=None,
        checkpoints=CheckpointFolder(folder / "checkpoints"), log=log,
    )
save_file(model.state_dict(), folder / "final.safetensors")
"""


def begin(folder: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", PROGRAM, str(Path(__file__).parent), str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.soak
def test_training_killed_at_any_moment_goes_on_to_the_same_bits(tmp_path: Path):
    with begin(tmp_path / "straight") as straight:
        assert straight.stdout is not None
        straight.stdout.readline()
        since = time.perf_counter()
        assert straight.wait() == 0
        whole_s = time.perf_counter() - since

    random, num_kills = np.random.default_rng(), 0
    while num_kills < 3:
        with begin(tmp_path / "killed") as child:
            assert child.stdout is not None
            child.stdout.readline()
            try:
                child.wait(timeout=random.uniform(0, whole_s / 2))
                break
            except subprocess.TimeoutExpired:
                child.kill()
                num_kills += 1
    else:
        with begin(tmp_path / "killed") as child:
            assert child.wait() == 0
    assert num_kills > 0

    final = [(tmp_path / name / "final.safetensors").read_bytes() for name in ("straight", "killed")]
    assert final[0] == final[1]
