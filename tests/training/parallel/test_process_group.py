"""Two processes against one. They are forked, with gloo between them; whole commands go through torchrun."""

import faulthandler
import gc
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal, cast

import numpy as np
import pytest
import torch

from wirebert.data.synthetic import write_csv
from wirebert.encoding.token_rows import take_rows
from wirebert.errors import Terminated, TrainingError, UserError
from wirebert.model.distilbert import DistilBert
from wirebert.report.report import read_json
from wirebert.telemetry.events import Event, Listener, StepEvent
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.distillation import SoftTargets
from wirebert.training.feeding import LabelledFlows, StepFlows, num_passes, share_of
from wirebert.training.parallel.gradient_sum import ALIGNMENT
from wirebert.training.parallel.process_group import (
    SINGLE_RANK,
    Communicator,
    ProcessGroup,
    StopVote,
    init_process_group,
)
from wirebert.training.result import TrainingResult

pytestmark = pytest.mark.slow

MakeModel = Callable[..., DistilBert]
MakeFlows = Callable[..., LabelledFlows]
Fit = Callable[..., TrainingResult]
Weights = dict[str, torch.Tensor]

CONFIG = TrainConfig(
    epochs=2,
    batch_size=16,
    learning_rate=3e-3,
    device="cpu",
    checkpoint_every=4,
    log_every=3,
    evaluate_every=5,
    max_grad_norm=0.5,
)
TERMINATED, INTERRUPTED, FAILED = 143, 130, 2
LONGEST_S = 30
"""What is not over then hangs."""

NUM_FLOWS = 49
"""The last step of an epoch has one flow: the second rank has none."""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return cast(int, listening.getsockname()[1])


def in_ranks(work: Callable[[ProcessGroup], None], folder: Path, size: int = 2) -> list[int]:
    """Exit codes of forked processes that do this work together; what they would tell the user lands in
    `folder`."""
    port = free_port()
    gc.collect()

    def run(rank: int) -> None:
        # A forked process can not use a GPU that its parent has used.
        torch.cuda.is_available, torch.cuda.device_count = (lambda: False), (lambda: 0)
        gc.freeze()  # a destructor of what earlier tests left may wait for a thread that only the parent has
        faulthandler.dump_traceback_later(LONGEST_S - 5)  # where a rank hangs stands in the test's output
        os.environ.update(
            RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
        )
        try:
            with init_process_group(os.environ) as crew:
                work(crew)
        except UserError as error:
            (folder / f"said by {rank}").write_text(str(error))
            os._exit(FAILED)
        except KeyboardInterrupt as stop:
            os._exit(TERMINATED if isinstance(stop, Terminated) else INTERRUPTED)
        except Exception:  # noqa: BLE001 - a bug; told here, for no one else sees it
            traceback.print_exc()
            os._exit(1)

    ranks = [multiprocessing.get_context("fork").Process(target=run, args=(rank,)) for rank in range(size)]
    for process in ranks:
        process.start()
    deadline = time.monotonic() + LONGEST_S
    for process in ranks:
        process.join(max(0, deadline - time.monotonic()))
        if process.is_alive():
            process.kill()
            process.join()
    return [process.exitcode or 0 for process in ranks]


@pytest.fixture
def fit(fit: Fit) -> Fit:
    """The same; the first rank leaves its weights in the folder."""

    def run(
        model: DistilBert,
        flows: LabelledFlows,
        folder: Path,
        *given: TrainConfig,
        world: Communicator = SINGLE_RANK,
        **named: object,
    ) -> TrainingResult:
        result = fit(model, flows, folder, *given, world=world, **named)
        if world.is_main:
            torch.save(model.state_dict(), folder / "weights.pt")
        return result

    return run


def weights(folder: Path) -> Weights:
    return cast(Weights, torch.load(folder / "weights.pt"))


def furthest(one: Weights, other: Weights) -> float:
    """The largest difference between two models' weights."""
    assert one.keys() == other.keys()
    return max(float((weight - other[name]).abs().max()) for name, weight in one.items())


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"micro_batch_tokens": 20},
        {"parallel": "fsdp"},
        {"parallel": "fsdp", "micro_batch_tokens": 20},
        {"class_weights": "balanced", "workers": 1},
    ],
)
def test_two_ranks_train_the_weights_that_one_process_does(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, changed: dict[str, object]
):
    flows, config = make_flows(NUM_FLOWS), replace(CONFIG, **changed)  # pyright: ignore[reportArgumentType]
    expected = fit(make_model(), flows, tmp_path / "one", config)

    def work(crew: ProcessGroup) -> None:
        folder = tmp_path / "two"
        result = fit(make_model(), flows, folder, config, world=crew.communicator)
        assert (result.best_step, result.stopped_early) == (expected.best_step, expected.stopped_early)
        for ours, theirs in zip(result.history, expected.history, strict=True):
            assert ours.train_loss == pytest.approx(theirs.train_loss, abs=1e-5)
            assert ours.train_accuracy == theirs.train_accuracy
            assert ours.valid_loss == pytest.approx(theirs.valid_loss, abs=1e-5)
            assert ours.valid_macro_f1 == pytest.approx(theirs.valid_macro_f1)

    assert in_ranks(work, tmp_path) == [0, 0]
    assert furthest(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-6


class Stopper:
    """Sends this process a signal once a step is reported."""

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number = step, number

    def receive(self, event: Event) -> None:
        if isinstance(event, StepEvent) and event.step >= self.step:
            signal.raise_signal(self.number)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("before", "after"), [(2, 1), (1, 2), ("fsdp", 1), (1, "fsdp"), ("fsdp", 2)], ids=lambda how: f"{how}"
)
def test_what_some_ranks_began_others_finish(
    fit: Fit,
    make_model: MakeModel,
    make_flows: MakeFlows,
    tmp_path: Path,
    before: int | str,
    after: int | str,
):
    flows = make_flows(NUM_FLOWS)
    fit(make_model(), flows, tmp_path / "straight")

    def part(how: int | str, *listeners: Listener) -> list[int]:
        config = replace(CONFIG, parallel="fsdp" if how == "fsdp" else "ddp")

        def work(crew: ProcessGroup) -> None:
            fit(make_model(), flows, tmp_path / "parts", config, world=crew.communicator, listeners=listeners)

        return in_ranks(work, tmp_path, 1 if how == 1 else 2)

    # All stop, though only the first was asked to.
    assert part(before, Stopper(6)) == [TERMINATED] * (1 if before == 1 else 2)
    assert CheckpointFolder(tmp_path / "parts" / "checkpoints").steps()
    assert not (tmp_path / "parts" / "weights.pt").exists()
    assert part(after) == [0] * (1 if after == 1 else 2)
    assert furthest(weights(tmp_path / "straight"), weights(tmp_path / "parts")) < 1e-6


def said(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("said by *")}


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_ends_all_and_alone_says_why(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, failing: int
):
    def work(crew: ProcessGroup) -> None:
        if crew.communicator.rank == failing:
            raise TrainingError("this is why")
        fit(make_model(), make_flows(NUM_FLOWS), tmp_path / "run", world=crew.communicator)

    assert in_ranks(work, tmp_path) == [FAILED, FAILED]
    assert said(tmp_path) == {f"said by {failing}": "this is why"}


def test_a_first_rank_that_fails_before_training_lets_no_one_wait(tmp_path: Path):
    def work(crew: ProcessGroup) -> None:
        if crew.communicator.is_main:
            raise TrainingError("this is why")
        crew.receive_job()

    assert in_ranks(work, tmp_path) == [FAILED, FAILED]
    assert said(tmp_path) == {"said by 0": "this is why"}


def test_an_error_that_all_ranks_meet_is_told_once(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path
):
    def work(crew: ProcessGroup) -> None:
        config = replace(CONFIG, learning_rate=1e30)
        fit(make_model(), make_flows(NUM_FLOWS), tmp_path / "run", config, world=crew.communicator)

    assert in_ranks(work, tmp_path) == [FAILED, FAILED]
    (sentence,) = said(tmp_path).values()
    assert "not finite" in sentence


@pytest.mark.soak
def test_a_killed_rank_is_missed(fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path):
    def work(crew: ProcessGroup) -> None:
        if crew.communicator.rank == 1:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
        config = replace(CONFIG, epochs=10_000)
        fit(make_model(), make_flows(NUM_FLOWS), tmp_path / "run", config, world=crew.communicator)

    assert in_ranks(work, tmp_path) == [FAILED, -signal.SIGKILL]
    assert "ended without saying why" in said(tmp_path)["said by 0"]


def test_ctrl_c_on_one_rank_stops_all(fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path):
    def work(crew: ProcessGroup) -> None:
        if crew.communicator.rank == 1:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        config = replace(CONFIG, epochs=10_000)
        fit(make_model(), make_flows(NUM_FLOWS), tmp_path / "run", config, world=crew.communicator)

    assert in_ranks(work, tmp_path) == [INTERRUPTED, INTERRUPTED]
    assert CheckpointFolder(tmp_path / "run" / "checkpoints").steps()


def test_memory_that_runs_out_on_one_rank_halves_its_micro_batches_alone(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    flows, config = make_flows(NUM_FLOWS), replace(CONFIG, micro_batch_tokens=60)
    fit(make_model(), flows, tmp_path / "one", config)
    whole_forward = DistilBert.forward

    def small_forward(model: DistilBert, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        if model.training and ids.numel() > 30:
            raise torch.OutOfMemoryError("a test's")
        return whole_forward(model, ids, mask)

    def work(crew: ProcessGroup) -> None:
        if crew.communicator.rank == 1:
            monkeypatch.setattr(DistilBert, "forward", small_forward)
        fit(make_model(), flows, tmp_path / "two", config, world=crew.communicator)

    assert in_ranks(work, tmp_path) == [0, 0]
    assert furthest(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-6


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_learn_from_a_teacher_what_one_does(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, parallel: Literal["ddp", "fsdp"]
):
    flows, config = make_flows(NUM_FLOWS), replace(CONFIG, parallel=parallel)
    said = np.random.default_rng(0).normal(size=(NUM_FLOWS, 3)).astype(np.float32)
    soft = SoftTargets(log_probabilities=said, temperature=2.0, teacher_weight=0.7)
    fit(make_model(), flows, tmp_path / "one", config, soft=soft)
    fit(make_model(), flows, tmp_path / "alone", config)

    def work(crew: ProcessGroup) -> None:
        fit(make_model(), flows, tmp_path / "two", config, soft=soft, world=crew.communicator)

    assert in_ranks(work, tmp_path) == [0, 0]
    assert furthest(weights(tmp_path / "one"), weights(tmp_path / "two")) < 1e-6
    assert furthest(weights(tmp_path / "one"), weights(tmp_path / "alone")) > 1e-3


def test_gradients_are_sent_once_a_step_however_it_is_cut(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def work(crew: ProcessGroup) -> None:
        sent: list[int] = []

        def counted(tensor: torch.Tensor, *how: object, **named: object) -> object:
            sent.append(tensor.numel())
            return all_reduce(tensor, *how, **named)

        monkeypatch.setattr("torch.distributed.all_reduce", counted)
        config = replace(CONFIG, micro_batch_tokens=20)
        model = make_model()
        fit(model, make_flows(NUM_FLOWS), tmp_path / "run", config, world=crew.communicator)
        num_sent = sum(-(-weight.numel() // ALIGNMENT) * ALIGNMENT for weight in model.parameters())
        assert sent.count(num_sent) == 2 * 4  # epochs, steps

    all_reduce: Callable[..., object] = torch.distributed.all_reduce
    assert in_ranks(work, tmp_path) == [0, 0]


def test_ranks_draw_dropout_of_their_own(
    fit: Fit, make_model: MakeModel, make_flows: MakeFlows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def work(crew: ProcessGroup) -> None:
        seeds: list[int] = []
        monkeypatch.setattr("wirebert.training.loop.torch.manual_seed", seeds.append)
        fit(make_model(dropout=0.1), make_flows(NUM_FLOWS), tmp_path / "run", world=crew.communicator)
        first, second = crew.communicator.all_gather(seeds)
        assert len(set(first) | set(second)) == len(first) + len(second)

    assert in_ranks(work, tmp_path) == [0, 0]


def test_a_vote_is_for_the_call_before_and_the_largest_wins(tmp_path: Path):
    def work(crew: ProcessGroup) -> None:
        vote = StopVote(crew.communicator)
        mine = [[0, 2, 0, 0], [0, 15, 0, 2]][crew.communicator.rank]
        assert [vote.result(number) for number in mine] == [0, 0, 15, 0]
        assert vote.close() == 2

    assert in_ranks(work, tmp_path) == [0, 0]


def test_shares_of_a_step_are_all_of_its_flows_once(make_flows: MakeFlows):
    flows = make_flows(7)
    step = StepFlows(0, 0, take_rows(flows, np.arange(7)), flows.class_ids)
    shares = [share_of(step, rank, 3) for rank in range(3)]
    assert [len(share.class_ids) for share in shares] == [3, 2, 2]
    for flow in range(7):
        rows, place = shares[flow % 3].rows, flow // 3
        own = rows.ids[rows.offsets[place] : rows.offsets[place + 1]]
        np.testing.assert_array_equal(own, flows.ids[flows.offsets[flow] : flows.offsets[flow + 1]])


def test_a_rank_of_a_short_step_may_have_no_share(make_flows: MakeFlows):
    flows = make_flows(1)
    step = StepFlows(0, 0, take_rows(flows, np.arange(1)), flows.class_ids)
    assert len(share_of(step, 1, 2).class_ids) == 0
    assert num_passes(step, 0, 2, torch.device("cpu")) == 1


SETTINGS = (
    *("model.size=mini", "model.dropout=0", "model.attention_dropout=0", "model.head_dropout=0"),
    *(
        "training.epochs=1",
        "training.device=cpu",
        "evaluation.baseline=false",
        "evaluation.num_resamples=100",
    ),
)


def wirebert(folder: Path, num_ranks: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in processes of its own; more than one are started by torchrun."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(num_ranks)]
    command = [sys.executable, *(torchrun if num_ranks > 1 else []), "-m", "wirebert", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=200)


@pytest.mark.soak
def test_a_command_under_torchrun_reports_what_one_process_does(tmp_path: Path):
    write_csv(tmp_path / "train.csv", 1200, 1)
    write_csv(tmp_path / "test.csv", 300, 2)
    given = [
        "train",
        "train.csv",
        "--test",
        "test.csv",
        *(word for each in SETTINGS for word in ("--set", each)),
    ]
    for num_ranks in (1, 2):
        done = wirebert(tmp_path, num_ranks, *given, "--out", f"run{num_ranks}")
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("report: ") == 1
    one, two = (read_json(tmp_path / name / "report.json") for name in ("run1", "run2"))
    for split, expected in one.splits.items():
        assert two.splits[split].accuracy == pytest.approx(expected.accuracy)
        assert two.splits[split].loss == pytest.approx(expected.loss, abs=1e-4)


@pytest.mark.soak
def test_a_command_that_can_not_begin_says_so_once_and_ends_all(tmp_path: Path):
    done = wirebert(tmp_path, 2, "train", "missing.csv")
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if line.startswith("wirebert: ")]
    assert len(told) == 1
    assert "missing.csv" in told[0]
