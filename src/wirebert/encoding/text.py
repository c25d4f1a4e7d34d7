"""Free text (URIs, payloads, user agents) -> subwords: domain patterns first, then pieces down to bytes.

Pieces are either learned from the training texts (byte-level BPE) or DistilBERT's WordPieces with the byte
alphabet added. In both vocabularies every byte has a piece, so no text is unknown, and only the piece `:`
contains a `:`, so no piece looks like a feature token.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

from wirebert.encoding.token_rows import JaggedRows

_ADDRESS = r"\d{1,3}(?:\.\d{1,3}){3}"
_PERCENT_CODE = r"%[0-9A-Fa-f]{2}"
_HEX_NUMBER = r"0[xX][0-9A-Fa-f]{1,62}"
_HEX_RUN = r"(?<![\p{L}\p{N}])(?=[A-Fa-f]*\d)(?=\d*[A-Fa-f])[0-9A-Fa-f]{8,64}(?![\p{L}\p{N}])"
_NUMBER = r"\p{N}{1,64}"
_WORD = r"[\p{L}\p{M}]{1,64}"
_BLANKS = r"\s{1,64}"
_ANY_OTHER = r"[\s\S]"  # punctuation: `/`, `=`, `&`, `:` are one word each

_BETWEEN_WORDS = r"(?<=\S) (?=\S)"

_SAMPLE_CHARS = 8_000_000


def domain_pattern(*, joins_blank: bool) -> str:
    """The regular expression that splits a text into words, which are then cut into subwords.

    Addresses, percent codes, hexadecimal runs, numbers and words stay whole; any other character (path
    separators, the `=` of key=value) is a word by itself. With `joins_blank` a word includes the blank before
    it, which saves a piece per word.
    """
    blank = " ?" if joins_blank else ""
    joined = "|".join((_ADDRESS, _HEX_NUMBER, _HEX_RUN, _NUMBER, _WORD))
    return "|".join((_PERCENT_CODE, f"{blank}(?:{joined})", _BLANKS, _ANY_OTHER))


def _cut_words(*, joins_blank: bool) -> pre_tokenizers.PreTokenizer:
    cut = pre_tokenizers.Split(Regex(domain_pattern(joins_blank=joins_blank)), behavior="isolated")
    to_signs = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if joins_blank:
        return pre_tokenizers.Sequence([cut, to_signs])
    # As in BERT, one blank between words is implied; longer white space is rare, so it gets pieces.
    drop_blanks = pre_tokenizers.Split(Regex(_BETWEEN_WORDS), behavior="removed")
    return pre_tokenizers.Sequence([drop_blanks, cut, to_signs])


@dataclass(slots=True)
class TextSample:
    """A bounded sample of the distinct training texts: the lowest hashes, whatever the order of reading."""

    max_chars: int = _SAMPLE_CHARS
    texts_: dict[bytes, str] = field(default_factory=dict)
    num_chars_: int = 0
    limit_: bytes = b"\xff" * 8

    def add(self, texts: Iterable[str | None]) -> None:
        """Add texts to the sample; None is ignored."""
        for text in texts:
            if not text:
                continue
            key = blake2b(text.encode(), digest_size=8).digest()
            if key <= self.limit_ and key not in self.texts_:
                self.texts_[key] = text
                self.num_chars_ += len(text)
        if self.num_chars_ > 2 * self.max_chars:
            self.shrink()

    def merge(self, other: "TextSample") -> None:
        """Add the sample of other texts; it becomes that of all texts together."""
        self.limit_ = min(self.limit_, other.limit_)
        self.texts_ = {key: text for key, text in self.texts_.items() if key <= self.limit_}
        self.num_chars_ = sum(map(len, self.texts_.values()))
        self.add(other.texts_.values())

    def shrink(self) -> None:
        """Drop the texts with the highest hashes beyond `max_chars`."""
        sample: dict[bytes, str] = {}
        num_chars = 0
        for key in sorted(self.texts_):
            if num_chars > self.max_chars:
                break
            sample[key] = self.texts_[key]
            num_chars += len(self.texts_[key])
            self.limit_ = key
        self.texts_, self.num_chars_ = sample, num_chars

    @property
    def texts(self) -> list[str]:
        """The sampled texts, sorted."""
        if self.num_chars_ > self.max_chars:
            self.shrink()
        return sorted(self.texts_.values())


@dataclass(frozen=True, kw_only=True)
class Subwords:
    """A fixed set of subwords, and how text is cut into them."""

    kind: Literal["bpe", "wordpiece"]
    state: Mapping[str, Any]
    """The cutter in the `tokenizers` library's own JSON form."""
    num_given: int = 0
    """Number of pieces from a pretrained vocabulary, which come first."""

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return Tokenizer.from_str(json.dumps(dict(self.state)))

    @cached_property
    def strings(self) -> tuple[str, ...]:
        """The pieces by id, as the cutter writes them (one sign per byte; WordPiece: `##` within a word)."""
        by_id = sorted((index, piece) for piece, index in self._tokenizer.get_vocab().items())
        return tuple(piece for _, piece in by_id)

    def encode(self, texts: Sequence[str]) -> JaggedRows:
        """Piece ids of each text; an empty text has none."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        ids = [encoding.ids for encoding in encodings]
        offsets = np.zeros(len(ids) + 1, np.int64)
        np.cumsum([len(sequence) for sequence in ids], out=offsets[1:])
        flat = np.fromiter((index for sequence in ids for index in sequence), np.int32, int(offsets[-1]))
        return JaggedRows(flat, offsets)

    def decode(self, ids: Sequence[int]) -> str:
        """The text of the pieces, as far as it can be restored (WordPieces lose case and blanks)."""
        words = [self.strings[index] for index in ids]
        if self.kind == "bpe":
            return _text_of_bytes("".join(words))
        joined = "".join(word[2:] if _continues(word) else f" {word}" for word in words)
        return " ".join(_text_of_bytes(word) for word in joined[1:].split(" "))


def _continues(piece: str) -> bool:
    return len(piece) > 2 and piece.startswith("##")


def byte_alphabet() -> list[str]:
    """The 256 signs that represent bytes, sorted."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def _bytes_by_sign() -> dict[str, int]:
    """Sign -> byte, as in GPT-2: printable Latin-1 is itself, other bytes are signs from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + index): byte for index, byte in enumerate(others)}


_BYTE_OF_SIGN = _bytes_by_sign()


def _text_of_bytes(signs: str) -> str:
    return b"".join(
        bytes([_BYTE_OF_SIGN[sign]]) if sign in _BYTE_OF_SIGN else sign.encode() for sign in signs
    ).decode(errors="replace")


def learn_subwords(texts: Sequence[str], num_pieces: int) -> Subwords:
    """Case-sensitive byte-level BPE, learned from `texts`: at most `num_pieces` pieces, 256 of them bytes."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = _cut_words(joins_blank=True)
    trainer = trainers.BpeTrainer(
        vocab_size=num_pieces,
        min_frequency=2,
        initial_alphabet=byte_alphabet(),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return Subwords(kind="bpe", state=json.loads(tokenizer.to_str()))


def subwords_of_wordpieces(wordpieces: Sequence[str]) -> Subwords:
    """DistilBERT's WordPieces in order, then the byte signs they lack, in both forms (`x`, `##x`)."""
    present = set(wordpieces)
    signs = byte_alphabet()
    lacking = [form for sign in signs for form in (sign, f"##{sign}") if form not in present]
    vocabulary = {piece: index for index, piece in enumerate([*wordpieces, *lacking])}
    # A word has at most 64 characters of at most 4 bytes (domain_pattern), so none exceeds the model's limit.
    tokenizer = Tokenizer(
        models.WordPiece(vocab=vocabulary, unk_token="[UNK]", max_input_chars_per_word=1024)
    )
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = _cut_words(joins_blank=False)
    return Subwords(kind="wordpiece", state=json.loads(tokenizer.to_str()), num_given=len(wordpieces))
