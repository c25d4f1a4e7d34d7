import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from wirebert.encoding.hugging_face import stock_tokenizer, write_hugging_face
from wirebert.encoding.vocabulary import SPECIAL_TOKENS, Vocabulary, escape_value

UGLY = [
    "[SEP]",
    "[CLS] service:http",
    " \t",
    "\0",
    "😀",
    "\u2028",
    "x" * 500,
    "100%",
    "",
    "[PAD][MASK]",
    "é\u00a0ü",
]
VOCABULARY = Vocabulary((*SPECIAL_TOKENS, *(f"service:{escape_value(value)}" for value in UGLY)))


def test_canonical_text_maps_back_to_the_same_ids():
    ids = [2, *range(5, len(VOCABULARY))]
    assert stock_tokenizer(VOCABULARY).encode(VOCABULARY.text(ids[1:])).ids == ids


def test_transformers_loads_the_folder_whatever_the_model_beside_it(tmp_path: Path):
    write_hugging_face(VOCABULARY, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "distilbert"}), encoding="utf-8")
    loaded = AutoTokenizer.from_pretrained(str(tmp_path))
    assert isinstance(loaded, PreTrainedTokenizerFast)
    ids = list(range(5, len(VOCABULARY)))
    encoded = loaded([VOCABULARY.text(ids), VOCABULARY.text(ids[:1])], padding=True)
    assert list(encoded) == ["input_ids", "attention_mask"]
    assert encoded["input_ids"] == [[2, *ids], [2, 5, *[0] * (len(ids) - 1)]]
    assert loaded.model_max_length == 512
    assert (loaded.pad_token_id, loaded.unk_token_id, loaded.cls_token_id) == (0, 1, 2)
    assert (loaded.sep_token_id, loaded.mask_token_id) == (3, 4)


def test_text_beyond_512_tokens_is_cut(tmp_path: Path):
    write_hugging_face(VOCABULARY, tmp_path)
    stock = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert len(stock.encode("service: " * 600).ids) == 512
