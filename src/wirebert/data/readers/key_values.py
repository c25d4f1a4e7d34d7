"""Key-value lines (`protocol_type:tcp, service=http, src_bytes:181`) -> blocks of text columns."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import operator
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from wirebert.data.accounting import ParseStats
from wirebert.data.dialect import Dialect
from wirebert.data.readers.json_values import MAX_CELLS, MAX_FIELDS
from wirebert.data.readers.lines import as_texts, line_blocks
from wirebert.errors import DataError
from wirebert.shapes import Bool, Int32, Int64

KEY = r"[A-Za-z_][\w.\-]*"
MARKED_KEY = re.compile(rf"(?<![\w.\-])({KEY}+)[ \t]*+[:=]")  # a long word is looked at once
PAIR = rf"^[ \t]*(?P<key>{KEY})[ \t]*[:=][ \t]*(?P<value>.*?)[ \t]*$"
MIN_ALIKE = 20
"""From this many lines with equally many separators on, splitting them at once is faster."""
MAX_PAIRS = 1_000
SEPARATORS = {",": r"[ \t]*,[ \t]*", ";": r"[ \t]*;[ \t]*", " ": r"[ \t]+"}


@cache
def pair_pattern(separator: str) -> re.Pattern[str]:
    """A pattern for one line end, one `key:value`, or anything else.

    It is the domain pattern `[\\w\\-]+|[:=]|.+?(?=,|$)` with key, mark and value in one match, and two
    additions: a value may be quoted, and a separator inside a value ends it only if a key and a mark follow.
    """
    gap = SEPARATORS[separator]
    stop = re.escape(separator) if separator != " " else r" \t"
    quoted = r'"((?:[^"\\\n]|\\.)*)"(?=[ \t]*(?:[' + stop + r"\n]|$))"
    bare = rf"([^{stop}\n]*(?:[{stop}](?![ \t]*(?:{KEY}[ \t]*[:=]|\n|$))[^{stop}\n]*)*)"
    # A separator at the end of a line belongs to nothing.
    return re.compile(rf"(\n)|(?:{gap})?({KEY})[ \t]*[:=][ \t]*(?:{quoted}|{bare})|([^\s{stop}][^\n]*)")


def find_separator(lines: Sequence[str]) -> str:
    """The separator of the pairs: the candidate most often followed by a key; comma before semicolon before
    space.

    >>> find_separator(["proto=tcp; host=a, b"]), find_separator(["proto=tcp service=http"])
    (';', ' ')
    """
    text = "\n".join(lines[:200])
    counts = {
        separator: len(re.findall(rf"{gap}{KEY}[ \t]*[:=]", text)) for separator, gap in SEPARATORS.items()
    }
    counts[" "] = len(re.findall(rf"(?<![,;\s])[ \t]+{KEY}[ \t]*[:=]", text))
    return max(counts, key=lambda separator: counts[separator])


def parse_key_values(
    lines: Sequence[str], *, where: str = "", first_row: int = 1, separator: str | None = None
) -> pa.Table:
    """One row per line, one text column per key, in the order in which keys first occur.

    A key that is absent in a line is null there. A value may be in double quotes. A line break inside a line
    counts as a space. An empty line is a row without values.

    Raises:
        DataError: a line has something other than pairs, or one key twice.

    >>> parse_key_values(["protocol_type:tcp, service=http", "service = dns"]).to_pydict()
    {'protocol_type': ['tcp', None], 'service': ['http', 'dns']}
    >>> # No key follows the comma, so it is part of the value.
    >>> parse_key_values(["protocol_type:tcp, service"])["protocol_type"].to_pylist()
    ['tcp, service']
    >>> parse_key_values(["GET /index.html"])
    Traceback (most recent call last):
    wirebert.errors.DataError: row 1: expected key:value or key=value, found 'GET /index.html'
    """
    table, odd = _parse(lines, separator or find_separator(lines))
    prefix = f"{where}, row" if where else "row"
    for index, reason in sorted(odd.items()):
        raise DataError(f"{prefix} {first_row + index}: {reason}")
    return table


def read_key_values(
    path: Path, dialect: Dialect, block_bytes: int, *, where: str = "", parse_stats: ParseStats | None = None
) -> Iterator[pa.Table]:
    """Blocks of rows in file order; a block has the columns whose keys occur in it.

    Blank lines are skipped. A line with something other than pairs, or with one key twice, or that is longer
    than eight blocks, is rejected and counted in `parse_stats`.
    """
    parse_stats = ParseStats() if parse_stats is None else parse_stats
    separator: str | None = None
    known: set[str] = set()
    for block in line_blocks(
        path, dialect.compression, block_bytes, where or str(path), parse_stats, dialect.encoding
    ):
        text = parse_stats.as_utf8(block).decode().replace("\r\n", "\n").replace("\r", "\n")
        lines = text.removesuffix("\n").split("\n")
        filled = [index for index, line in enumerate(lines) if line.strip()]
        first_line = parse_stats.num_lines + 1
        parse_stats.num_lines += len(lines)
        parse_stats.num_blank += len(lines) - len(filled)
        separator = separator or find_separator([lines[index] for index in filled])
        keys = set(MARKED_KEY.findall(text))
        if len(known | keys) > MAX_FIELDS:
            filled = list(_of_known_keys(lines, filled, known, first_line, parse_stats))
        known |= keys if len(known | keys) <= MAX_FIELDS else set()
        step = MAX_CELLS // (len(keys & known) + 1)
        for indices in (filled[start : start + step] for start in range(0, len(filled) or 1, step)):
            table, odd = _parse([lines[index] for index in indices], separator)
            for index, reason in sorted(odd.items()):
                parse_stats.reject(first_line + indices[index], reason, lines[indices[index]])
            is_good = np.ones(len(indices), bool)
            is_good[list(odd)] = False
            if parse_stats.finds_lines:
                parse_stats.row_lines = first_line + np.array(indices, np.int64)[is_good]
            if odd and table.num_columns:  # a block of odd lines only has no columns
                table = table.filter(pa.array(is_good))
            parse_stats.num_rows += table.num_rows
            yield table


def _of_known_keys(
    lines: Sequence[str], indices: Sequence[int], known: set[str], first_line: int, parse_stats: ParseStats
) -> Iterator[int]:
    """Those lines whose keys do not make the known ones too many; their keys are known then."""
    for index in indices:
        both = known.union(MARKED_KEY.findall(lines[index]))
        if len(both) > MAX_FIELDS:
            reason = f"with it there would be more than {MAX_FIELDS:,} different keys"
            parse_stats.reject(first_line + index, reason, lines[index])
        else:
            known |= both
            yield index


def read_keys(path: Path, dialect: Dialect, block_bytes: int, *, where: str = "") -> tuple[str, ...]:
    """All keys of a file, in the order in which they first occur."""
    keys: dict[str, None] = {}
    for block in read_key_values(path, dialect, block_bytes, where=where):
        keys.update(dict.fromkeys(block.column_names))
    return tuple(keys)


def _parse(lines: Sequence[str], separator: str) -> tuple[pa.Table, dict[int, str]]:
    """The rows, and the errors of some of them (the content of these rows is undefined).

    Lines with equally many separators are split at once, and keys are parsed from the distinct pieces. Lines
    with other pieces than pairs (a value contains a separator or quotes) are matched one by one.
    """
    lines = [
        line.replace("\n", " ").replace("\r", " ") if "\n" in line or "\r" in line else line for line in lines
    ]
    num_separators = np.fromiter(map(operator.methodcaller("count", separator), lines), np.int64, len(lines))
    columns = _Columns(len(lines))
    rest: list[int] = []
    for count in np.unique(num_separators).tolist():
        rows = np.flatnonzero(num_separators == count)
        if len(rows) < MIN_ALIKE or count > MAX_PAIRS:
            rest += rows.tolist()
        else:
            rest += _parse_alike([lines[row] for row in rows.tolist()], rows, count + 1, separator, columns)
    rest.sort()
    odd = _match_each([lines[row] for row in rest], rest, separator, columns)
    return columns.table(), {**columns.repeated, **odd}


class _Columns:
    """Values by key, collected from groups of rows."""

    def __init__(self, num_rows: int) -> None:
        self.num_rows = num_rows
        self.parts: dict[str, list[tuple[Int64[np.ndarray, " some"], pa.DictionaryArray]]] = {}
        self.first: dict[str, tuple[int, int]] = {}  # row and position of the first occurrence of a key
        self.repeated: dict[int, str] = {}

    def add(
        self, key: str, position: int, rows: Int64[np.ndarray, " some"], values: pa.DictionaryArray
    ) -> None:
        if len(rows):
            self.parts.setdefault(key, []).append((rows, values))
            self.first[key] = min(self.first.get(key, (self.num_rows, 0)), (int(rows.min()), position))

    def table(self) -> pa.Table:
        keys = sorted(self.parts, key=lambda key: self.first[key])
        return pa.table({key: self._column(key) for key in keys})

    def _column(self, key: str) -> pa.Array:
        parts = self.parts[key]
        if len(parts) == 1 and np.array_equal(parts[0][0], np.arange(self.num_rows)):
            return parts[0][1]  # every line has it, at the same position
        position = np.full(self.num_rows, -1)
        start = 0
        for rows, _ in parts:
            for row in rows[position[rows] >= 0].tolist() + rows[:-1][np.diff(rows) == 0].tolist():
                self.repeated.setdefault(
                    row, f"expected each key once, found {key!r} twice; rename or remove one"
                )
            position[rows] = np.arange(start, start + len(rows))
            start += len(rows)
        chunks = pa.chunked_array([values for _, values in parts]).unify_dictionaries().chunks
        return pa.concat_arrays(chunks).take(pa.array(position, pa.int64(), mask=position < 0))


def _parse_alike(
    lines: list[str], rows: Int64[np.ndarray, " lines"], width: int, separator: str, columns: _Columns
) -> list[int]:
    """Add the pairs of lines with `width` pieces; returns the rows that must be matched one by one."""
    names = [str(position) for position in range(width)]
    table = arrow_csv.read_csv(
        cast(IO[bytes], pa.BufferReader("\n".join(lines).encode())),
        read_options=arrow_csv.ReadOptions(
            column_names=names, block_size=sum(map(len, lines)) * 4 + len(lines) + 1
        ),
        parse_options=arrow_csv.ParseOptions(delimiter=separator, quote_char=False, ignore_empty_lines=False),
        convert_options=as_texts(names),
    )
    pieces = [_Pieces.of(cast(pa.DictionaryArray, table[name].combine_chunks())) for name in names]
    is_odd = np.zeros(len(lines), bool)
    for piece in pieces:
        is_odd |= piece.is_odd[piece.codes]
    for position, piece in enumerate(pieces):
        for code, key in enumerate(piece.keys.dictionary.to_pylist()):
            # One key at one position in every line is the usual case, and costs nothing per row.
            chosen = ~is_odd
            if len(piece.keys.dictionary) > 1:
                chosen &= (piece.keys.indices.to_numpy() == code)[piece.codes]
            codes = pa.array(piece.codes if chosen.all() else piece.codes[chosen], pa.int32())
            columns.add(str(key), position, rows[chosen], pa.DictionaryArray.from_arrays(codes, piece.values))
    return rows[is_odd].tolist()


class _Pieces(NamedTuple):
    """The distinct pieces at one position, split into keys and values."""

    codes: Int32[np.ndarray, " rows"]
    keys: pa.DictionaryArray
    values: pa.Array
    is_odd: Bool[np.ndarray, " distinct"]
    """Not a pair, or a value with quotes."""

    @classmethod
    def of(cls, column: pa.DictionaryArray) -> "_Pieces":
        texts = column.dictionary
        codes = column.indices.to_numpy()
        matches = pc.extract_regex(texts, PAIR)
        is_pair = pc.is_valid(matches)
        has_quotes = pc.match_substring(texts, '"')
        is_odd = pc.or_(pc.invert(is_pair), has_quotes).to_numpy(zero_copy_only=False)
        keys = _texts(matches, "key").dictionary_encode()
        return cls(codes, keys, _texts(matches, "value"), is_odd)


def _texts(matches: pa.Array, name: str) -> pa.Array:
    """A group of a pattern's matches; empty where nothing matched."""
    return cast(pa.Array, pc.struct_field(matches, name)).fill_null("")


def _match_each(lines: list[str], rows: list[int], separator: str, columns: _Columns) -> dict[int, str]:
    """Add the pairs of any lines; returns the errors of some of them."""
    if not lines:
        return {}
    matches = pair_pattern(separator).findall("\n".join(lines))
    odd: dict[int, str] = {}
    ends, keys, quoted, bare, junk = zip(*matches, strict=True) if matches else ((), (), (), (), ())
    line_of = np.cumsum(np.array(ends, dtype=object) == "\n") if matches else np.empty(0, np.int64)
    for index in (index for index, text in enumerate(junk) if text):
        row = rows[int(line_of[index])]
        odd.setdefault(row, f"expected key:value or key=value, found {junk[index][:80]!r}")
    encoded = pa.array(keys, pa.string()).dictionary_encode()
    values = np.array(
        [a.replace('\\"', '"') if a else b.strip() for a, b in zip(quoted, bare, strict=True)], dtype=object
    )
    codes = encoded.indices.to_numpy()
    row_of = np.array(rows, np.int64)
    for code, key in enumerate(encoded.dictionary.to_pylist()):
        chosen = np.flatnonzero(codes == code) if key else np.empty(0, np.int64)
        column = pa.array(values[chosen], pa.string()).dictionary_encode()
        columns.add(str(key), code, row_of[line_of[chosen]], column)
    return odd
