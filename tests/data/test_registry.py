import gzip
import re
from pathlib import Path

import pytest

from wirebert.data.registry import bibtex, known_datasets, verify
from wirebert.data.schema.library import known_schemas
from wirebert.data.sensors.formats import SENSOR_FORMATS
from wirebert.errors import DataError

CONTENT = b"dur,proto\n1,tcp\n"


def test_every_set_says_what_to_cite_and_how_to_split():
    known = known_datasets()
    assert len(known) == 8
    for name, data_set in known.items():
        assert data_set.name == name
        assert re.fullmatch(r"([A-Z][\w.' -]+)( and [A-Z][\w. -]+)*", data_set.citation.author)
        assert data_set.citation.doi is None or data_set.citation.doi.startswith("10.")
        assert data_set.licence
        assert data_set.split
        assert data_set.homepage.startswith("https://")
        assert data_set.schema is None or data_set.schema in {*known_schemas(), *SENSOR_FORMATS}


def test_a_bibtex_entry_has_what_a_bibliography_needs():
    assert (
        bibtex(["ton-iot"])
        == """\
@article{ton-iot,
  author = {Nour Moustafa},
  title = {{A new distributed architecture for evaluating AI-based security systems at the edge: \
Network TON\\_IoT datasets}},
  journal = {Sustainable Cities and Society},
  year = {2021},
  volume = {72},
  pages = {102994},
  doi = {10.1016/j.scs.2021.102994},
  url = {https://research.unsw.edu.au/projects/toniot-datasets},
}
"""
    )
    assert bibtex([]).count("@") == len(known_datasets())
    with pytest.raises(DataError, match="there is no data set 'nsl', did you mean"):
        bibtex(["nsl"])


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
    with pytest.raises(DataError, match=r"expected gzip data, found it damaged .* copy or download"):
        verify(tmp_path)
