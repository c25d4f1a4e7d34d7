"""Files that hold no traffic as text, by their first bytes: captures, spreadsheets, archives, web pages,
and pointers to files."""

from wirebert.errors import NoFlowsError

EXPECTED = "expected delimited text, key-value or JSON lines, Parquet or Arrow"
CONVERT = "convert it to one of these"
CAPTURE = "a packet capture"
WEB_PAGE = "a web page"
POINTER = "a pointer of Git LFS"
SPREADSHEET = "a spreadsheet"
ARCHIVE = "an archive of files"
BINARY_NETFLOW = "a binary file of nfdump"
OLD_FEATHER = "Feather of version 1"
OTHER_FORMATS = {
    b"ARROW1": "an Arrow file",
    b"FEA1": OLD_FEATHER,
    **dict.fromkeys(
        [b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\x0a\x0d\x0d\x0a"], CAPTURE
    ),
    **dict.fromkeys([b"Rar!\x1a\x07", b"7z\xbc\xaf\x27\x1c"], ARCHIVE),
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": SPREADSHEET,
    b"\x0c\xa5": BINARY_NETFLOW,
    b"SQLite format 3": "a database",
    b"\x89HDF\r\n": "an HDF5 file",
    b"Obj\x01": "an Avro file",
    b"ORC": "an ORC file",
    b"%PDF-": "a document",
    b"#separator": "a Zeek log",
    b'{"': "JSON",
    b"[{": "JSON",
    **dict.fromkeys([b"<!DOCTYPE", b"<!doctype", b"<html"], WEB_PAGE),
    b"<?xml": "XML",
    b"version https://git-lfs": POINTER,
}
TAR_MAGIC, TAR_MAGIC_AT = b"ustar", 257
REMEDIES = {
    OLD_FEATHER: "write it as version 2, or as Parquet (a damaged one of version 1 ends the process)",
    CAPTURE: "convert it to flows with a sensor such as Zeek or Suricata",
    WEB_PAGE: "download the file itself",
    POINTER: "fetch the file itself with `git lfs pull`",
    SPREADSHEET: "save its sheet as CSV",
    ARCHIVE: "unpack it, and give the files in it",
    BINARY_NETFLOW: "write it as text with `nfdump -r FILE -o csv`",
}
CONTROLS = frozenset(range(32)) - set(b"\t\n\r\f\x0b\x1b\x00\x1f")


def refuse_other_formats(head: bytes, encoding: str, where: str, *, is_table: bool = False) -> None:
    """Raise a NoFlowsError for bytes other than delimited or key-value text; `is_table`: the user set a
    delimiter."""
    is_wide = encoding.startswith("utf-16")
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n") if not is_wide else b""
    for magic, name in OTHER_FORMATS.items():
        is_meant = is_table and magic.isascii() and magic[:1] in b"#{["
        if not is_meant and (head.startswith(magic) or start.startswith(magic)):
            raise NoFlowsError(f"{where}: {EXPECTED}, found {name}; {REMEDIES.get(name, CONVERT)}")
    if head[TAR_MAGIC_AT:].startswith(TAR_MAGIC) and not is_wide:
        raise NoFlowsError(f"{where}: {EXPECTED}, found {ARCHIVE} (tar); {REMEDIES[ARCHIVE]}")
    if not is_wide and _is_binary(head) and not _is_mostly_text(head):
        raise NoFlowsError(f"{where}: {EXPECTED}, found binary data; {CONVERT}")


def _is_binary(text: bytes) -> bool:
    num_controls = sum(text.count(byte) for byte in CONTROLS)
    return num_controls > len(text) // 20 or text.count(0) > len(text) // 10


def _is_mostly_text(head: bytes) -> bool:
    """Whether most lines are without zero bytes, with which file systems fill gaps in a log."""
    lines = [line for line in head.splitlines(keepends=True) if line.strip()]
    plain = [line for line in lines if b"\0" not in line]
    return len(plain) > max(1, len(lines) // 2) and not _is_binary(b"".join(plain))
