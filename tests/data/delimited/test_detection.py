import pytest

from wirebert.data.config import DataConfig
from wirebert.data.delimited.detection import detect_dialect, detect_header
from wirebert.data.dialect import Dialect
from wirebert.errors import DataError

TABLE = b"dur,proto,label\n1.5,tcp,normal\n0,udp,dos\n"


def detect(head: bytes) -> Dialect:
    return detect_dialect(head, "none", "flows.csv")


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (TABLE, "utf-8, comma-separated, header"),
        (b"\xef\xbb\xbf" + TABLE, "utf-8 with byte-order mark, comma-separated, header"),
        (TABLE.replace(b"\n", b"\r\n"), "utf-8, comma-separated, header, CRLF line ends"),
        (TABLE.replace(b"\n", b"\r"), "utf-8, comma-separated, header, CR line ends"),
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
        (bytes(range(256)) * 8, "binary data"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(head: bytes, found: str):
    with pytest.raises(DataError, match=found) as caught:
        detect(head)
    assert "\n" not in str(caught.value)


def test_a_first_row_that_comes_again_is_a_header_only_over_numbers():
    assert detect_header([["dur", "proto"], ["1.5", "tcp"], ["dur", "proto"], ["2", "udp"]])
    assert not detect_header([["tcp", "http"], ["udp", "dns"], ["tcp", "http"]])


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (DataConfig(delimiter=";"), "utf-8, semicolon-separated, header"),
        (DataConfig(quote=""), "utf-8, comma-separated, no quotes, header"),
        (DataConfig(quote="'"), "utf-8, comma-separated, quote ', header"),
        (DataConfig(escape="\\"), "utf-8, comma-separated, escape \\, header"),
        (DataConfig(comment="%"), "utf-8, comma-separated, header, comments %"),
        (DataConfig(skip_lines=1), "utf-8, comma-separated, no header, 1 line before the table"),
        (DataConfig(footer_lines=1), "utf-8, comma-separated, header, 1 line after the table"),
        (DataConfig(has_header=False), "utf-8, comma-separated, no header"),
        (DataConfig(decimal_comma=True), "utf-8, comma-separated, header, decimal comma"),
        (DataConfig(encoding="latin-1"), "latin-1, comma-separated, header"),
    ],
)
def test_each_part_can_be_overridden_alone(config: DataConfig, expected: str):
    assert detect_dialect(TABLE, "none", "flows.csv", config).describe() == expected


def test_a_dialect_is_plain_values_under_the_names_of_settings():
    plain = detect_dialect(TABLE, "none", "flows.csv").to_dict()
    assert (plain["delimiter"], plain["quote"], plain["escape"], plain["has_header"]) == (",", '"', "", True)
    assert Dialect(format="parquet").to_dict() == {
        "format": "parquet",
        "compression": "none",
        "encoding": "utf-8",
    }
