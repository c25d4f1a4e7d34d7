import shutil
from pathlib import Path

import numpy as np
import pytest

from wirebert.encoding.text import subwords_of_wordpieces
from wirebert.encoding.vocabulary import Slot
from wirebert.encoding.wordpieces import initial_subwords, read_wordpieces
from wirebert.errors import CheckpointError


def test_vocab_txt_and_tokenizer_json_give_the_same_pieces(wordpieces: str, tmp_path: Path):
    shutil.copy(Path(wordpieces) / "tokenizer.json", tmp_path)
    assert read_wordpieces(str(tmp_path)) == read_wordpieces(wordpieces)


def test_a_folder_without_a_vocabulary_is_refused_in_one_sentence(tmp_path: Path):
    with pytest.raises(CheckpointError, match=r"expected vocab\.txt or tokenizer\.json"):
        read_wordpieces(str(tmp_path))


def test_a_vocabulary_of_another_kind_is_refused_by_name(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("hello\nworld\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"vocab\.txt.*\[CLS\]"):
        read_wordpieces(str(tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", '{"model": {"vocab": {"a": 7}}}'])
def test_a_damaged_tokenizer_file_is_refused_by_name(content: str, tmp_path: Path):
    (tmp_path / "tokenizer.json").write_text(content, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json"):
        read_wordpieces(str(tmp_path))


def test_a_hub_name_that_can_not_be_had_is_one_sentence(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"no/such-model.*could not be fetched") as caught:
        read_wordpieces("no/such-model")
    assert "\n" not in str(caught.value)


def test_a_new_token_starts_as_the_words_it_is_made_of(wordpieces: str):
    words = read_wordpieces(wordpieces)
    pieces = subwords_of_wordpieces(words)
    slot = Slot(
        name="service_name",
        special_states=("<missing>", ""),
        values=("http", "\0", "q0"),
        default=0,
        bins=(4,),
    )
    starts = initial_subwords([slot], pieces)
    assert len(starts) == len(pieces.strings) - len(words) + len(slot)
    told = [[words[index] for index in start] for start in starts[-len(slot) :]]
    name = ["service", "name"]
    assert told == [[*name, "missing"], name, [*name, "http"], name, name]
    assert starts[0].tolist() == [words.index("[UNK]")]
    assert all(len(start) and start.dtype == np.int32 for start in starts)
