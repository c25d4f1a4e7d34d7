import gzip
import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wirebert.data.datasets import DataFile, DataSet, dataset, download, known_datasets, verify
from wirebert.data.formats import FORMATS
from wirebert.data.layouts import known_schemas
from wirebert.errors import ConfigError, DataError

CONTENT = b"dur,proto\n1,tcp\n"


def made_up(sha256: str | None = None) -> DataSet:
    file = DataFile(name="a+b.csv", role="all", sha256=sha256 or hashlib.sha256(CONTENT).hexdigest())
    return DataSet(
        name="made-up",
        title="",
        citation="",
        licence="",
        homepage="http://example",
        split="",
        label="",
        files=(file,),
    )


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An address on this machine, and the folder it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_address[1]}", folder
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_every_set_says_what_to_cite_and_how_to_split():
    known = known_datasets()
    assert len(known) == 8
    for name, data_set in known.items():
        assert data_set.name == name
        assert data_set.citation
        assert data_set.licence
        assert data_set.split
        assert data_set.homepage.startswith("https://")
        assert data_set.schema is None or data_set.schema in {*known_schemas(), *FORMATS.values()}


def test_what_we_have_not_seen_is_unverified():
    assert not dataset("cic-ids2017").is_verified
    assert dataset("nsl-kdd").is_verified


def test_an_unknown_set_suggests_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'nsl-kdd'"):
        dataset("nslkdd")


@pytest.mark.parametrize("folder", ["nsl-kdd", "unsw-nb15", "http-params", "iot-23", "ton-iot"])
def test_real_files_are_recognised_by_content(data_dir: Path, folder: str):
    checked = verify(data_dir / folder)
    assert {found.status for found in checked} == {"verified"}
    assert {found.data_set for found in checked} == {folder}


def test_changed_and_unknown_files_are_told_apart(tmp_path: Path):
    (tmp_path / "KDDTest+.txt.gz").write_bytes(gzip.compress(b"0,tcp\n"))
    (tmp_path / "notes.csv").write_text("a,b\n")
    (tmp_path / ".hidden").write_text("x")
    changed, unknown = verify(tmp_path)
    assert (changed.status, changed.data_set, changed.file) == ("changed", "nsl-kdd", "KDDTest+.txt")
    assert (unknown.status, unknown.data_set) == ("unknown", None)


def test_empty_folders_and_damaged_files_are_one_sentence(tmp_path: Path):
    with pytest.raises(DataError, match="expected files of a data set"):
        verify(tmp_path)
    (tmp_path / "x.gz").write_bytes(gzip.compress(CONTENT * 100)[:-9])
    with pytest.raises(DataError, match="gzip data is damaged"):
        verify(tmp_path)


@pytest.mark.parametrize("packed", [False, True])
def test_a_download_is_kept_if_its_content_is_the_published_one(
    server: tuple[str, Path], tmp_path: Path, packed: bool
):
    url, folder = server
    name = "a+b.csv.gz" if packed else "a+b.csv"
    (folder / name).write_bytes(gzip.compress(CONTENT) if packed else CONTENT)
    notes: list[str] = []
    assert download(made_up(), url + "/", tmp_path / "to", notes.append) == (tmp_path / "to" / name,)
    (folder / name).unlink()
    assert download(made_up(), url, tmp_path / "to", notes.append) == (tmp_path / "to" / name,)
    assert "already there" in notes[-1]


def test_another_content_is_not_kept(server: tuple[str, Path], tmp_path: Path):
    url, folder = server
    (folder / "a+b.csv").write_bytes(CONTENT + b"2,udp\n")
    with pytest.raises(DataError, match="nothing was kept"):
        download(made_up(), url, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_what_can_not_be_fetched_is_one_sentence(server: tuple[str, Path], tmp_path: Path):
    url, _ = server
    with pytest.raises(DataError, match="404"):
        download(made_up(), url, tmp_path / "to")
    with pytest.raises(DataError, match="can not be fetched"):
        download(made_up(), "http://127.0.0.1:1", tmp_path / "to")
    with pytest.raises(ConfigError, match="http or https"):
        download(made_up(), "file:///etc", tmp_path / "to")
    with pytest.raises(ConfigError, match="no checksum is known"):
        download(dataset("cic-ids2017"), url, tmp_path / "to")
