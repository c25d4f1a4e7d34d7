import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.detection import detect_dialect
from wirebert.data.dialect import Dialect, clean_names, open_bytes, read_head
from wirebert.errors import DataError

TABLE = b"dur,proto,label\n1.5,tcp,normal\n0,udp,dos\n"


def detect(head: bytes) -> Dialect:
    return detect_dialect(head, "none", "flows.csv")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (TABLE, "utf-8, comma-separated, header"),
        (b"\xef\xbb\xbf" + TABLE, "utf-8, comma-separated, header"),
        (TABLE.replace(b"\n", b"\r\n"), "utf-8, comma-separated, header"),
        (TABLE.replace(b"\n", b"\r"), "utf-8, comma-separated, header"),
        (TABLE.decode().encode("utf-16"), "utf-16, comma-separated, header"),
        (TABLE.replace(b"dos", "caf\xe9".encode("cp1252")), "cp1252, comma-separated, header"),
        (TABLE.replace(b"dos", b"\xe9\x81"), "latin-1, comma-separated, header"),
        (TABLE.replace(b",", b";"), "utf-8, semicolon-separated, header"),
        (TABLE.replace(b",", b"\t"), "utf-8, tab-separated, header"),
        (TABLE.replace(b",", b"|"), "utf-8, pipe-separated, header"),
        (b"1,5;tcp\n2,0;udp\n3,25;udp\n", "utf-8, semicolon-separated, no header, decimal comma"),
        (b'uri,label\n"/a,b;c",x\n"say ""hi""",y\n', "utf-8, comma-separated, header"),
        (b'uri\tlabel\n/a"b\tx\n/c\ty\n"d\tz\n', "utf-8, tab-separated, no quotes, header"),
        (b"0,tcp,SF\n0,udp,SF\n", "utf-8, comma-separated, no header"),
        (b"tcp,http,SF\nudp,dns,SF\n", "utf-8, comma-separated, no header"),
        (b"10.0.0.1,a\n10.0.0.2,b\n", "utf-8, comma-separated, no header"),
        (b"0,1,2\n5,tcp,SF\n", "utf-8, comma-separated, header"),
        (b"payload\nGET /\nPOST /\n", "utf-8, one column, no quotes, header"),
        (b"proto:tcp, service=http\nproto:udp, service=dns\n", "utf-8, key-value lines"),
        (b'proto=tcp uri="/a b"\nproto=udp uri="/"\n', "utf-8, key-value lines"),
        (b"ts,mac,label\n10:30:00,aa:bb:cc:dd:ee:ff,x\n", "utf-8, comma-separated, header"),
        (b"PAR1....", "parquet"),
    ],
)
def test_dialect_is_detected_from_the_first_bytes(head: bytes, expected: str):
    assert detect(head).describe() == expected


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"", "an empty file"),
        (b"\n \r\n", "an empty file"),
        (b'{"ts": 1}\n', "JSON"),
        (b"#separator \\x09\n", "a Zeek log"),
        (b"\xd4\xc3\xb2\xa1\x02\x00", "a packet capture"),
        (bytes(range(256)) * 8, "binary data"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(head: bytes, found: str):
    with pytest.raises(DataError, match=found) as caught:
        detect(head)
    assert "\n" not in str(caught.value)


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
