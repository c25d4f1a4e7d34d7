"""Delimited text -> blocks of strings, with every line counted. Values are not interpreted here.

Text is cut into blocks that end at the end of a row. Comments and rows with broken quotes are replaced by
blank lines, so line numbers stay correct. Arrow parses the rest.
"""

import io
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Literal, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from wirebert.data.accounting import ParseStats
from wirebert.data.delimited.blank_lines import (
    count_blank,
    count_lines,
    without_blanks,
    without_blanks_before_quotes,
)
from wirebert.data.dialect import (
    ByteStream,
    ContentDigest,
    Decoded,
    Dialect,
    damage,
    open_bytes,
    reason_of,
    rewound,
)
from wirebert.data.grammar import CR, LF, Grammar, is_quoted_break, line_end_bytes, row_lines
from wirebert.data.readers.lines import as_texts
from wirebert.errors import DataError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LINE = re.compile(rb"[^\r\n]*+(?:\r\n|\r|\n|\Z)")
NOT_TEXT = "bytes that are not valid in the encoding"


class RemovedLine(NamedTuple):
    """A line that was removed from a block of text."""

    line_index: int
    """Its index among the lines of the block, from 0."""
    reason: str
    """Empty for a comment."""
    text: str


def read_delimited(
    path: Path,
    dialect: Dialect,
    block_bytes: int,
    *,
    names: Sequence[str],
    where: str = "",
    parse_stats: ParseStats | None = None,
    content: ContentDigest | None = None,
    opened: io.BufferedReader | None = None,
) -> Iterator[pa.Table]:
    """Blocks of rows in file order; every column is dictionary<int32, string>.

    Block borders depend only on the file and `block_bytes`. A row with more or fewer fields than `names`,
    with an open quote, that repeats the header, or longer than two blocks is rejected and counted in
    `parse_stats`, like blank lines and comments. The file's bytes are added to `content`.

    Raises:
        DataError: the file is damaged.
    """
    where, parse_stats = where or str(path), ParseStats() if parse_stats is None else parse_stats
    try:
        hashed = None if content is None else content.open(path)
        file = rewound(opened) if opened is not None and hashed is None else hashed
        with open_bytes(path, dialect.compression, file) as raw:
            is_utf8 = dialect.encoding == "utf-8"
            stream = raw if is_utf8 else Decoded(raw, dialect.encoding)
            yield from tables(stream, dialect, block_bytes, names=names, parse_stats=parse_stats)
            if hashed is not None:
                hashed.drain()
    except (*damage(), UnicodeError) as error:
        reason = f"damaged or not {dialect.encoding} ({reason_of(error)})"
        raise DataError(f"{where}: {reason}; copy it again, or set data.encoding") from error


def tables(
    stream: ByteStream,
    dialect: Dialect,
    block_bytes: int,
    *,
    names: Sequence[str],
    parse_stats: ParseStats,
) -> Iterator[pa.Table]:
    """The blocks of a stream of UTF-8 text; see `read_delimited`."""
    for piece in row_pieces(stream, dialect, block_bytes, len(names), parse_stats):
        num_lines = count_lines(piece)
        if piece.isspace() and (dialect.delimiter == " " or dialect.delimiter.encode() not in piece):
            parse_stats.num_blank += num_lines
        elif piece:
            text = without_blanks(piece, dialect)
            table = parse_text(text, dialect, names, parse_stats)
            if num_lines > table.num_rows:
                parse_stats.num_blank += count_blank(text, dialect) + num_lines - count_lines(text)
            if table.num_rows:
                yield table
        parse_stats.num_lines += num_lines
        parse_stats.num_blank -= parse_stats.num_emptied
        parse_stats.num_emptied = 0


def row_pieces(
    stream: ByteStream, dialect: Dialect, block_bytes: int, width: int, parse_stats: ParseStats
) -> Iterator[bytes]:
    """The rows of the stream in blocks of about `block_bytes`, each ending at the end of a row.

    Comments, broken rows, and repeated headers are counted in `parse_stats` and replaced by as many blank
    lines. A line of more than two blocks is skipped and counted.
    """
    waiting, header = skip_head(stream, dialect, block_bytes, parse_stats)
    is_last, is_first, footer = False, True, b""
    while waiting or not is_last:
        fresh = (
            b"" if is_first else stream.read(block_bytes)
        )  # first what there is: more may take long to come
        is_last, is_first = not fresh and not is_first, False
        text = waiting + fresh
        cut = len(text) if is_last else max(text.rfind(b"\n"), text.rfind(b"\r", 0, -1)) + 1
        cut = footer_lines_start(text, cut, dialect.footer_lines or 0)
        lines, removed = clean(text[:cut], dialect, header, width)
        lines = without_blanks_before_quotes(lines, dialect)  # an open quote behind blanks is open, too
        scan = dialect.grammar.scan(lines, is_last=is_last or len(text) > 2 * block_bytes)
        if scan.unfinished is not None:
            num_whole = count_lines(lines[: scan.unfinished])
            lines, removed = (
                lines[: scan.unfinished],
                [line for line in removed if line.line_index < num_whole],
            )
            cut = sum(len(line[0]) for line in islice(LINE.finditer(text), num_whole))
        waiting, footer = (b"", text[cut:]) if is_last else (text[cut:], b"")
        if not cut and len(waiting) > 2 * block_bytes:
            waiting = skip_line(waiting, stream, block_bytes, parse_stats)
            continue
        count_removed(removed, parse_stats)
        yield without_broken(lines, scan.broken, dialect, parse_stats)
    for line in footer.splitlines():
        parse_stats.num_lines += 1
        if line.strip():
            parse_stats.add_footer(
                parse_stats.num_lines, "it comes after the table", line.decode(errors="replace")
            )
        else:
            parse_stats.num_blank += 1


def skip_line(text: bytes, stream: ByteStream, block_bytes: int, parse_stats: ParseStats) -> bytes:
    """What follows the line that `text` begins, which is too long; never more than a block is held."""
    beginning, num_bytes = text[:block_bytes], len(text)
    while fresh := stream.read(block_bytes):
        if (end := line_end_bytes(fresh, 0)) < len(fresh) or fresh.endswith((b"\n", b"\r")):
            parse_stats.reject_long(beginning, num_bytes + end, 2 * block_bytes)
            return fresh[end:]
        num_bytes += len(fresh)
    parse_stats.reject_long(beginning, num_bytes, 2 * block_bytes)
    return b""


def footer_lines_start(text: bytes, stop: int, left: int) -> int:
    """Start of the last `left` lines before `stop`, not counting blank ones."""
    while left and stop:
        end = stop - (2 if text.endswith(b"\r\n", 0, stop) else text.endswith((b"\r", b"\n"), 0, stop))
        start = max(text.rfind(b"\n", 0, end), text.rfind(b"\r", 0, end)) + 1
        left -= bool(text[start:stop].strip())
        stop = start
    return stop


def skip_head(
    stream: ByteStream, dialect: Dialect, block_bytes: int, parse_stats: ParseStats
) -> tuple[bytes, bytes | None]:
    """The bytes read after the header and the lines before it; and the header, if it is one line of names."""
    text = stream.read(block_bytes).removeprefix(BYTE_ORDER_MARK)
    for _ in range(dialect.skip_lines):
        while line_end_bytes(text, 0) == len(text) and (fresh := stream.read(block_bytes)):
            text += fresh
        text = text[line_end_bytes(text, 0) :]
    num_lines, names = dialect.skip_lines, None
    if dialect.has_header:
        while not text.strip() and (fresh := stream.read(block_bytes)):
            text += fresh
        num_blank = len(re.findall(rb"\r\n|\r|\n", text[: len(text) - len(text.lstrip(b"\r\n"))]))
        header, end = dialect.grammar.first_row(text.lstrip(b"\r\n"))
        line, text = text.lstrip(b"\r\n")[:end].rstrip(b"\r\n"), text.lstrip(b"\r\n")[end:]
        has_letters = any(map(str.isalpha, line.decode(errors="replace")))
        if header == 1 and has_letters and dialect.delimiter.encode() in line:
            names = line  # numbers, or a single word, may be a row too
        num_lines += num_blank + header
    parse_stats.num_before += num_lines
    parse_stats.num_lines += num_lines
    return text, names


def clean(text: bytes, dialect: Dialect, header: bytes | None, width: int) -> tuple[bytes, list[RemovedLine]]:
    """The text with blank lines in place of comments and repeated headers (of concatenated files), and with
    replacement characters for bytes that are not UTF-8; and these lines.
    """
    mark = (dialect.comment or "").encode()
    has_comments = bool(mark) and (text.startswith(mark) or b"\n" + mark in text or b"\r" + mark in text)
    has_headers = header is not None and header in text
    is_utf8 = is_text(text)
    if not has_comments and not has_headers and is_utf8:
        return text, []
    parts: list[bytes] = []
    removed: list[RemovedLine] = []
    for index, match in enumerate(LINE.finditer(text)):
        line = match[0]
        is_header = has_headers and line.rstrip(b"\r\n") == header
        is_comment = (
            has_comments and line.startswith(mark) and (is_header or not is_row(line, dialect, width))
        )
        if is_comment or is_header:
            reason = "" if is_comment else "it repeats the header"
            removed.append(RemovedLine(index, reason, line.decode(errors="replace").strip()))
            line = emptied(line)
        elif not is_utf8 and not is_text(line):
            removed.append(RemovedLine(index, NOT_TEXT, ""))
            line = line.decode(errors="replace").encode()
        parts.append(line)
    return b"".join(parts), removed


def is_row(line: bytes, dialect: Dialect, width: int) -> bool:
    """Whether a line that begins like a comment has the fields of a row: no host can hide a row so."""
    if dialect.hides_rows or width < 2 or line.count(dialect.delimiter.encode()) < width - 1:
        return False
    return [len(row.cells) for row in dialect.grammar.split(line.decode(errors="replace"))] == [width]


def emptied(text: bytes) -> bytes:
    """As many empty lines, with line ends that cannot merge with those before or after them."""
    return b"\r\n" * count_lines(text)


def is_text(text: bytes) -> bool:
    """Whether the bytes are UTF-8."""
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def count_removed(removed: Sequence[RemovedLine], parse_stats: ParseStats) -> None:
    """Count removed lines, and those with replacement characters."""
    for line in removed:
        if line.reason == NOT_TEXT:
            parse_stats.num_not_text += 1
        elif line.reason:
            parse_stats.reject(parse_stats.num_lines + line.line_index + 1, line.reason, line.text)
        else:
            parse_stats.num_comments += 1
    parse_stats.num_emptied += sum(line.reason != NOT_TEXT for line in removed)


def without_broken(
    text: bytes, broken: Sequence[tuple[int, int]], dialect: Dialect, parse_stats: ParseStats
) -> bytes:
    """The text with blank lines in place of rows with broken quotes."""
    parts: list[bytes] = []
    position, line = 0, parse_stats.num_lines + 1
    for start, stop in broken:
        line += count_lines(text[position:start])
        num_lines = count_lines(text[start:stop])
        reason = f"a quote ({dialect.quote}) is opened and not closed at the end of a field"
        parse_stats.reject(line, reason, text[start:stop].decode().strip(), num_lines)
        parse_stats.num_emptied += num_lines
        line += num_lines
        parts += [text[position:start], emptied(text[start:stop])]
        position = stop
    return b"".join([*parts, text[position:]]) if broken else text


def parse_text(text: bytes, dialect: Dialect, names: Sequence[str], parse_stats: ParseStats) -> pa.Table:
    """The rows of a block of text; rows with another number of fields are rejected."""
    odd: list[arrow_csv.InvalidRow] = []

    def note(row: arrow_csv.InvalidRow) -> Literal["skip", "error"]:
        odd.append(row)
        return "skip"

    # Without a quote in the block, Arrow need not look for line breaks inside values, which takes half its
    # time.
    has_quotes = dialect.quote is not None and dialect.quote.encode() in text
    columns = [
        f"{position}" for position in range(len(names))
    ]  # names may be duplicates or reserved by Arrow
    table = arrow_csv.read_csv(
        cast(IO[bytes], pa.BufferReader(text)),
        read_options=arrow_csv.ReadOptions(column_names=columns, block_size=len(text) + 1),
        parse_options=arrow_csv.ParseOptions(
            delimiter="\t" if dialect.delimiter == " " else dialect.delimiter,
            quote_char=(dialect.quote or False) if has_quotes else False,
            double_quote=has_quotes,
            escape_char=dialect.escape or False,
            newlines_in_values=has_quotes,
            invalid_row_handler=note,
        ),
        convert_options=as_texts(columns),
    )
    if table.num_rows:
        parse_stats.go_on()
    parse_stats.num_rows += table.num_rows
    if has_quotes:
        parse_stats.num_quoted += count_quoted(table, dialect)
    starts = note_odd([(row.text, row.actual_columns) for row in odd], text, dialect, len(names), parse_stats)
    if parse_stats.finds_lines:
        parse_stats.row_lines = row_lines(text, dialect.grammar, starts, parse_stats.num_lines + 1)
    return table.rename_columns(list(names))


def count_quoted(table: pa.Table, dialect: Dialect) -> int:
    """Number of values with a delimiter, a quote or a line break."""
    marks = re.escape(f"{dialect.delimiter}{dialect.quote}\r\n")
    total = 0
    for column in table.columns:
        chunk = cast(pa.DictionaryArray, column.combine_chunks())
        needs_quotes = pc.match_substring_regex(chunk.dictionary, f"[{marks}]").to_numpy(zero_copy_only=False)
        if needs_quotes.any():
            total += int(needs_quotes[chunk.indices.to_numpy()].sum())
    return total


def note_odd(
    odd: Sequence[tuple[str, int]], text: bytes, dialect: Dialect, width: int, parse_stats: ParseStats
) -> list[int]:
    """Count rows with another number of fields as blank, footer or rejected rows; returns where they
    begin."""
    starts = row_starts([row.encode() for row, _ in odd], text, dialect.grammar) if odd else []
    footer_from = footer_start(odd, starts, text, width) if dialect.footer_lines is None else len(odd)
    at, line = 0, parse_stats.num_lines + 1
    for index, ((row, num_fields), start) in enumerate(zip(odd, starts, strict=True)):
        line += count_lines(text[at:start])
        at = start
        reason = f"expected {width} fields, found {num_fields}"
        if not row.strip():
            parse_stats.num_blank += 1
        elif index >= footer_from:
            parse_stats.add_footer(line, reason, row)
        else:
            num_lines = count_lines(row.encode())
            parse_stats.go_on()
            parse_stats.reject(line, reason, row, num_lines)
    return starts


def row_starts(rows: Sequence[bytes], text: bytes, grammar: Grammar) -> list[int]:
    """Start of each of these rows of the text, which are in text order; lines inside quoted fields are not
    rows."""
    padded = b"\n" + text + b"\n"
    is_end = np.isin(np.frombuffer(padded, np.uint8), [LF, CR])
    is_end[1:-1] &= ~is_quoted_break(text, grammar)
    starts: list[int] = []
    position = 0
    for row in rows:
        start = padded.find(row, position)
        while start > 0 and not (is_end[start - 1] and is_end[start + len(row)]):
            start = padded.find(row, start + 1)
        starts.append(max(start - 1, position - 1, 0))
        position = starts[-1] + 1 + len(row)
    return starts


def footer_start(odd: Sequence[tuple[str, int]], starts: Sequence[int], text: bytes, width: int) -> int:
    """Index of the first of the odd rows that end the text, all with too few fields."""
    end, first = len(text.rstrip(b"\r\n")), len(odd)
    for index in reversed(range(len(odd))):
        row, num_fields = odd[index]
        stop = starts[index] + len(row.encode().rstrip(b"\r\n"))
        if row.strip() and (stop != end or num_fields >= width or count_lines(row.encode()) > 1):
            break
        first = index
        end = min(end, len(text[: starts[index]].rstrip(b"\r\n")))
    return first
