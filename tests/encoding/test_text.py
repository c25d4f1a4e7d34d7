import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.encoding.text import Subwords, TextSample, learn_subwords, subwords_of_wordpieces
from wirebert.encoding.wordpieces import read_wordpieces

TEXTS = [
    "GET /index.php?id=1%27%20OR%201=1 HTTP/1.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:109.0)",
    "http://10.0.0.1:8080/a/b?key=value&hash=deadbeef01",
] * 20


@pytest.fixture(scope="module")
def learned() -> Subwords:
    return learn_subwords(TEXTS, 400)


@pytest.fixture(scope="module")
def stock(wordpieces: str) -> Subwords:
    return subwords_of_wordpieces(read_wordpieces(wordpieces))


def cut(pieces: Subwords, text: str) -> list[str]:
    return [pieces.strings[index] for index in pieces.encode([text]).ids.tolist()]


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_learned_pieces_give_every_text_back_exactly(learned: Subwords, text: str):
    assert learned.decode(learned.encode([text]).ids.tolist()) == text


@given(text=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=300))
def test_wordpieces_never_answer_unknown(stock: Subwords, text: str):
    assert "[UNK]" not in cut(stock, text)


@pytest.mark.parametrize(
    "text", ["a" * 5000, "漢" * 500, "\0", "\u2028", "😀" * 200, "[UNK] [SEP] ##x", "é" * 64]
)
def test_wordpieces_never_answer_unknown_for_ugly_texts(stock: Subwords, text: str):
    found = cut(stock, text)
    assert found
    assert not {"[UNK]", "[SEP]"} & set(found)


def test_wordpieces_keep_their_ids_and_words_stay_whole(stock: Subwords, wordpieces: str):
    words = read_wordpieces(wordpieces)
    assert stock.strings[: len(words)] == words
    assert len(words) == stock.num_given == 30_522
    assert cut(stock, "SELECT password FROM users") == ["select", "password", "from", "users"]
    assert stock.decode(stock.encode(["SELECT tokenizers"]).ids.tolist()) == "select tokenizers"


@pytest.mark.parametrize("pieces", ["learned", "stock"])
def test_no_piece_but_the_colon_holds_a_colon(pieces: str, request: pytest.FixtureRequest):
    found: Subwords = request.getfixturevalue(pieces)
    assert {piece for piece in found.strings if ":" in piece} <= {":", "##:"}


def test_domain_patterns_cut_before_sub_words_do(learned: Subwords):
    assert cut(learned, "%27%20")[-1].endswith("20")
    assert "/" in cut(learned, "/index.php")
    assert "10.0.0.1" in "".join(cut(learned, "http://10.0.0.1:8080"))
    assert {":", "="} <= set(cut(learned, "a:b=c"))


def test_all_bytes_have_a_piece_even_without_training_texts():
    assert len(learn_subwords([], 256).strings) == 256


def test_pieces_survive_json(learned: Subwords):
    again = Subwords(kind="bpe", state=json.loads(json.dumps(dict(learned.state))))
    assert again.strings == learned.strings
    assert again.encode(TEXTS[:3]).ids.tolist() == learned.encode(TEXTS[:3]).ids.tolist()


def test_learning_gives_the_same_pieces_in_every_process(learned: Subwords):
    code = (
        f"from wirebert.encoding.text import learn_subwords as l; print('|'.join(l({TEXTS!r}, 400).strings))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout.decode().strip() == "|".join(learned.strings)


def test_the_sample_of_texts_is_bounded_and_does_not_depend_on_their_order():
    texts = [f"text number {index:04}" for index in range(2000)]
    one, other = TextSample(max_chars=1000), TextSample(max_chars=1000)
    for start in range(0, 2000, 10):
        one.add(texts[start : start + 10])
        other.add(texts[::-1][start : start + 10])
    merged = TextSample(max_chars=1000)
    for part in (texts[1200:], texts[:700], texts[700:1200]):
        sample = TextSample(max_chars=1000)
        sample.add(part)
        merged.merge(sample)
    assert one.texts == other.texts == merged.texts
    assert 1000 <= one.num_chars_ < 1100
