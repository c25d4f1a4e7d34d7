import pytest

from wirebert.data.dialect import Encoding
from wirebert.data.text_encoding import detect_encoding


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_text_is_told_by_its_bytes(encoding: Encoding):
    assert detect_encoding("name,n\nZürich,1\nGenève,2\n".encode(encoding), is_whole=True) == encoding


def test_a_few_damaged_bytes_do_not_make_utf_8_another_encoding():
    text = "Zürich,1\nKøln,2\nŁódź,3\n".encode()
    assert detect_encoding(text + b"\xff,4\n", is_whole=True) == "utf-8"
    assert detect_encoding(b"Z\xfcrich,1\n", is_whole=True) == "cp1252"
    assert detect_encoding(text[:2], is_whole=False) == "utf-8"
