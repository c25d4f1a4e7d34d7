"""The grammar of delimited text: the ends of fields and rows, broken quotes, and the line of each row.

A quote opens a field only at its start, and closes it only before a delimiter, a line end or the end of the
text. Inside, a doubled quote (or, with an escape character, an escaped quote) is a literal quote. A field
that opens with a quote and is not closed this way is broken: its row is rejected, and the rows after it are
not affected.
"""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np

from wirebert.shapes import Bool, Int64


class Record(NamedTuple):
    """One row of text."""

    cells: list[str]
    is_broken: bool
    """A quote is opened and never closed."""
    num_lines: int
    start: int
    """Position of its first character in the text."""


class Scan(NamedTuple):
    """Rows with broken quotes in a piece of text."""

    broken: list[tuple[int, int]]
    """First and one past the last byte of each broken row, line end included."""
    unfinished: int | None
    """Start of the row whose quote is still open at the end of the text; None if there is none."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """Delimiter, quote and escape character of delimited text. One space means any number of blanks."""

    delimiter: str = ","
    quote: str | None = '"'
    escape: str | None = None

    def split(self, text: str, max_rows: int = 1_000_000) -> list[Record]:
        """The rows of a text, without blank ones.

        >>> [record.cells for record in Grammar().split('a,"b,""c"\\n1,2\\n')]
        [['a', 'b,"c'], ['1', '2']]
        >>> [record.is_broken for record in Grammar().split('5,"6\\n7,8\\n')]
        [True, False]
        """
        records: list[Record] = []
        position = 0
        while position < len(text) and len(records) < max_rows:
            end = line_end(text, position)
            line = text[position:end]
            if not any(mark in line for mark in (self.quote, self.escape) if mark):
                record, after = Record(self._split_plain(line.rstrip("\r\n")), False, 1, position), end
            else:
                record, after = self._split_quoted(text, position, end)
            if line.strip("\r\n"):
                records.append(record)
            position = after
        return records

    def scan(self, text: bytes, *, is_last: bool) -> Scan:
        """Rows of `text` (which starts with a row) with broken quotes."""
        if self.quote is None or self.quote.encode() not in text:
            return Scan([], None)
        well_formed, open_end = _patterns(self.delimiter, self.quote, self.escape)
        padded = b"\n" + text  # so that a row start always follows a line end
        broken: list[tuple[int, int]] = []
        start = 1
        while True:
            match = well_formed.match(padded, start - 1)
            at = match.end() if match else start
            if at >= len(padded):
                return Scan(broken, None)
            first = self._row_start(padded, start, at)
            if open_end.match(padded, at) and not is_last:
                return Scan(broken, first - 1)
            start = line_end_bytes(padded, at)
            broken.append((first - 1, start - 1))
            if start >= len(padded):
                return Scan(broken, None)

    def first_row(self, text: bytes) -> tuple[int, int]:
        """Number of lines of the first row, and the position after it.

        >>> Grammar().first_row(b'a,"b\\n c"\\n1,2\\n'), Grammar().first_row(b'a,"b\\n1,2\\n')
        ((2, 9), (1, 5))
        """
        end = line_end_bytes(text, 0)
        if self.quote is not None and self.quote.encode() in text[:end]:
            broken = self.scan(text[:end], is_last=True).broken
            if broken:
                for match in _quoted_field(self.delimiter, self.quote, self.escape).finditer(b"\n" + text):
                    left, right = match.start() - 1, match.end() - 1
                    if left < end < right:
                        end = line_end_bytes(text, right)
                    elif left >= end:
                        break
        return len(_LINE_END_BYTES.findall(text[:end].rstrip(b"\r\n"))) + 1, end

    def _row_start(self, padded: bytes, lowest: int, at: int) -> int:
        """Start of the row that contains position `at`; a quoted field before it may span lines."""
        assert self.quote is not None  # only then anything can be broken
        first = max(padded.rfind(b"\n", 0, at), padded.rfind(b"\r", 0, at)) + 1
        fields = _quoted_field(self.delimiter, self.quote, self.escape)
        spans = [match.span() for match in fields.finditer(padded, lowest - 1, at)]
        for left, right in reversed(spans):
            if left < first < right:
                first = max(padded.rfind(b"\n", 0, left), padded.rfind(b"\r", 0, left)) + 1
        return max(first, lowest)

    def _split_plain(self, line: str) -> list[str]:
        return line.split() if self.delimiter == " " else line.split(self.delimiter)

    def _split_quoted(self, text: str, start: int, line_stop: int) -> tuple[Record, int]:
        pattern = _field(self.delimiter, self.quote, self.escape)
        cells: list[str] = []
        position = start
        if self.delimiter == " ":
            position += len(text[start:line_stop]) - len(text[start:line_stop].lstrip(" \t"))
        while True:
            match = pattern.match(text, position)
            if match is None:  # an escape with nothing after it
                return self._broken(text, start, line_stop)
            quoted, plain, end = match.groups()
            if quoted is None and self.quote is not None and plain.lstrip(" ").startswith(self.quote):
                return self._broken(text, start, line_stop)
            cells.append(self._unquoted(plain) if quoted is None else self._unquoted(quoted, in_quotes=True))
            position = match.end()
            if not end or end in ("\r\n", "\r", "\n"):
                num_lines = len(re.findall(r"\r\n|\r|\n", text[start : position - len(end)])) + 1
                return Record(cells, False, num_lines, start), position

    def _broken(self, text: str, start: int, line_stop: int) -> tuple[Record, int]:
        """The line unchanged, as a row with broken quotes."""
        cells = self._split_plain(text[start:line_stop].rstrip("\r\n"))
        return Record(cells, True, 1, start), line_stop

    def _unquoted(self, text: str, *, in_quotes: bool = False) -> str:
        if in_quotes and self.quote is not None:
            text = text.replace(self.quote * 2, self.quote)
        return re.sub(re.escape(self.escape) + r"(.)", r"\1", text, flags=re.DOTALL) if self.escape else text


def quoted_fields(grammar: Grammar) -> re.Pattern[bytes] | None:
    """A pattern for a properly quoted field after a delimiter or line end; None without quotes."""
    if grammar.quote is None:
        return None
    return _quoted_field(grammar.delimiter, grammar.quote, grammar.escape)


def line_ends_end_rows(text: bytes, grammar: Grammar) -> bool:
    r"""Whether no value holds a line end; False if there is a quote that does not fit, or an escape.

    >>> line_ends_end_rows(b'1,"a,b"\n2,c\n', Grammar()), line_ends_end_rows(b'1,"a\nb"\n', Grammar())
    (True, False)
    """
    quoted = quoted_fields(grammar)
    if grammar.escape is not None and grammar.escape.encode() in text:
        return False
    if quoted is None or grammar.quote is None or grammar.quote.encode() not in text:
        return True
    rest = quoted.sub(b"", b"\n" + text)[1:]
    return grammar.quote.encode() not in rest and all(rest.count(e) == text.count(e) for e in (b"\n", b"\r"))


def line_end(text: str, start: int) -> int:
    """One past the end of the line that contains `start`, line end included.

    >>> line_end("a\\r\\nb", 0), line_end("a", 0)
    (3, 1)
    """
    match = _LINE_END.search(text, start)
    return match.end() if match else len(text)


_LINE_END = re.compile(r"\r\n|\r|\n")
_LINE_END_BYTES = re.compile(rb"\r\n|\r|\n")


def line_end_bytes(text: bytes, start: int) -> int:
    """The same for bytes."""
    match = _LINE_END_BYTES.search(text, start)
    return match.end() if match else len(text)


def _as_many(branches: str) -> str:
    """A repetition of the branches without backtracking.

    Before Python 3.11.5 a possessive quantifier after a group matched wrongly (CPython issue 106052); an
    atomic group does not, but remembers every step until it ends.
    """
    return rf"(?:{branches})*+" if sys.version_info >= (3, 11, 5) else rf"(?>(?:{branches})*)"


def _classes(delimiter: str, quote: str, escape: str | None) -> tuple[str, str, str, str]:
    """Delimiter class, quote, content of a quoted field, and an escaped character (or a pattern that never
    matches)."""
    gap = r" \t" if delimiter == " " else re.escape(delimiter)
    mark = re.escape(quote)
    escaped = rf"{re.escape(escape)}." if escape else r"(?!)"
    inner = _as_many(rf"[^{mark}{re.escape(escape) if escape else ''}]++|{escaped}|{mark}{mark}")
    return gap, mark, inner, escaped


@cache
def _patterns(delimiter: str, quote: str, escape: str | None) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    gap, mark, inner, escaped = _classes(delimiter, quote, escape)
    other = rf"[^{mark}{re.escape(escape) if escape else ''}]++"
    well_formed = _as_many(
        rf"{other}|{escaped}|(?<=[{gap}\r\n]){mark}{inner}{mark}(?=[{gap}\r\n]|\Z)|(?<![{gap}\r\n]){mark}"
    )
    open_end = rf"{mark}{inner}\Z"
    return re.compile(well_formed.encode(), re.DOTALL), re.compile(open_end.encode(), re.DOTALL)


@cache
def _quoted_field(delimiter: str, quote: str, escape: str | None) -> re.Pattern[bytes]:
    gap, mark, inner, _ = _classes(delimiter, quote, escape)
    return re.compile(rf"(?<=[{gap}\r\n]){mark}{inner}{mark}(?=[{gap}\r\n]|\Z)".encode(), re.DOTALL)


@cache
def _field(delimiter: str, quote: str | None, escape: str | None) -> re.Pattern[str]:
    gap, mark, inner, escaped = _classes(delimiter, quote or '"', escape)
    blanks = r"[ ]*+" if delimiter != " " else ""
    end = r"(?:[ \t]+(?=[\r\n]|\Z))?(\r\n|\r|\n|\Z|[ \t]+)" if delimiter == " " else rf"({gap}|\r\n|\r|\n|\Z)"
    quoted = rf"{blanks}{mark}({inner}){mark}{blanks}(?=[{gap}\r\n]|\Z)" if quote else r"(?!)()"
    character = rf"[^{gap}\r\n{re.escape(escape) if escape else ''}]"
    plain = f"({_as_many(f'{character}|{escaped}')})"
    return re.compile(rf"(?:{quoted}|{plain}){end}", re.DOTALL)


LF, CR = 10, 13


def row_lines(text: bytes, grammar: Grammar, odd: Sequence[int], first: int) -> Int64[np.ndarray, " rows"]:
    """Number of the first line of each row, if the text begins with line `first`.

    Args:
        text: whole rows; blank lines between them are not rows.
        grammar: line breaks inside its quoted fields do not end rows.
        odd: positions in the text where rejected rows begin.

    >>> row_lines(b'a,1\\n\\n"b\\nc",2\\nd,3\\n', Grammar(), [], 5)
    array([5, 7, 9])
    """
    characters = np.frombuffer(text, np.uint8)
    is_end = characters == LF
    if b"\r" in text:
        is_end |= (characters == CR) & np.append(characters[1:] != LF, [True] * (len(characters) > 0))
    ends = np.flatnonzero(is_end & ~is_quoted_break(text, grammar))
    starts = np.append(0, ends + 1)
    stops = np.append(ends, len(text))
    is_blank = (stops == starts) | ((stops == starts + 1) & (np.append(characters, LF)[starts] == CR))
    rows = starts[~is_blank & ~np.isin(starts, odd)]
    return first + np.append(0, np.cumsum(is_end))[rows].astype(np.int64)


def is_quoted_break(text: bytes, grammar: Grammar) -> Bool[np.ndarray, " characters"]:
    """True inside quoted fields that contain a line break."""
    is_inside = np.zeros(len(text), bool)
    quoted = quoted_fields(grammar)
    if quoted is not None and grammar.quote is not None and grammar.quote.encode() in text:
        for match in quoted.finditer(b"\n" + text):
            if b"\n" in match[0] or b"\r" in match[0]:
                is_inside[match.start() - 1 : match.end() - 1] = True
    return is_inside
