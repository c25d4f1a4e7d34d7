import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.delimited.blank_lines import count_blank, count_lines, without_blanks
from wirebert.data.dialect import Dialect


@given(
    st.lists(st.sampled_from([b"a", b"", b"b c"])), st.sampled_from([b"\n", b"\r\n", b"\r"]), st.booleans()
)
def test_lines_are_those_of_python(lines: list[bytes], end: bytes, ends: bool):
    text = end.join(lines) + (end if ends else b"")
    assert count_lines(text) == len(text.splitlines())


def test_blank_lines_inside_quotes_do_not_count():
    dialect = Dialect(format="delimited", delimiter=",", quote='"')
    assert count_blank(b'a,b\n\n1,"x\n\ny"\n\n', dialect) == 2
    assert count_blank(b"a,b\n1,2\n", dialect) == 0


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (b"a  b\n  1 2 \n", b"a\tb\n1\t2\n"),
        (b'a  "b  c"\n', b'a\t"b  c"\n'),
    ],
)
def test_runs_of_blanks_between_fields_are_one_tab(text: bytes, found: bytes):
    assert without_blanks(text, Dialect(format="delimited", delimiter=" ", quote='"')) == found
