from hypothesis import given
from hypothesis import strategies as st

from wirebert.untrusted_text import escape_control_chars

HOSTILE = "\x1b]0;mine\x07\x1b[2J\x9b31m\x08\x7f\u202etxt\r"


@given(st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str):
    left = escape_control_chars(text)
    assert not [one for one in left if not one.isprintable() and one in HOSTILE]
    assert all(ord(one) >= 32 or one in "\t\n" for one in left)


def test_plain_text_stays_as_it_is():
    text = "größe\t10.0.0.1 → 日本\n"
    assert escape_control_chars(text) is text or escape_control_chars(text) == text
