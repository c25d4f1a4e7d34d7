import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.hashing import NULL_HASH, mix, number_hashes, text_hashes


def test_equal_numbers_have_equal_hashes_and_nan_is_missing():
    hashes = number_hashes(np.array([0.0, -0.0, 1.0, np.nan, np.inf]))
    assert hashes[0] == hashes[1]
    assert hashes[3] == NULL_HASH
    assert len(set(hashes.tolist())) == 4


@given(st.lists(st.text(max_size=5), max_size=20))
def test_texts_have_the_hash_of_their_content_wherever_they_stand(texts: list[str]):
    together = text_hashes(pa.array(texts, pa.string()))
    alone = [text_hashes(pa.array(["", text]))[1] for text in texts]
    assert together.tolist() == [int(one) for one in alone]
    assert len(set(together.tolist())) == len(set(texts))


def test_a_missing_text_is_no_empty_text():
    hashes = text_hashes(pa.array(["", None]))
    assert hashes[1] == NULL_HASH != hashes[0]


def test_mix_gives_the_published_splitmix64_sequence():
    # The first two outputs of the reference implementation from state 0 are mix(0) and mix(golden ratio).
    assert mix(np.array([0, 0x9E3779B97F4A7C15], np.uint64)).tolist() == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
    ]
