import errno
import fcntl
import os
import tempfile
from pathlib import Path

import pytest

from wirebert.files import (
    atomic_file,
    atomic_folder,
    check_depth,
    decode_json,
    fsync_path,
    mapped,
    open_plain_file,
    path_of,
    previous_folder,
    read_json_file,
    read_plain_file,
    read_toml_file,
    try_lock,
    unnamed_file,
    write_atomic,
)


def test_new_text_takes_the_place_of_the_old_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    write_atomic(path, "nöu\n")
    assert path.read_bytes() == "nöu\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_text_that_can_not_be_written_leaves_the_old(tmp_path: Path) -> None:
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        write_atomic(path, "\ud800")
    assert path.read_text() == "old"


def test_a_file_appears_when_the_block_ends_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "scores.bin"
    with atomic_file(path) as temporary:
        temporary.write_bytes(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    with pytest.raises(TypeError), atomic_file(path) as temporary:
        temporary.write_bytes("not bytes")  # pyright: ignore[reportArgumentType]: it fails on purpose
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "scores.bin"

    def write() -> None:
        with atomic_file(path, replaces=False) as temporary:
            temporary.write_bytes(b"new")
            path.write_bytes(b"precious")

    with pytest.raises(FileExistsError):
        write()
    assert path.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_came_meanwhile_is_kept_without_hard_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "not permitted")

    monkeypatch.setattr(os, "link", link)
    test_a_file_that_came_meanwhile_is_kept(tmp_path)
    with atomic_file(tmp_path / "other", replaces=False) as temporary:
        temporary.write_bytes(b"new")
    assert (tmp_path / "other").read_bytes() == b"new"


def test_a_link_with_the_temporary_name_is_not_written_through(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"keep")
    (tmp_path / "scores.bin.part").symlink_to(victim)
    with pytest.raises(FileExistsError), atomic_file(tmp_path / "scores.bin") as temporary:
        temporary.write_bytes(b"new")
    assert victim.read_bytes() == b"keep"
    assert (tmp_path / "scores.bin.part").is_symlink()


def test_two_writers_of_one_file_do_not_mix_and_what_a_kill_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "scores.bin"
    (tmp_path / "scores.bin.part").write_bytes(b"half of it")
    with atomic_file(path) as temporary:
        assert temporary.read_bytes() == b""
        temporary.write_bytes(b"first")
        with pytest.raises(BlockingIOError), atomic_file(path):
            pass
    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o027])
def test_a_new_file_has_the_mode_that_the_umask_leaves(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_atomic(tmp_path / "note.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "note.txt").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("is_there", [False, True])
def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, is_there: bool) -> None:
    folder = tmp_path / "model"
    if is_there:
        folder.mkdir()
        (folder / "old").touch()
    (tmp_path / "model.part").mkdir()  # left by a killed process
    (tmp_path / "model.part" / "half").touch()
    with pytest.raises(ValueError, match="half"), atomic_folder(folder) as temporary:
        raise ValueError("half")
    assert folder.exists() == is_there
    with atomic_folder(folder) as temporary:
        (temporary / "new").touch()
        assert [path.name for path in folder.glob("*")] == ["old"] * is_there
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


def test_a_kill_between_the_two_renames_leaves_the_previous_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "old").touch()

    def replace(path: Path, target: Path) -> None:
        path.rename(target)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", replace)
    with pytest.raises(KeyboardInterrupt), atomic_folder(folder) as temporary:
        (temporary / "new").touch()
    assert not folder.exists()
    assert [path.name for path in previous_folder(folder).iterdir()] == ["old"]


@pytest.mark.parametrize("name", [".", "file"])
def test_file_or_folder_is_synced_and_its_descriptor_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    (tmp_path / "file").write_text("content")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    fsync_path(tmp_path / name)
    (descriptor,) = synced
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_a_file_is_taken_once_until_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as first, path.open("w") as second:
        assert try_lock(first)
        assert not try_lock(second)
        first.close()
        assert try_lock(second)


def test_where_nothing_can_be_locked_nobody_is_kept_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (tmp_path / "lock").open("w") as file:
        assert try_lock(file)


@pytest.mark.parametrize("in_memory", [False, True])
def test_an_unnamed_file_has_no_name_and_can_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, in_memory: bool
):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with unnamed_file("wirebert-", in_memory=in_memory) as file:
        file.write(b"content")
        file.flush()
        assert not list(tmp_path.iterdir())
        assert path_of(file).read_bytes() == mapped(file) == b"content"


@pytest.mark.parametrize("kind", ["device", "pipe", "folder"])
def test_only_plain_files_are_read_and_nothing_is_waited_for(tmp_path: Path, kind: str):
    path = tmp_path / "report.json"
    if kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.mkdir()
    with pytest.raises(OSError, match=r"device or a pipe|directory"):
        open_plain_file(path)


def test_a_link_to_a_plain_file_is_read(tmp_path: Path):
    (tmp_path / "there.json").write_text("[1]")
    (tmp_path / "here.json").symlink_to("there.json")
    assert read_json_file(tmp_path / "here.json") == [1]


def test_a_file_above_the_limit_is_not_read(tmp_path: Path):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", 1 << 40)
    with pytest.raises(OSError, match="larger than 1 MB"):
        read_plain_file(tmp_path / "large", 1 << 20)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 66 + "]" * 66, "no json", "\udcff"])
def test_deep_or_damaged_json_is_a_value_error(text: str):
    with pytest.raises(ValueError):
        decode_json(text)


def test_structures_as_deep_as_the_limit_are_read():
    check_depth(decode_json("[" * 64 + "]" * 64))


@pytest.mark.parametrize("text", [b"a = " + b"[" * 20_000, b"a." * 500 + b"a = 1", b"\xff = 1", b"a = "])
def test_deep_or_damaged_toml_is_a_value_error(tmp_path: Path, text: bytes):
    (tmp_path / "run.toml").write_bytes(text)
    with pytest.raises(ValueError):
        read_toml_file(tmp_path / "run.toml")
