import pytest

from wirebert.data.other_formats import refuse_other_formats
from wirebert.errors import NoFlowsError


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        (b"\xd4\xc3\xb2\xa1" + bytes(20), "a packet capture; convert it to flows"),
        (b"\x4d\x3c\xb2\xa1" + bytes(20), "a packet capture"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "a spreadsheet; save its sheet as CSV"),
        (b"\x0c\xa5\x01\x00", "a binary file of nfdump; write it as text"),
        (b"x" * 257 + b"ustar\x00", r"an archive of files \(tar\); unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "an archive of files; unpack it"),
        (b"FEA1....", "Feather of version 1; write it as version 2"),
        (b"<!DOCTYPE html>", "a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS; fetch the file itself"),
        (b"a,b\n" + bytes(400), "binary data; convert it"),
    ],
)
def test_a_file_of_another_format_is_named_with_the_remedy(head: bytes, sentence: str):
    with pytest.raises(NoFlowsError, match=f"^f: expected .*, found {sentence}"):
        refuse_other_formats(head, "utf-8", "f")


def test_text_is_not_refused():
    refuse_other_formats(b"proto,bytes\ntcp,1\n", "utf-8", "f")


def test_zeros_in_some_lines_make_no_text_binary():
    rows = [b"tcp,1\n", b"\0" * 3_000 + b"\n", b"udp,2\n", b"\0" * 3_000 + b"tcp,4\n", b"icmp,3\n"]
    refuse_other_formats(b"proto,bytes\n" + b"".join(rows), "utf-8", "f")
    with pytest.raises(NoFlowsError, match="binary data"):
        refuse_other_formats(b"proto,bytes\n" + b"".join([*rows, rows[1] * 5]), "utf-8", "f")
