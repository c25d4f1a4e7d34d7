from pathlib import Path

import pytest

from wirebert.files import write_whole


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
