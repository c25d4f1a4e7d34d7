import pytest

from wirebert.data.schema import column_names as names
from wirebert.data.schema.column_names import plain_name


@pytest.mark.parametrize("name", ["Dst Port", " dst_port", "dstPort", "dst-port", "Dst.Port"])
def test_spellings_of_a_name_are_one(name: str):
    assert plain_name(name) == "dst_port"


def test_words_are_plain_names():
    for words in (names.TEXTS, names.LABELS, names.CODE_NAMES, names.HOST_NAMES):
        assert all(plain_name(word) == word for word in words)
