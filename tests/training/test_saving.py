import threading
from pathlib import Path

import pytest
import torch

from wirebert.errors import RunError
from wirebert.training.checkpoint import Checkpoint, CheckpointFolder
from wirebert.training.saving import BackgroundWriter


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
