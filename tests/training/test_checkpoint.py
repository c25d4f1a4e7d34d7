import json
import resource
from pathlib import Path

import pytest
import torch

from wirebert.errors import RunError
from wirebert.training.checkpoint import Checkpoint, CheckpointFolder


def checkpoint(value: float) -> Checkpoint:
    return Checkpoint({"model.weight": torch.full((3,), value)}, {"note": value})


def no_warning(message: str) -> None:
    raise AssertionError(message)


def test_what_was_saved_is_what_is_loaded(tmp_path: Path):
    folder = CheckpointFolder(tmp_path)
    folder.save(7, checkpoint(0.1))
    found = folder.newest(no_warning)
    assert found is not None
    assert torch.equal(found.tensors["model.weight"], torch.full((3,), 0.1))
    assert (found.scalars["note"], found.scalars["step"]) == (0.1, 7)


def test_no_checkpoint_yet_is_none(tmp_path: Path):
    assert CheckpointFolder(tmp_path / "not there").newest(no_warning) is None


def test_only_the_newest_are_kept(tmp_path: Path):
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in (5, 10, 15, 20):
        folder.save(step, checkpoint(step))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-00000015", "checkpoint-00000020"]


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["torn", "flipped", "gone"])
def test_damaged_checkpoint_falls_back_to_the_one_before_with_a_sentence(
    tmp_path: Path, name: str, damage: str
):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, checkpoint(1.0))
    folder.save(2, checkpoint(2.0))
    path = tmp_path / "checkpoint-00000002" / name
    content = bytearray(path.read_bytes())
    if damage == "gone":
        path.unlink()
    elif damage == "torn":
        path.write_bytes(content[: len(content) // 2])
    else:
        content[-4] ^= 1
        path.write_bytes(content)
    warnings: list[str] = []
    found = folder.newest(warnings.append)
    assert found is not None
    assert found.scalars["step"] == 1
    (warning,) = warnings
    assert "checkpoint-00000002" in warning
    assert name in warning


def test_all_damaged_is_an_error_that_names_the_folder(tmp_path: Path):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, checkpoint(1.0))
    (tmp_path / "checkpoint-00000001" / "state.json").write_text("{")
    warnings: list[str] = []
    with pytest.raises(RunError, match=r"every checkpoint is damaged; delete the folder to start over"):
        folder.newest(warnings.append)


def test_what_a_kill_left_half_written_is_no_checkpoint_and_goes_away(tmp_path: Path):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, checkpoint(1.0))
    (tmp_path / ".partial-2").mkdir()
    (tmp_path / ".partial-2" / "tensors.safetensors").write_bytes(b"half")
    assert folder.steps() == [1]
    folder.save(3, checkpoint(3.0))
    assert not list(tmp_path.glob(".partial-*"))


def test_damaged_checkpoint_of_a_later_step_never_outlives_a_whole_one(tmp_path: Path):
    folder = CheckpointFolder(tmp_path, keep=1)
    folder.save(9, checkpoint(9.0))
    folder.save(4, checkpoint(4.0))  # as after falling back: step 9 is made again
    assert folder.steps() == [4]


def test_full_disk_is_a_sentence_and_older_checkpoints_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = CheckpointFolder(tmp_path)
    folder.save(1, checkpoint(1.0))

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("wirebert.training.checkpoint.save_file", fail)
    with pytest.raises(RunError, match=r"No space left on device.*make room, then go on with --resume"):
        folder.save(2, checkpoint(2.0))
    assert folder.steps() == [1]


@pytest.mark.parametrize("most_bytes", [2_000, 8_100])
def test_file_that_can_not_grow_is_a_sentence_and_leaves_nothing(tmp_path: Path, most_bytes: int):
    """The system itself refuses, once in the tensors and once in the values."""
    folder = CheckpointFolder(tmp_path)
    folder.save(1, checkpoint(1.0))
    large = Checkpoint({"model.weight": torch.zeros(2_000 - 20)}, {"note": "x" * 20_000})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        with pytest.raises(RunError, match=r"checkpoint-00000002: .* cannot be written .*File too large"):
            folder.save(2, large)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-00000001"]


def test_checkpoint_of_another_version_is_a_sentence_with_a_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folder = CheckpointFolder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr("wirebert.training.checkpoint.VERSION", 1)
        folder.save(1, checkpoint(1.0))
    with pytest.raises(
        RunError, match=r"version 4, found 1; finish the run with the wirebert that started it"
    ):
        folder.newest(no_warning)


def test_checkpoint_holds_no_pickle(tmp_path: Path):
    CheckpointFolder(tmp_path).save(1, checkpoint(1.0))
    files = sorted(path.name for path in (tmp_path / "checkpoint-00000001").iterdir())
    assert files == ["state.json", "tensors.safetensors"]
    json.loads((tmp_path / "checkpoint-00000001" / "state.json").read_text())
