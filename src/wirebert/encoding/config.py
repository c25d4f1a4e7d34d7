"""How flows become tokens: the settings of section `encoding`."""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

from wirebert.errors import ConfigError

LONGEST_ROW = 512
"""Tokens of the longest row of a model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingConfig:
    """How flows become tokens."""

    num_bins: int = 64
    """Quantile bins per numeric column, 1 to 255; columns with fewer distinct values have a bin for each."""

    num_exact_values: int = 16
    """Most frequent values per numeric column that get a token each, if there are more values than bins."""

    max_categories: int = 1000
    """Values per categorical column with a token each, at least 1; ten times as many more share `<rare>`."""

    omit_most_frequent: bool | None = None
    """Omit features that have their column's most frequent value; none: only in tables without text."""

    vocabulary: Literal["compact", "extend"] = "compact"
    """compact: feature tokens and subwords learned in training; extend: also DistilBERT's WordPieces."""

    wordpieces: str | None = None
    """Folder with vocab.txt or tokenizer.json, or a name on the hub; required for extend, and only for it."""

    max_text_tokens: int = 64
    """Subwords per text column and flow, at least 1; longer texts keep their head (3/4) and tail (1/4)."""

    subword_vocab_size: int = 2000
    """Subwords learned for text columns, at least 256 (one per byte is always there); only for compact."""

    max_length: int = 512
    """Tokens per flow, 2 to 512; features are never cut, texts are."""

    networks: tuple[str, ...] = ()
    """Your own networks (10.1.0.0/16): addresses become inside or outside instead of private or public."""

    def __post_init__(self) -> None:
        _check_range("num_bins", self.num_bins, 1, 255)
        _check_range("num_exact_values", self.num_exact_values, 0, None)
        _check_range("max_categories", self.max_categories, 1, None)
        _check_range("max_text_tokens", self.max_text_tokens, 1, None)
        _check_range("subword_vocab_size", self.subword_vocab_size, 256, None)
        _check_range("max_length", self.max_length, 2, LONGEST_ROW)
        if self.vocabulary not in ("compact", "extend"):
            raise ConfigError(f"encoding.vocabulary must be compact or extend, got {self.vocabulary!r}")
        if self.vocabulary == "extend" and self.wordpieces is None:
            raise ConfigError(
                "encoding.wordpieces must be a folder with vocab.txt or tokenizer.json, or a hub name, when "
                "encoding.vocabulary is extend, got None"
            )
        for network in self.networks:
            try:
                ip_network(network, strict=False)
            except ValueError as error:
                raise ConfigError(
                    f"encoding.networks must be networks such as 10.1.0.0/16, got {network!r}"
                ) from error


def _check_range(name: str, value: int, low: int, high: int | None) -> None:
    if value < low or (high is not None and value > high):
        wanted = f"at least {low}" if high is None else f"in [{low}, {high}]"
        raise ConfigError(f"encoding.{name} must be {wanted}, got {value}")
