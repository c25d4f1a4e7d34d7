"""Files that hold no table of flows, told by their first bytes: what they are, and what to do."""

from wirebert.data.dialect import Encoding
from wirebert.errors import DataError

EXPECTED = "expected delimited text, key-value or JSON lines, Parquet or Arrow"
CONVERT = "convert it to one of these"
CAPTURE = "a packet capture"
WEB_PAGE = "a web page"
OTHER_FORMATS = {
    b"ARROW1": "an Arrow file",
    b"\xd4\xc3\xb2\xa1": CAPTURE,
    b"\xa1\xb2\xc3\xd4": CAPTURE,
    b"\x0a\x0d\x0d\x0a": CAPTURE,
    b"#separator": "a Zeek log",
    b'{"': "JSON",
    b"[{": "JSON",
    b"<!DOCTYPE": WEB_PAGE,
    b"<!doctype": WEB_PAGE,
    b"<html": WEB_PAGE,
}
REMEDIES = {
    CAPTURE: "have a sensor such as Zeek or Suricata make flows of it",
    WEB_PAGE: "download the file itself",
}
CONTROLS = frozenset(range(32)) - set(b"\t\n\r\f\x0b\x1b\x00\x1f")


def refuse_other_formats(head: bytes, encoding: Encoding, where: str, *, is_table: bool = False) -> None:
    """Raise a DataError for what is no delimited or key-value text; text `is_table` if the user says so."""
    is_wide = encoding.startswith("utf-16")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n") if not is_wide else b""
    for magic, name in OTHER_FORMATS.items():
        is_meant = is_table and magic.isascii() and magic[:1] in b"#{["
        if not is_meant and (head.startswith(magic) or start.startswith(magic)):
            raise DataError(f"{where}: {EXPECTED}, found {name}; {REMEDIES.get(name, CONVERT)}")
    num_controls = sum(head.count(byte) for byte in CONTROLS)
    if not is_wide and (num_controls > len(head) // 20 or head.count(0) > len(head) // 10):
        raise DataError(f"{where}: {EXPECTED}, found binary data; {CONVERT}")
