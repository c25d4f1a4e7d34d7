import bz2
import gzip
import lzma
import os
import time
import zipfile
import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.dialect import (
    clean_names,
    open_bytes,
    read_head,
)
from wirebert.data.other_formats import refuse_other_formats
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
        assert stream.read(1 << 20) == TABLE


@pytest.mark.parametrize("compression", ["gzip", "bz2", "xz", "zstd", "zip"])
def test_truncated_compressed_data_is_one_sentence(compression: str, tmp_path: Path):
    path = packed(tmp_path / "flows.csv", compression)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="damaged or incomplete"):
        read_head(path)


def test_a_folder_or_missing_file_is_one_sentence(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match="cannot be read"):
            read_head(path)


def test_one_name_repeated_many_times_takes_no_square_of_work():
    since = time.process_time()
    names, notes = clean_names(["a"] * 100_000)
    assert len(set(names)) == 100_000
    assert len(notes) == 99_999
    assert time.process_time() - since < 5


def test_names_are_stripped_unique_and_not_blank():
    names, notes = clean_names(["\ufeffid", " id ", "id_2", "", "id"])
    assert names == ("id", "id_3", "id_2", "column_4", "id_4")
    assert set(notes) == {"id_3", "column_4", "id_4"}


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b'{"ts": 1}\n', "JSON; convert it to one of these"),
        (b"#separator \\x09\n", "a Zeek log"),
        (
            b"\xd4\xc3\xb2\xa1\x02\x00",
            "a packet capture; convert it to flows with a sensor such as Zeek or Suricata",
        ),
        (b"\r\n<!DOCTYPE html>\n<html>", "a web page; download the file itself"),
        (bytes(range(256)) * 8, "binary data; convert it to one of these"),
    ],
)
def test_what_is_no_table_is_named_with_the_way_out(head: bytes, found: str):
    with pytest.raises(DataError) as caught:
        refuse_other_formats(head, "utf-8", "flows.csv")
    message = "flows.csv: expected delimited text, key-value or JSON lines, Parquet or Arrow, found "
    assert str(caught.value).startswith(message + found)


def test_text_that_the_user_calls_a_table_is_one_whatever_it_begins_with():
    with pytest.raises(DataError):
        refuse_other_formats(b"#separator,a\n", "utf-8", "flows.csv")
    refuse_other_formats(b"#separator,a\n", "utf-8", "flows.csv", is_table=True)


def test_xz_may_not_ask_for_gigabytes_and_its_streams_follow_each_other(tmp_path: Path):
    path = tmp_path / "f.xz"
    packed = bytearray(lzma.compress(TABLE))
    path.write_bytes(packed + bytes(4) + lzma.compress(TABLE))
    with open_bytes(path, "xz") as stream:
        assert stream.read(1 << 20) == TABLE * 2
    size = 4 * (packed[12] + 1)  # of the block's head: its dictionary becomes one of 4 GB
    packed[packed.index(b"\x21\x01", 12) + 2] = 40
    packed[12 + size - 4 : 12 + size] = zlib.crc32(packed[12 : 12 + size - 4]).to_bytes(4, "little")
    path.write_bytes(packed)
    with pytest.raises(DataError, match=r"expected xz data, found it damaged or incomplete \(Memory usage"):
        read_head(path)


def test_a_name_that_is_no_utf_8_can_be_opened(tmp_path: Path):
    path = tmp_path / os.fsdecode(b"\xff.csv")
    path.write_bytes(b"a,b\n")
    with open_bytes(path, "none") as stream:
        assert stream.read() == b"a,b\n"
