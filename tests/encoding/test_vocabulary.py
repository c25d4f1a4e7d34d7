from urllib.parse import unquote

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.encoding.vocabulary import (
    SPECIAL_TOKENS,
    Slot,
    Vocabulary,
    escape,
    escape_column,
    escape_value,
)
from wirebert.errors import ArtifactError, SchemaError


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_escaping_is_undone_exactly_and_leaves_no_white_space_control_or_bracket(text: str):
    for escaped in (escape(text), escape_column(text), escape_value(text)):
        assert unquote(escaped) == text
        assert len(escaped.split()) == (1 if text else 0)
        assert not set(escaped) & set("[]\0")


def test_a_value_is_never_written_like_a_mark():
    assert not escape_value("<missing>").startswith("<")


def test_a_column_name_holds_no_colon():
    assert escape_column("a:b") == "a%3Ab"


def test_ids_are_16_bit_up_to_65536_tokens_and_32_bit_beyond():
    tokens = [*SPECIAL_TOKENS, *(f"t:{index}" for index in range(65531))]
    assert Vocabulary(tuple(tokens)).dtype == np.uint16
    assert Vocabulary((*tokens, "one:more")).dtype == np.uint32


def test_two_features_written_alike_are_refused_by_name():
    with pytest.raises(SchemaError, match=r"'flags\.syn:1'"):
        Vocabulary((*SPECIAL_TOKENS, "flags.syn:1", "flags.syn:1"))


def test_a_vocabulary_without_special_tokens_is_refused():
    with pytest.raises(ArtifactError, match=r"\[MASK\]"):
        Vocabulary(SPECIAL_TOKENS[:-1])


SLOT = Slot(
    name="src bytes",
    special_states=("<missing>", "<rare>"),
    values=("0", "q0"),
    default=2,
    shown=("0", "q0 [1, 2]"),
)


def test_a_token_is_its_slot_and_its_value_and_holds_no_white_space():
    assert SLOT.tokens == (
        "src%20bytes:<missing>",
        "src%20bytes:<rare>",
        "src%20bytes:0",
        "src%20bytes:q0",
    )


def test_people_read_what_a_bin_holds():
    assert SLOT.texts == ("<missing>", "<rare>", "0", "q0 [1, 2]")
    assert len(SLOT) == 4
