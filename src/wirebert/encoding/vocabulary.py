"""The vocabulary: how tokens are written, and their ids.

Canonical text is a row's vocabulary strings joined by one space. So no entry may contain white space, and
only the special tokens may contain `[` or `]`; these characters and `%` are percent-escaped, so every entry
is readable and reversible.

A slot is one feature position of a row, with its possible tokens.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from wirebert.errors import ArtifactError, SchemaError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Padding, unknown, start of a row, separator, mask, as in every BERT vocabulary."""


def _is_plain(char: str) -> bool:
    """Whether a character represents itself in a vocabulary entry."""
    if char in "%[]":
        return False
    return not char.isspace() and unicodedata.category(char) not in ("Cc", "Zs", "Zl", "Zp")


def escape(text: str) -> str:
    """`text` with `%`, brackets, white space and control characters percent-escaped (RFC 3986, 2.1).

    >>> escape("[CLS] service:http")
    '%5BCLS%5D%20service:http'
    """
    if text.isascii() and text.isalnum():
        return text
    return "".join(char if _is_plain(char) else _percent(char) for char in text)


def escape_column(name: str) -> str:
    """A column or slot name as written before the `:` of a token; it contains no `:`.

    >>> escape_column("tcp flags:all")
    'tcp%20flags%3Aall'
    """
    return escape(name).replace(":", "%3A")


def escape_value(text: str) -> str:
    """A value as written after the `:` of a token; it never looks like `<missing>` or another state.

    >>> escape_value("<missing>")
    '%3Cmissing>'
    """
    escaped = escape(text)
    return "%3C" + escaped[1:] if escaped.startswith("<") else escaped


def _percent(char: str) -> str:
    return "".join(f"%{byte:02X}" for byte in char.encode())


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All tokens by id, including the five special tokens."""

    tokens: tuple[str, ...]
    """Canonical (escaped) strings by id."""
    ids: Mapping[str, int] = field(init=False, repr=False, compare=False)
    """Token -> id."""

    def __post_init__(self) -> None:
        ids = {token: index for index, token in enumerate(self.tokens)}
        if len(ids) < len(self.tokens):
            twice = next(token for index, token in enumerate(self.tokens) if ids[token] != index)
            raise SchemaError(
                f"two features would both be written {twice!r}: their column names clash; rename one of the "
                "columns"
            )
        lacking = [token for token in SPECIAL_TOKENS if token not in ids]
        if lacking:
            raise ArtifactError(f"the vocabulary lacks the special tokens {', '.join(lacking)}")
        object.__setattr__(self, "ids", ids)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def dtype(self) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
        """The narrowest unsigned integer that holds every id: 16 bits up to 65,536 tokens, else 32."""
        return np.dtype(np.uint16) if len(self.tokens) <= 1 << 16 else np.dtype(np.uint32)

    def text(self, ids: Sequence[int]) -> str:
        """Canonical text of the ids: their entries joined by one space."""
        return " ".join(self.tokens[index] for index in ids)


MISSING, UNSEEN, ABSENT = 0, 1, 2
"""The first three tokens of every slot: no value, a value not in training, no such column."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """The tokens of one feature position. Token 0 is `<missing>`, 1 `<unseen>`, 2 `<absent>`."""

    name: str
    """The column, or `column.bit` for a flag."""
    special_states: tuple[str, ...]
    """Tokens that represent a state rather than a value (`<missing>`, `<rare>`), first in the slot."""
    values: tuple[str, ...]
    """The values of the other tokens, as written in the file (or `q17` for a bin)."""
    default: int
    """The token of the most frequent value, which rows may leave out."""
    bins: tuple[int, ...] = ()
    """The tokens of a number's bins, in order."""
    ordered: tuple[int, ...] = ()
    """The tokens of a number's values, bins and others, from low to high."""
    shown: tuple[str, ...] = ()
    """Display texts of `values`, where they differ from the values (`q17 [181, 239)`)."""

    def __len__(self) -> int:
        return len(self.special_states) + len(self.values)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The vocabulary strings, in order."""
        key = escape_column(self.name)
        marks = [f"{key}:{mark}" for mark in self.special_states]
        return (*marks, *(f"{key}:{escape_value(value)}" for value in self.values))

    @property
    def texts(self) -> tuple[str, ...]:
        """The display text of each token."""
        return (*self.special_states, *(self.shown or self.values))
