"""A file of lines that is resumed where the saved state ends, also if it was rotated meanwhile."""

import gzip
from pathlib import Path

import pytest

from wirebert.alerts.appended_file import AppendedFile
from wirebert.errors import DataError


def opened(path: Path, saved: object = None, told: list[str] | None = None) -> AppendedFile:
    return AppendedFile(path, saved, [].append if told is None else told.append)  # pyright: ignore[reportArgumentType]


def saved_end(file: AppendedFile) -> object:
    file.flush()
    return file.end


def test_lines_behind_the_saved_end_are_cut_off(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    file = opened(path)
    file.write([b"one"])
    end = saved_end(file)
    file.write([b"two", b"three"])
    file.close()
    again = opened(path, end)
    again.write([b"two again"])
    again.close()
    assert path.read_bytes() == b"one\ntwo again\n"


def test_a_renamed_file_is_left_for_a_new_one_and_each_line_is_in_one_of_them(tmp_path: Path):
    path, old = tmp_path / "out.jsonl", tmp_path / "out.jsonl.1"
    file = opened(path)
    file.write([b"one"])
    saved_end(file)
    path.rename(old)
    file.write([b"two"])
    saved_end(file)
    assert file.follow_rotation()
    assert not file.follow_rotation()
    file.write([b"three"])
    file.close()
    assert old.read_bytes() == b"one\ntwo\n"
    assert path.read_bytes() == b"three\n"


@pytest.mark.parametrize("is_made_anew", [True, False])
def test_after_a_kill_the_renamed_file_is_cut_off_too(tmp_path: Path, is_made_anew: bool):
    path, old = tmp_path / "out.jsonl", tmp_path / "out-20260301.jsonl"
    file = opened(path)
    file.write([b"one"])
    end = saved_end(file)
    path.rename(old)
    if is_made_anew:
        path.touch()  # logrotate's `create`
    file.write([b"two"])
    file.close()  # killed before it saved
    told: list[str] = []
    again = opened(path, end, told)
    again.write([b"two"])
    again.close()
    assert (old.read_bytes(), path.read_bytes(), told) == (b"one\n", b"two\n", [])


def test_a_packed_file_of_the_saved_state_is_told(tmp_path: Path):
    path, told = tmp_path / "out.jsonl", list[str]()
    file = opened(path)
    file.write([b"one"])
    end = saved_end(file)
    file.close()
    (tmp_path / "out.jsonl.1.gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    opened(path, end, told).close()
    assert "is gone or packed" in told[0]


def test_a_file_of_somebody_else_is_kept(tmp_path: Path):
    path = tmp_path / "out.jsonl"
    path.write_text("mine\n")
    with pytest.raises(DataError, match="which is kept"):
        opened(path)
    assert path.read_text() == "mine\n"


def test_a_line_that_does_not_fit_on_the_disk_is_not_there_in_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "out.jsonl"
    file = opened(path)
    file.write([b"one"])
    real = file._file  # pyright: ignore[reportPrivateUsage]

    class Full:
        """A disk with room for three more bytes."""

        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        def write(self, text: bytes) -> int:
            if len(text) <= 3:
                raise OSError(28, "No space left on device")
            return real.write(text[:3])

    monkeypatch.setattr(file, "_file", Full())
    with pytest.raises(OSError, match="No space"):
        file.write([b"two2"])
    real.close()
    assert path.read_bytes() == b"one\n"


def test_it_is_not_written_through_a_link_and_not_by_two(tmp_path: Path):
    (tmp_path / "mine").touch()
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(DataError, match="cannot be written"):
        opened(tmp_path / "link")
    file = opened(tmp_path / "out")
    with pytest.raises(DataError, match="another process"):
        opened(tmp_path / "out")
    file.close()
