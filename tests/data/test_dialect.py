import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.dialect import clean_names, open_bytes, read_head
from wirebert.errors import DataError

TABLE = b"dur,proto,label\n1.5,tcp,normal\n0,udp,dos\n"


def packed(path: Path, compression: str) -> Path:
    if compression == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("flows.csv", TABLE)
    elif compression == "zstd":
        with pa.output_stream(str(path), compression="zstd") as stream:
            stream.write(TABLE)
    else:
        pack = {"none": bytes, "gzip": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}[compression]
        path.write_bytes(pack(TABLE))
    return path


@pytest.mark.parametrize("compression", ["none", "gzip", "bz2", "xz", "zstd", "zip"])
def test_compression_is_told_by_content_whatever_the_name(compression: str, tmp_path: Path):
    path = packed(tmp_path / "flows.csv", compression)
    head, found = read_head(path)
    assert (head, found) == (TABLE, compression)
    with open_bytes(path, found) as stream:
        assert stream.read() == TABLE


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "zstd", "zip"])
def test_truncated_compressed_data_is_one_sentence(compression: str, tmp_path: Path):
    path = packed(tmp_path / "flows.csv", compression)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_head(path)


def test_a_folder_or_missing_file_is_one_sentence(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="can not be read"):
            read_head(path)


def test_names_are_stripped_unique_and_not_blank():
    names, notes = clean_names(["\ufeffid", " id ", "id_2", "", "id"])
    assert names == ("id", "id_3", "id_2", "column_4", "id_4")
    assert set(notes) == {"id_3", "column_4", "id_4"}
