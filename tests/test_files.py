import os
from pathlib import Path

import pytest

from wirebert.files import force_to_disk, write_whole


def test_new_text_takes_the_place_of_the_old_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    write_whole(path, "nöu\n")
    assert path.read_bytes() == "nöu\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_can_not_be_written_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"


@pytest.mark.parametrize("name", [".", "file"])
def test_file_or_folder_is_synced_and_its_descriptor_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / "file").write_text("content")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    force_to_disk(tmp_path / name)
    (descriptor,) = synced
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
