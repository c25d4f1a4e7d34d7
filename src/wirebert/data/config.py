"""Settings of the data stage: what the traffic files mean and how they are written, where it is not found out."""

from dataclasses import dataclass
from typing import Literal

from wirebert.data.dialect import Encoding
from wirebert.data.windows import MAX_WINDOW_S
from wirebert.errors import ConfigError

Split = Literal["random", "time", "group", "leave_attack_out"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """What the traffic files mean, where it is not found out by itself."""

    label: str | None = None
    """The label column. Unset: the schema's, or the column that looks like one."""

    benign: str | None = None
    """The class that means "no attack". Unset: the schema's, or a known name such as normal or benign."""

    positive: str | None = None
    """Learn two classes only: this label or class, and all the others. Unset: every class is its own."""

    schema: str | None = None
    """Name of a known schema, or a TOML file. Unset: recognised or inferred."""

    cache: str | None = None
    """Folder in which typed rows, tokenizers and encoded flows are kept between runs, by content. Unset: they are deleted
    with the run."""

    drop: tuple[str, ...] = ()
    """Columns that the model is not to see: names, or kinds (such as port or address) for all columns of a kind."""

    feature_combinations: bool = False
    """Whether columns made of two (bytes per packet, service with state) are added to a schema that lists none."""

    context: bool | None = None
    """Whether each flow gets columns that say what its hosts did before it. Unset: for sensors' logs that have times."""

    context_short_s: int = 60
    """Short window of the context in seconds, at least 1."""

    context_long_s: int = 3_600
    """Long window of the context in seconds, above the short one and at most a day."""

    block_mb: int = 8
    """Size of the blocks in which files are read, in [1, 1024] MB; no row may be longer."""

    max_invalid_fraction: float = 0.01
    """Share, in [0, 1], of the rows that may be set aside (other width, open quote), and of a column's values that may
    be no number where numbers are due."""

    min_class_rows: int = 1
    """Classes with fewer rows are dealt with as `rare_classes` says."""

    rare_classes: Literal["keep", "merge", "refuse"] = "keep"
    """What becomes of classes below `min_class_rows`: kept, merged into one class `other`, or refused with a message."""

    split: Split = "random"
    """How validation rows are chosen: duplicate-safe at random, the latest, whole groups, or one class left out."""

    valid_fraction: float = 0.1
    """Share of the training rows kept for validation, in (0, 0.5]."""

    test_fraction: float = 0.0
    """Share of the rows of the training file that are set apart for a test before anything else, in [0, 0.5]; chosen like
    validation rows, and scored after the model is saved."""

    split_seed: int | None = None
    """Seed of the split alone, so that runs of several seeds are judged on the same rows. Unset: the seed of the run."""

    time_column: str | None = None
    """Column that orders rows for the split by time. Unset: the first column of kind time."""

    group_column: str | None = None
    """Column whose values (host, capture, campaign) stay on one side of the split by group."""

    left_out_class: str | None = None
    """Class that training never sees in the split `leave_attack_out`."""

    accepted_findings: tuple[str, ...] = ()
    """Findings that are known and accepted: `code` or `code:column`. They are shown as accepted and fail nothing."""

    delimiter: str | None = None
    """What stands between fields, one character; a space means any run of blanks. Unset: detected."""

    quote: str | None = None
    """What fields may be enclosed in, one character; empty: nothing. Unset: detected."""

    escape: str | None = None
    """What makes the next character an ordinary one; empty: nothing. Unset: detected."""

    comment: str | None = None
    """What lines begin with that are no rows; empty: nothing. Unset: detected."""

    skip_lines: int | None = None
    """Lines before the table (its header included in the table), at least 0. Unset: detected."""

    footer_lines: int | None = None
    """Lines after the table, such as totals, blank ones not counted, at least 0. Unset: those with too few fields."""

    decimal_comma: bool | None = None
    """Whether 1,5 is a number. Unset: detected."""

    encoding: Encoding | None = None
    """How the text is encoded. Unset: detected."""

    has_header: bool | None = None
    """Whether the first row holds the names. Unset: detected."""

    def __post_init__(self) -> None:
        if not 1 <= self.block_mb <= 1024:
            raise ConfigError(f"data.block_mb must be in [1, 1024], got {self.block_mb}")
        if not 0 <= self.max_invalid_fraction <= 1:
            raise ConfigError(f"data.max_invalid_fraction must be in [0, 1], got {self.max_invalid_fraction}")
        if not 0 < self.valid_fraction <= 0.5:
            raise ConfigError(f"data.valid_fraction must be in (0, 0.5], got {self.valid_fraction}")
        if not 0 <= self.test_fraction <= 0.5:
            raise ConfigError(f"data.test_fraction must be in [0, 0.5], got {self.test_fraction}")
        if not 1 <= self.context_short_s < self.context_long_s <= MAX_WINDOW_S:
            raise ConfigError(
                "data.context_short_s and data.context_long_s must be at least 1, rising, and at most "
                f"{MAX_WINDOW_S}, got {self.context_short_s} and {self.context_long_s}"
            )
        if self.min_class_rows < 1:
            raise ConfigError(f"data.min_class_rows must be at least 1, got {self.min_class_rows}")
        for name in ("skip_lines", "footer_lines"):
            number: int | None = getattr(self, name)
            if number is not None and number < 0:
                raise ConfigError(f"data.{name} must be at least 0, got {number}")
        self._check_characters()
        self._check_split()

    def _check_characters(self) -> None:
        if self.delimiter is not None and (len(self.delimiter) != 1 or not self.delimiter.isascii()):
            raise ConfigError(f"data.delimiter must be one ASCII character, got {self.delimiter!r}")
        for name in ("quote", "escape"):
            value: str | None = getattr(self, name)
            if value and (len(value) != 1 or not value.isascii() or value.isspace()):
                raise ConfigError(f"data.{name} must be one ASCII character or empty, got {value!r}")
        if self.delimiter and self.delimiter in (self.quote, self.escape):
            raise ConfigError(
                f"data.delimiter must differ from data.quote and data.escape, got {self.delimiter!r}"
            )

    def _check_split(self) -> None:
        needed = {"group": "group_column", "leave_attack_out": "left_out_class"}.get(self.split)
        if needed is not None and getattr(self, needed) is None:
            raise ConfigError(f"data.split={self.split} needs data.{needed}, got none")
