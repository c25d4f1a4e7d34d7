"""Parse statistics: every line of a file is counted as a row, as rejected, or as something else, with
examples.

Nothing is skipped silently: lines = header and lines before it + rows + blank lines + comments + lines of
rejected rows + lines after the table + line breaks inside quoted values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from wirebert.errors import DataError
from wirebert.shapes import Int64

MAX_LINE_EXAMPLES = 3
SHOWN_CHARACTERS = 80
KEPT_CHARACTERS = 1_000
"""Of a rejected row, in the file of rejected rows."""
MOST_REJECTED = 0.5
"""Traffic to score is refused above this fraction of rejected rows: most of it is not what it says."""


@dataclass(frozen=True, slots=True)
class RejectedRow:
    """A row that cannot be parsed."""

    line: int
    """Number of its first line in the file, from 1."""
    reason: str
    text: str
    """Its beginning."""
    file: str = ""
    """The file, if there are several."""

    @property
    def location(self) -> str:
        """`line 3`, or `line 3 of flows.csv`."""
        return f"line {self.line} of {self.file}" if self.file else f"line {self.line}"


@dataclass(kw_only=True, slots=True)
class ParseStats:
    """Counts over the lines of one or more files."""

    num_lines: int = 0
    num_before: int = 0
    """The header, and lines before it."""
    num_rows: int = 0
    num_blank: int = 0
    num_comments: int = 0
    num_rejected: int = 0
    num_rejected_lines: int = 0
    num_footer: int = 0
    """Lines after the table: the configured number, or lines with fewer fields (totals, or a truncated
    row)."""
    num_not_text: int = 0
    """Lines with bytes that are not valid in the encoding; these are read as replacement characters."""
    num_quoted: int = 0
    """Values with a delimiter, a quote or a line break, which need their quotes."""
    num_emptied: int = 0
    """Lines of the current block that were blanked out and are not blank lines of the file."""
    num_odd: dict[str, int] = field(default_factory=dict)
    """Field -> values of another type than the field has, which are read as missing."""
    odd_examples: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Field -> row and text of the first such value."""
    events: dict[str, int] = field(default_factory=dict)
    """Kind of event -> events that are no flows, in logs of several kinds."""
    rows_by_file: dict[str, int] = field(default_factory=dict)
    """File -> its rows."""
    finds_lines: bool = False
    """Whether `row_lines` is wanted."""
    row_lines: Int64[np.ndarray, " rows"] | None = None
    """First line of each row of the last block; None where it is not wanted, and for formats without
    lines."""
    row_file: str = ""
    """The file of the last block."""
    examples: list[RejectedRow] = field(default_factory=list)
    footer: list[RejectedRow] = field(default_factory=list)
    keep: Callable[[RejectedRow], None] | None = None
    """Called with each row that is rejected or comes after the table, with `KEPT_CHARACTERS` of its text."""

    @property
    def num_line_breaks(self) -> int:
        """Line breaks inside quoted values."""
        return self.num_lines - (
            self.num_before
            + self.num_rows
            + self.num_blank
            + self.num_comments
            + self.num_rejected_lines
            + self.num_footer
        )

    def reject(self, line: int, reason: str, text: str, num_lines: int = 1) -> None:
        """Count a rejected row."""
        self.num_rejected += 1
        self.num_rejected_lines += num_lines
        if len(self.examples) < MAX_LINE_EXAMPLES:
            self.examples.append(RejectedRow(line, reason, text[:SHOWN_CHARACTERS]))
        if self.keep is not None:
            self.keep(RejectedRow(line, reason, text[:KEPT_CHARACTERS]))

    def reject_long(self, beginning: bytes, num_bytes: int, limit_bytes: int) -> None:
        """Count the next line, which is longer than the limit, as a rejected row."""
        self.num_lines += 1
        reason = f"expected lines of at most {limit_bytes:,} bytes, found one of {num_bytes:,}"
        self.reject(self.num_lines, reason, beginning[: 4 * KEPT_CHARACTERS].decode("utf-8", "replace"))

    def as_utf8(self, text: bytes) -> bytes:
        """The text with replacement characters for bytes that are not UTF-8; their lines are counted."""
        try:
            text.decode()
        except UnicodeDecodeError:
            replaced = text.decode("utf-8", "replace")
            self.num_not_text += sum("\ufffd" in line for line in replaced.split("\n"))
            return replaced.encode()
        return text

    def count_odd(self, name: str, row: int, value: str) -> None:
        """Count a value that does not have the type of its field."""
        self.num_odd[name] = self.num_odd.get(name, 0) + 1
        self.odd_examples.setdefault(name, (row, value[:SHOWN_CHARACTERS]))

    def add_footer(self, line: int, reason: str, text: str) -> None:
        """Count a line after the table."""
        self.num_footer += 1
        self.footer.append(RejectedRow(line, reason, text[:SHOWN_CHARACTERS]))
        del self.footer[:-MAX_LINE_EXAMPLES]
        if self.keep is not None:
            self.keep(RejectedRow(line, reason, text[:KEPT_CHARACTERS]))

    def go_on(self) -> None:
        """The table goes on after lines that looked like its end: count these as rejected rows."""
        self.num_rejected += self.num_footer
        self.num_rejected_lines += self.num_footer
        self.examples = [*self.examples, *self.footer][:MAX_LINE_EXAMPLES]
        self.num_footer, self.footer = 0, []

    def share(self, whole: "ParseStats", file: str) -> None:
        """Count for one file of `whole` what is wanted there; rejected rows are kept with the file's name."""
        self.finds_lines = whole.finds_lines
        if (keep := whole.keep) is not None:
            self.keep = lambda row: keep(replace(row, file=file))

    def merge(self, other: "ParseStats", file: str = "") -> None:
        """Add the counts of `other`, which come from `file` if there are several."""
        for name in (own.name for own in fields(self) if own.type is int):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for into, counts in (
            (self.num_odd, other.num_odd),
            (self.events, other.events),
            (self.rows_by_file, other.rows_by_file),
        ):
            for name, count in counts.items():
                into[name] = into.get(name, 0) + count
        self.odd_examples = {**other.odd_examples, **self.odd_examples}
        self.examples = [*self.examples, *_named(other.examples, file)][:MAX_LINE_EXAMPLES]
        self.footer = [*self.footer, *_named(other.footer, file)][:MAX_LINE_EXAMPLES]

    def to_dict(self) -> dict[str, Any]:
        """The counts and examples as plain data."""
        return asdict(replace(self, keep=None, row_lines=None))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "ParseStats":
        """The inverse of `to_dict`, also after JSON."""
        rows = {name: [RejectedRow(**row) for row in plain[name]] for name in ("examples", "footer")}
        odd = {name: tuple(example) for name, example in plain["odd_examples"].items()}
        values: dict[str, Any] = {**plain, **rows, "odd_examples": odd}
        return cls(**values)

    def check(self, limit_fraction: float, where: str) -> None:
        """Raise a DataError if more than this fraction of the rows was rejected."""
        if self.num_rejected > limit_fraction * (self.num_rows + self.num_rejected):
            first = self.examples[0]
            total = self.num_rows + self.num_rejected
            raise DataError(
                f"{where}, line {first.line}: {first.reason} in {first.text!r}, and so "
                f"{self.num_rejected:,} of {total:,} rows cannot be parsed; "
                + (
                    "give traffic of the format that the model was trained on"
                    if limit_fraction >= MOST_REJECTED
                    else "correct them, set data.delimiter, data.quote or data.encoding, or raise "
                    "data.max_invalid_fraction"
                )
            )


def _named(rows: Sequence[RejectedRow], file: str) -> list[RejectedRow]:
    return [replace(row, file=file or row.file) for row in rows]
