"""How flows become tokens: the settings of section `encoding`."""

from dataclasses import dataclass
from ipaddress import ip_network
from typing import Literal

from wirebert.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class EncodingConfig:
    """How flows become tokens."""

    num_bins: int = 64
    """Quantile bins per numeric column, 1 to 255; columns of fewer distinct values have a bin for each."""

    num_exact_values: int = 16
    """Values per numeric column with a token of their own: the most frequent ones, where values are more than bins."""

    max_categories: int = 1000
    """Known values per categorical column, at least 1; the next ten times as many share the `<rare>` token."""

    omit_most_frequent: bool | None = None
    """Whether rows leave out features that hold their column's most frequent value; None: in tables without text."""

    vocabulary: Literal["compact", "extend"] = "compact"
    """compact: domain tokens and pieces learned from the training data; extend: DistilBERT's WordPieces as well."""

    wordpieces: str | None = None
    """Folder that holds vocab.txt or tokenizer.json, or a name on the hub; only for "extend", which needs it."""

    max_text_tokens: int = 64
    """Pieces per text column and flow, at least 1; of longer texts three quarters are head, a quarter is tail."""

    subword_vocab_size: int = 2000
    """Pieces learned for text columns, 256 or more (a piece for each byte is always there); only for "compact"."""

    max_length: int = 512
    """Tokens per flow, 2 to 512; features are never cut, texts are."""

    networks: tuple[str, ...] = ()
    """The user's own networks (10.1.0.0/16): addresses become inside or outside rather than private or public."""

    def __post_init__(self) -> None:
        _check_range("num_bins", self.num_bins, 1, 255)
        _check_range("num_exact_values", self.num_exact_values, 0, None)
        _check_range("max_categories", self.max_categories, 1, None)
        _check_range("max_text_tokens", self.max_text_tokens, 1, None)
        _check_range("subword_vocab_size", self.subword_vocab_size, 256, None)
        _check_range("max_length", self.max_length, 2, 512)
        if self.vocabulary not in ("compact", "extend"):
            raise ConfigError(f"encoding.vocabulary must be compact or extend, got {self.vocabulary!r}")
        if self.vocabulary == "extend" and self.wordpieces is None:
            raise ConfigError(
                "encoding.wordpieces must be a folder that holds vocab.txt or tokenizer.json, or a hub name, when "
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
