import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from wirebert.errors import RunError
from wirebert.model.distilbert import DistilBert
from wirebert.training.checkpoint import Checkpoint, CheckpointFolder
from wirebert.training.config import TrainConfig
from wirebert.training.feeding import LabelledFlows, steps
from wirebert.training.loop import TrainState, train
from wirebert.training.snapshot import BackgroundWriter, CpuCopy, model_weights, pack_state, unpack_state

MakeModel = Callable[..., DistilBert]
MakeFlows = Callable[..., LabelledFlows]
CONFIG = TrainConfig(epochs=2, batch_size=16, learning_rate=3e-3, device="cpu")


def state_of(model: DistilBert, *, seed: int = 5, config: TrainConfig = CONFIG) -> TrainState:
    return TrainState.start(model, config, seed=seed, num_steps=8, class_counts=np.array([1, 1, 1]))


def test_unpacked_state_takes_the_step_that_the_packed_one_takes(
    make_model: MakeModel, make_flows: MakeFlows
):
    one, other, flows = (
        state_of(make_model(dropout=0.1)),
        state_of(make_model(seed=9, dropout=0.1)),
        make_flows(64),
    )
    feed = list(steps(flows, CONFIG, seed=5))
    list(train(one, feed[:3]))
    packed = pack_state(one, {})
    unpack_state(other, packed._replace(tensors=CpuCopy(packed.tensors).wait()))
    for state in (one, other):
        list(train(state, feed[3:4]))
    assert (one.step, other.step) == (4, 4)
    weights = other.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in one.model.state_dict().items())


def test_copy_holds_what_the_tensors_were(make_model: MakeModel, make_flows: MakeFlows):
    state = state_of(make_model())
    before = {name: weight.clone() for name, weight in state.model.state_dict().items()}
    copy = CpuCopy(pack_state(state, {}).tensors)
    list(train(state, steps(make_flows(16), CONFIG, seed=5)))
    copied = model_weights(pack_state(state, {})._replace(tensors=copy.wait()))
    assert all(torch.equal(copied[name], weight) for name, weight in before.items())
    assert not torch.equal(state.model.classifier.weight, before["classifier.weight"])


def test_loss_scale_and_micro_batch_go_on_as_they_were(make_model: MakeModel):
    config = replace(CONFIG, precision="fp16")
    one, other = state_of(make_model(), config=config), state_of(make_model(), config=config)
    one.scaler.load_state_dict({**one.scaler.state_dict(), "scale": 512.0, "_growth_tracker": 7})
    one.micro_batch_tokens = 77
    unpack_state(other, pack_state(one, {}))
    assert other.scaler.state_dict() == one.scaler.state_dict()
    assert other.micro_batch_tokens == 77


@pytest.mark.parametrize("what", ["seed", "shape"])
def test_state_of_another_training_is_refused(make_model: MakeModel, what: str):
    packed = pack_state(state_of(make_model()), {})
    if what == "seed":
        with pytest.raises(RunError, match="written with seed 5, this run has 6"):
            unpack_state(state_of(make_model(), seed=6), packed)
    else:
        del packed.tensors["model.classifier.bias"]
        with pytest.raises(RunError, match="a model of another shape"):
            unpack_state(state_of(make_model()), packed)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_copy_from_a_gpu_holds_what_the_tensors_were_and_lets_it_go_on():
    tensors = {str(number): torch.full((1 << 24,), float(number), device="cuda") for number in range(4)}
    copy = CpuCopy(tensors)
    for _ in range(100):
        for tensor in tensors.values():
            tensor.add_(1.0)
    copies = copy.wait()
    assert all(copies[name].is_pinned() for name in tensors)
    assert [float(copies[str(number)].unique()) for number in range(4)] == [0.0, 1.0, 2.0, 3.0]


class Gate:
    """Holds every write back until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.opened, self.reached = threading.Event(), threading.Event()
        write = CheckpointFolder._write  # pyright: ignore[reportPrivateUsage]  # the moment that tests need

        def held(*arguments: object) -> None:
            self.reached.set()
            assert self.opened.wait(timeout=20)
            write(*arguments)  # pyright: ignore[reportArgumentType]  # as it was called

        monkeypatch.setattr(CheckpointFolder, "_write", held)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    return Gate(monkeypatch)


def test_what_is_written_is_what_was_there_when_it_began(tmp_path: Path, gate: Gate):
    weight = torch.ones(3)
    with BackgroundWriter(CheckpointFolder(tmp_path)) as writer:
        assert writer.start(1, Checkpoint({"model.weight": weight}, {})) is None
        assert gate.reached.wait(timeout=20)
        weight.zero_()  # the next step
        assert writer.written() is None
        gate.opened.set()
        assert writer.wait() == tmp_path / "checkpoint-00000001"
    assert CheckpointFolder(tmp_path).load(1).tensors["model.weight"].tolist() == [1.0, 1.0, 1.0]


def test_a_save_waits_for_the_one_before(tmp_path: Path, gate: Gate):
    folder = CheckpointFolder(tmp_path)
    with BackgroundWriter(folder) as writer:
        writer.start(1, Checkpoint({}, {}))
        threading.Timer(0.1, gate.opened.set).start()
        assert writer.start(2, Checkpoint({}, {})) == tmp_path / "checkpoint-00000001"
    assert folder.steps() == [1, 2]


def test_leaving_waits_until_all_is_on_disk(tmp_path: Path, gate: Gate):
    folder = CheckpointFolder(tmp_path)
    with BackgroundWriter(folder) as writer:
        writer.start(1, Checkpoint({}, {}))
        threading.Timer(0.1, gate.opened.set).start()
    assert folder.steps() == [1]


def test_what_went_wrong_in_the_thread_is_raised_at_the_next_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wirebert.training.checkpoint.save_file", fail)
    with BackgroundWriter(CheckpointFolder(tmp_path)) as writer:
        writer.start(1, Checkpoint({}, {}))
        with pytest.raises(RunError, match=r"checkpoint-00000001: .*No space left on device"):
            writer.wait()
