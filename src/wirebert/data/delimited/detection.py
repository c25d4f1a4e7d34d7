"""Detection of a traffic file's dialect from its first bytes, never from its name.

The delimiter and quote are those that give the most rows the same number of fields. Lines before, between and
after the rows (titles, comments, totals) are recognised by their number of fields.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

from wirebert.data.config import DataConfig
from wirebert.data.dialect import (
    HEAD_BYTES,
    ONE_COLUMN,
    Compression,
    Dialect,
    LineEnd,
    decode_head,
    detect_encoding,
    whole_lines,
)
from wirebert.data.grammar import Grammar, Record, quoted_fields
from wirebert.data.other_formats import refuse_other_formats
from wirebert.errors import NoFlowsError

HEAD_ROWS = 300
"""Rows of the head that are used for detection."""
LINE_ENDS: dict[LineEnd, str] = {"LF": "\n", "CRLF": "\r\n", "CR": "\r"}
COMMENT_MARKS = ("#", "//", "%")
MAX_LINES_BEFORE = 100
MAX_SLIPS = 2
"""Rows with an open quote that count as damage, however short the text is."""

NUMBER_CELL = re.compile(
    r"[+-]?(?:\d+(?:[.,]\d*)?|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf(?:inity)?|nan)", re.IGNORECASE
)
DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?")
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+(?:[eE][+-]?\d+)?")
NEVER_A_NAME = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|\d{4}[-/]\d\d?[-/]\d\d?.*|\d\d?[-/]\d\d?[-/]\d{4}.*|0x[0-9a-fA-F]+|[-?]"
)


def detect_dialect(
    head: bytes, compression: Compression, where: str, config: DataConfig | None = None
) -> Dialect:
    """The dialect of a file that begins with `head` (uncompressed); values set in `config` are not detected.

    Raises:
        DataError: the file is empty, is not text, or has an unsupported format.

    >>> detect_dialect(b"dur;proto\\n1;tcp\\n", "none", "flows.csv").describe()
    'utf-8, semicolon-separated, header'
    >>> detect_dialect(b"proto:tcp, service=http\\n", "none", "flows.txt").describe()
    'utf-8, key-value lines'
    >>> detect_dialect(b"", "none", "flows.csv")
    Traceback (most recent call last):
    wirebert.errors.NoFlowsError: flows.csv: expected a table of flows, found an empty file; give one that
    holds flows
    """
    config = config or DataConfig()
    if head.startswith(b"PAR1"):
        return Dialect(format="parquet", compression=compression)
    is_whole = len(head) < HEAD_BYTES
    encoding = config.encoding or detect_encoding(head, is_whole=is_whole)
    refuse_other_formats(head, encoding, where, is_table=config.delimiter is not None)
    lines = whole_lines(decode_head(head, encoding), is_whole=is_whole, footer_lines=config.footer_lines)
    if not any(line.strip() for line in lines):
        raise NoFlowsError(
            f"{where}: expected a table of flows, found an empty file; give one that holds flows"
        )
    if config.delimiter is None and are_key_value_lines(lines):
        return Dialect(format="key_values", compression=compression, encoding=encoding)
    layout = detect_layout(lines, config)
    return Dialect(
        compression=compression,
        encoding=encoding,
        delimiter=layout.grammar.delimiter,
        quote=layout.grammar.quote,
        escape=layout.grammar.escape,
        comment=layout.comment,
        hides_rows=bool(config.comment),
        skip_lines=layout.skip_lines,
        footer_lines=config.footer_lines,
        has_header=detect_header(layout.rows) if config.has_header is None else config.has_header,
        decimal_comma=(
            has_decimal_commas(layout.rows, layout.grammar.delimiter)
            if config.decimal_comma is None
            else config.decimal_comma
        ),
        has_byte_order_mark=encoding == "utf-8" and head.startswith(b"\xef\xbb\xbf"),
        line_end=detect_line_end(lines),
        blanks_before_quotes=layout.grammar.quote is not None
        and f"{layout.grammar.delimiter} {layout.grammar.quote}" in "".join(lines[:HEAD_ROWS]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Position and grammar of the table in the text."""

    grammar: Grammar
    comment: str | None
    skip_lines: int
    rows: list[list[str]]
    """Rows of the table from the head, with the header."""


def detect_layout(lines: Sequence[str], config: DataConfig) -> Layout:
    """Grammar, comment prefix, and start of the table."""
    head = lines[: HEAD_ROWS + MAX_LINES_BEFORE]
    start = config.skip_lines or 0
    marks = COMMENT_MARKS if config.comment is None else (config.comment,)
    free = [line for line in head[start:] if not line.startswith(tuple(filter(None, marks)))]
    grammar = detect_grammar([line for line in (free or head) if line.strip()][:HEAD_ROWS], config)
    comment = config.comment or None
    if config.comment is None:
        comment = detect_comment(head[start:], grammar)
    if config.skip_lines is None:
        start = table_start(head, grammar, comment)
    while (
        config.skip_lines is not None
        and start < len(head) - 1
        and _is_comment(head[start], comment)
        and not _names_columns(head[start], head[start + 1], comment, grammar)
    ):
        start += 1
    body = "".join(
        line for index, line in enumerate(head[start:]) if not index or not _is_comment(line, comment)
    )
    rows = [record.cells for record in grammar.split(body)]
    if rows and comment is not None and rows[0][0].startswith(comment):  # the header is in a comment
        rows[0][0] = rows[0][0].removeprefix(comment).lstrip()
    return Layout(grammar=grammar, comment=comment, skip_lines=start, rows=rows)


def detect_grammar(lines: Sequence[str], config: DataConfig) -> Grammar:
    """Delimiter, quote and escape that give the most rows the same number of fields; one column if none
    fits."""
    text = "".join(lines)
    quotes = ('"', "'", None) if config.quote is None else (config.quote or None,)
    escapes = (None, "\\") if config.escape is None else (config.escape or None,)
    best, best_score = Grammar(config.delimiter or ONE_COLUMN, quotes[0], escapes[0]), (0.0, 0)
    if config.delimiter is None:
        best = Grammar(ONE_COLUMN, quotes[0] if quotes[0] and f"{quotes[0]}\n" in text else None, escapes[0])
        if config.quote is not None:
            best = Grammar(ONE_COLUMN, quotes[0], escapes[0])
    best_quotes = False  # a properly quoted field is evidence for the quote, even if other rows do not fit
    candidates = [config.delimiter] if config.delimiter else delimiter_candidates(lines)
    for quote, escape in product(quotes, escapes):
        if (
            escape
            and len(escapes) > 1
            and not any(f"{escape}{mark}" in text for mark in (quote, *candidates) if mark)
        ):
            continue
        if quote == "'" and len(quotes) > 1 and text.count("'") < 2:
            continue
        for delimiter in candidates:
            grammar = Grammar(delimiter, quote, escape)
            score = agreement(grammar.split(text))
            is_usual = (quote, escape) == (quotes[0], escapes[0])
            needed = 0.0 if is_usual else 0.25 if best_quotes else 0.02
            if score > best_score and score[0] >= best_score[0] + needed:
                usual = Grammar(delimiter, quotes[0], escapes[0])
                if quote != quotes[0] and not holds_quoted_field(grammar, text) and has_slips(usual, text):
                    continue
                if delimiter == " " and (
                    best_score[0] >= 0.9 or (score[0] < 1 and (score[0] < 0.8 or score[1] < 3))
                ):
                    continue  # text with blanks, with a better delimiter or in one column
                best, best_score = grammar, score
                best_quotes = holds_quoted_field(grammar, text)
    return best if best_score[0] >= 0.5 or config.delimiter else _one_column(best, best_score)


def has_slips(grammar: Grammar, text: str) -> bool:
    """Whether quotes fit except for one in a row or two, which are then damaged rows.

    In a short text such rows are a large fraction, and would count against quotes like many rows of a long
    text.

    >>> has_slips(Grammar(), '1,a\\n"2,b\\n3,c\\n'), has_slips(Grammar(), '1,5"\\n"2,b\\n3,c\\n')
    (True, False)
    """
    quoted, records = quoted_fields(grammar), grammar.split(text)
    num_broken = sum(record.is_broken for record in records)
    if quoted is None or grammar.quote is None or not 0 < num_broken <= min(MAX_SLIPS, len(records) / 2):
        return False
    return quoted.sub(b"", f"\n{text}".encode()).count(grammar.quote.encode()) == num_broken


def holds_quoted_field(grammar: Grammar, text: str) -> bool:
    """Whether a field of the text is properly quoted."""
    pattern = quoted_fields(grammar)
    return pattern is not None and pattern.search(f"\n{text}".encode()) is not None


def _one_column(best: Grammar, score: tuple[float, int]) -> Grammar:
    return best if score == (0.0, 0) else Grammar(ONE_COLUMN, '"', None)


def delimiter_candidates(lines: Sequence[str]) -> list[str]:
    """Delimiters that occur; the comma only if it does not occur merely inside numbers.

    >>> delimiter_candidates(["1,5;tcp"]), delimiter_candidates(["1,5,tcp x"])
    ([';'], [',', ' '])
    """
    text = "".join(lines)
    candidates = [delimiter for delimiter in ("\t", ";", "|", ",") if delimiter in text]
    candidates += [" "] if re.search(r"\S[ \t]+\S", text) else []
    if "," in candidates and len(candidates) > 1:
        for other in candidates:
            if other == ",":
                continue
            cells = [
                cell.strip()
                for line in lines
                for cell in (line.split() if other == " " else line.split(other))
            ]
            num_inside = sum(cell.count(",") for cell in cells if DECIMAL_COMMA.fullmatch(cell))
            widths = Counter(len(line.split(None if other == " " else other)) for line in lines)
            is_regular = widths.most_common(1)[0][1] >= 0.8 * len(lines) and widths.most_common(1)[0][0] > 1
            if num_inside >= 0.9 * text.count(",") and is_regular:
                candidates.remove(",")
                break
    return candidates


def agreement(records: Sequence[Record]) -> tuple[float, int]:
    """Fraction of rows with the most common number of fields, and that number; (0, 0) for one field."""
    widths = Counter(len(record.cells) for record in records if not record.is_broken)
    wide = {width: count for width, count in widths.items() if width > 1}
    if not wide:
        return 0.0, 0
    width = max(wide, key=lambda width: (wide[width], width))
    # A line of one field is more likely a title or a total than a row, so it has less weight.
    others = sum(wide.values()) - wide[width] + 0.4 * widths.get(1, 0)
    broken = sum(record.is_broken for record in records)
    return round(wide[width] / (wide[width] + others + broken), 2), width


def most_common_width(records: Iterable[Record]) -> int:
    """The most common number of fields above one; the larger of equally common ones."""
    widths = Counter(len(record.cells) for record in records if not record.is_broken)
    widths = {width: count for width, count in widths.items() if width > 1} or widths
    return max(widths, key=lambda width: (widths[width], width)) if widths else 1


def detect_comment(lines: Sequence[str], grammar: Grammar) -> str | None:
    """Prefix of comment lines: they come before the first row or have another number of fields than rows."""
    width = most_common_width(grammar.split("".join(lines)))
    for mark in COMMENT_MARKS:
        marked = [index for index, line in enumerate(lines) if line.startswith(mark)]
        if not marked:
            continue
        first_row = next(
            (index for index, line in enumerate(lines) if line.strip() and index not in set(marked)), 0
        )
        later = [lines[index] for index in marked if index > first_row]
        if len(marked) < len([line for line in lines if line.strip()]) and all(
            len(record.cells) != width for record in grammar.split("".join(later))
        ):
            return mark
    return None


def table_start(lines: Sequence[str], grammar: Grammar, comment: str | None) -> int:
    """Lines before the first row of the usual width, without a header of nearly that width."""
    free = "".join(line for line in lines if not _is_comment(line, comment))
    width = most_common_width(grammar.split(free))
    is_row = [
        not _is_comment(line, comment)
        and line.strip() != ""
        and len(grammar.split("".join(lines[index : index + 20]), max_rows=1)[0].cells) == width
        for index, line in enumerate(lines[:MAX_LINES_BEFORE])
    ]
    first = is_row.index(True) if True in is_row else 0
    before = first - 1
    while before >= 0 and not lines[before].strip():
        before -= 1
    if before < 0:
        return 0
    rows = [
        record.cells
        for record in grammar.split("".join(line for line in lines[first:] if not _is_comment(line, comment)))
    ]
    above = (
        lines[before].removeprefix(comment).lstrip()
        if _is_comment(lines[before], comment) and comment
        else lines[before]
    )
    names = grammar.split(above, max_rows=1)[0].cells
    is_shifted = len(names) == width - 1 >= 2 or (len(names) == width + 1 and not names[-1].strip())
    is_named = len(names) == width and above != lines[before]
    if (is_shifted or is_named) and detect_header([names, *rows]) and not detect_header(rows):
        return before
    # Blank lines before a row are skipped anyway.
    return 0 if not any(line.strip() for line in lines[:first]) else first


def _names_columns(line: str, below: str, comment: str | None, grammar: Grammar) -> bool:
    """Whether a comment holds as many fields as the line below it, which is no comment."""
    widths = [len(grammar.split(text, max_rows=1)[0].cells) for text in (line, below) if text.strip()]
    return not _is_comment(below, comment) and len(widths) == 2 and widths[0] == widths[1] > 1


def _is_comment(line: str, comment: str | None) -> bool:
    return comment is not None and line.startswith(comment)


def detect_line_end(lines: Sequence[str]) -> LineEnd:
    """The most common line end.

    >>> detect_line_end(["a\\r\\n", "b\\n", "c\\r\\n", "d"])
    'CRLF'
    """
    ends = Counter(line[len(line.rstrip("\r\n")) :] for line in lines)
    return max(LINE_ENDS, key=lambda name: ends[LINE_ENDS[name]])


def has_decimal_commas(rows: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Whether numbers are written 1,5.

    >>> [has_decimal_commas([[cell, "10.0.0.1"]], ";") for cell in ("1,5", "0,500", "1,500")]
    [True, True, False]
    """
    if delimiter == ",":
        return False
    cells = [cell.strip() for row in rows[:HEAD_ROWS] for cell in row]
    with_comma = [cell for cell in cells if DECIMAL_COMMA.fullmatch(cell)]
    num_with_point = sum(DECIMAL_POINT.fullmatch(cell) is not None for cell in cells)
    # 1,500 alone is ambiguous (1.5 or 1500): a number that can only be a decimal, such as 0,500, is needed.
    return len(with_comma) > num_with_point and any(
        not re.fullmatch(r"[+-]?[1-9]\d?\d?,\d{3}", cell) for cell in with_comma
    )


def detect_header(rows: Sequence[Sequence[str]]) -> bool:
    """Whether the first row holds names.

    It does not if a cell is a number, an address, a date or a missing-value marker, or if one of its cells
    occurs again below it. The whole row may occur again, as in concatenated files, if a column otherwise has
    only numbers.

    >>> detect_header([["dur", "proto"], ["1.5", "tcp"]]), detect_header([["0", "tcp"], ["1", "udp"]])
    (True, False)
    >>> detect_header([["tcp", "http"], ["udp", "dns"], ["tcp", "smtp"]])
    False
    """
    if not rows:
        return False
    first = [cell.strip() for cell in rows[0]]
    if len(first) > 2 and first in (
        [str(i) for i in range(len(first))],
        [str(i + 1) for i in range(len(first))],
    ):
        return True  # a table with column positions as names
    if any(NUMBER_CELL.fullmatch(cell) or NEVER_A_NAME.fullmatch(cell) for cell in first):
        return False
    rest = [row for row in rows[1:] if row != rows[0]]
    below = [{row[index].strip() for row in rest if index < len(row)} for index in range(len(first))]
    if any(cell and cell in values for cell, values in zip(first, below, strict=True)):
        return False
    return len(rest) == len(rows) - 1 or any(
        values and all(map(NUMBER_CELL.fullmatch, values)) for values in below
    )


def are_key_value_lines(lines: Sequence[str]) -> bool:
    """Whether (nearly) every line has the form `key:value, key=value, ...`.

    >>> are_key_value_lines(["protocol_type:tcp, service=http"]), are_key_value_lines(["10:30:00,tcp"])
    (True, False)
    """
    filled = [line for line in lines[:200] if line.strip()]
    starts = [re.match(r"\s*([\w.\-]+)\s*[:=]", line) for line in filled]
    # Times and MAC addresses contain colons too, but a key begins with a letter.
    keys = [match.group(1) for match in starts if match and re.match(r"[A-Za-z_]", match.group(1))]
    if len(keys) < 0.9 * len(filled) or not keys:
        return False
    return sum(len(re.findall(r"(?:^|[,;\s])\s*[A-Za-z_][\w.\-]*\s*[:=]", line)) >= 2 for line in filled) >= (
        0.9 * len(filled)
    )
