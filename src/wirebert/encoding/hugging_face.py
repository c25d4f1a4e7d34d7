"""The vocabulary as a stock `transformers` tokenizer that reads canonical text."""

import json
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers, processors

from wirebert.encoding.vocabulary import SPECIAL_TOKENS, Vocabulary

MAX_LENGTH = 512


def stock_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Canonical text -> ids: split on white space, look up, put `[CLS]` first.

    Only special tokens contain brackets, so no other entry can contain a special token.
    """
    tokenizer = Tokenizer(models.WordLevel(vocab=dict(vocabulary.ids), unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False, special=True) for token in SPECIAL_TOKENS]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A", pair="[CLS] $A $B", special_tokens=[("[CLS]", vocabulary.ids["[CLS]"])]
    )
    tokenizer.enable_truncation(MAX_LENGTH)
    return tokenizer


def write_hugging_face(vocabulary: Vocabulary, folder: Path) -> None:
    """Write `tokenizer.json` and `tokenizer_config.json` into `folder`.

    The tokenizer class must not be `DistilBertTokenizer`, which would be rebuilt with WordPiece and split
    feature tokens.
    """
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": MAX_LENGTH,
        "model_input_names": ["input_ids", "attention_mask"],
        "padding_side": "right",
        "truncation_side": "right",
        "clean_up_tokenization_spaces": False,
        **{f"{token.strip('[]').lower()}_token": token for token in SPECIAL_TOKENS},
    }
    (folder / "tokenizer.json").write_text(stock_tokenizer(vocabulary).to_str(pretty=True), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
