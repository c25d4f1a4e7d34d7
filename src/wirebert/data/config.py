"""Settings of the data stage: meaning and format of the traffic files, where they are not detected."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from wirebert.data.dialect import Encoding
from wirebert.data.windows import MAX_WINDOW_S
from wirebert.errors import ConfigError

Split = Literal["random", "time", "group", "leave_attack_out"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """Meaning and format of the traffic files, where they are not detected."""

    label: str | None = None
    """The label column. Unset: the label of the schema, or the column that looks like one."""

    benign: str | None = None
    """The class that means "no attack". Unset: from the schema, or a known name such as normal or benign."""

    label_map: Mapping[str, str] = field(default_factory=dict[str, str], hash=False)
    """Label -> class, before the label map of the schema; an empty class leaves out the rows of the label."""

    positive: str | None = None
    """Binary classification: this label or class against the rest. Unset: all classes are kept."""

    schema: str | None = None
    """Name of a built-in schema, or a TOML file. Unset: recognised or inferred."""

    cache: str | None = None
    """Folder that keeps typed rows, tokenizers and encoded flows between runs, by content. Unset: they are
    deleted with the run."""

    drop: tuple[str, ...] = ()
    """Columns excluded from the features: names, or kinds (such as port or address) for all columns of a
    kind."""

    feature_combinations: bool = False
    """Add combined features (bytes per packet, service with state) to a schema that lists none."""

    context: bool | None = None
    """Add context (history) features of each flow's hosts. Unset: for sensor logs with times."""

    context_short_s: int = 60
    """Short context window in seconds, at least 1."""

    context_long_s: int = 3_600
    """Long context window in seconds, longer than the short one and at most a day."""

    block_mb: int = 8
    """Block size for reading files, in [1, 1024] MB; rows of several blocks are skipped."""

    max_invalid_fraction: float = 0.01
    """Largest fraction, in [0, 1], of rejected rows (wrong number of fields, open quote), and of invalid
    values in a numeric column, of files to train on. Files to score may lose half of their rows."""

    min_class_rows: int = 1
    """Classes with fewer rows are rare; see `rare_classes`."""

    rare_classes: Literal["keep", "merge", "refuse"] = "keep"
    """Treatment of classes below `min_class_rows`: keep them, merge them into class `other`, or refuse the
    data."""

    split: Split = "random"
    """How validation rows are chosen: at random (duplicate-safe), the latest, whole groups, or one class left
    out."""

    valid_fraction: float = 0.1
    """Fraction of the training rows for validation, in (0, 0.5]."""

    test_fraction: float = 0.0
    """Fraction of the rows of the training file that are split off for testing first, in [0, 0.5]. They are
    chosen like validation rows, and scored after the model is saved."""

    split_seed: int | None = None
    """Seed of the split, so that runs with several seeds are evaluated on the same rows. Unset: the seed of
    the run."""

    time_column: str | None = None
    """Time column for data.split=time. Unset: the first column of kind time."""

    group_column: str | None = None
    """Group column (host, capture, campaign) for data.split=group; each value stays in one split."""

    left_out_class: str | None = None
    """Class that training never sees, for data.split=leave_attack_out."""

    allow_absent: bool = False
    """Accept traffic that lacks more than half of the features of the model, or of the training data."""

    accepted_findings: tuple[str, ...] = ()
    """Accepted findings: `code` or `code:column`. They are shown as accepted and fail nothing."""

    delimiter: str | None = None
    """Field delimiter, one character; a space means any number of blanks. Unset: detected."""

    quote: str | None = None
    """Quote character; empty: no quotes. Unset: detected."""

    escape: str | None = None
    """Escape character; empty: no escapes. Unset: detected."""

    comment: str | None = None
    """Prefix of comment lines; empty: no comments. Unset: detected."""

    skip_lines: int | None = None
    """Lines before the table (the header belongs to the table), at least 0. Unset: detected."""

    footer_lines: int | None = None
    """Lines after the table, such as totals, without blank lines, at least 0. Unset: lines with too few
    fields."""

    decimal_comma: bool | None = None
    """Decimal comma: 1,5 is a number. Unset: detected."""

    encoding: Encoding | None = None
    """Text encoding. Unset: detected."""

    has_header: bool | None = None
    """Whether the first row holds the column names. Unset: detected."""

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
                "data.context_short_s must be at least 1, data.context_long_s larger and at most "
                f"{MAX_WINDOW_S}, got {self.context_short_s} and {self.context_long_s}"
            )
        if self.min_class_rows < 1:
            raise ConfigError(f"data.min_class_rows must be at least 1, got {self.min_class_rows}")
        for name in ("skip_lines", "footer_lines"):
            count: int | None = getattr(self, name)
            if count is not None and count < 0:
                raise ConfigError(f"data.{name} must be at least 0, got {count}")
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
