import hashlib
import resource
from pathlib import Path

import pytest
from pyarrow import fs

from wirebert.cluster.storage import Storage, is_uri
from wirebert.errors import DataError


def test_a_path_and_its_uri_are_the_same_place(tmp_path: Path):
    Storage.of(str(tmp_path / "a")).write("b/c.txt", b"one")
    other = Storage.of(f"{(tmp_path / 'a').as_uri()}/")
    assert other.read("b/c.txt") == b"one"
    assert [info.path for info in other.list()] == [str(tmp_path / "a" / "b" / "c.txt")]
    assert [is_uri(name) for name in (other.name, str(tmp_path))] == [True, False]
    other.delete()
    assert not (tmp_path / "a").exists()


def test_a_file_appears_when_it_is_whole_and_not_before(tmp_path: Path):
    storage = Storage.of(str(tmp_path))
    with storage.new_file("x") as sink:
        sink.write(b"ab")
        sink.write(b"c")
        assert not storage.exists("x")
    assert (tmp_path / "x").read_bytes() == b"abc"
    assert (sink.num_bytes, sink.sha256) == (3, hashlib.sha256(b"abc").hexdigest())
    with pytest.raises(KeyError), storage.new_file("y") as sink:
        raise KeyError(sink.write(b"ab"))
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert (storage.size("x"), storage.size("y"), storage.read("y")) == (3, None, None)


def test_any_file_system_of_arrow_will_do(tmp_path: Path):
    below = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    storage = Storage(below, "bucket/out", "mock://bucket/out")
    storage.write("day=1/x", b"1")
    assert (tmp_path / "bucket" / "out" / "day=1" / "x").read_bytes() == b"1"
    assert b"".join(storage.pieces("day=1/x")) == b"1"


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [("nope://bucket/x", "cannot be opened"), ("s3://key:secret@bucket/x", "environment")],
)
def test_a_uri_that_cannot_be_used_is_told_in_a_sentence(uri: str, sentence: str):
    with pytest.raises(DataError, match=sentence) as told:
        Storage.of(uri)
    assert "secret" not in str(told.value)
    assert "\n" not in str(told.value)


def test_a_disk_that_takes_no_more_is_told_in_a_sentence(tmp_path: Path):
    storage = Storage.of(str(tmp_path / "out"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(DataError, match=r"cannot write \(.*has finished is kept"):
            storage.write("x", b"z" * (2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list((tmp_path / "out").iterdir())
