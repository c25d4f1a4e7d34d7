"""Key-value lines (`protocol_type:tcp, service=http, src_bytes:181`) -> blocks of text columns."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import io
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa

from wirebert.data.dialect import Dialect, open_bytes, reason_of
from wirebert.errors import DataError

KEY = r"[A-Za-z_][\w.\-]*"
SEPARATORS = {",": r"[ \t]*,[ \t]*", ";": r"[ \t]*;[ \t]*", " ": r"[ \t]+"}


@cache
def pair_pattern(separator: str) -> re.Pattern[str]:
    """One line end, one `key:value`, or one stretch of anything else.

    This is the domain pattern `[\\w\\-]+|[:=]|.+?(?=,|$)`, key, mark and value in one match, with two additions: a value
    may be quoted, and a separator inside a value does not end it unless a key and a mark follow.
    """
    gap = SEPARATORS[separator]
    stop = re.escape(separator) if separator != " " else r" \t"
    quoted = r'"((?:[^"\\\n]|\\.)*)"(?=[ \t]*(?:[' + stop + r"\n]|$))"
    bare = rf"([^{stop}\n]*(?:[{stop}](?![ \t]*(?:{KEY}[ \t]*[:=]|\n|$))[^{stop}\n]*)*)"
    # A separator at the end of a line belongs to nothing.
    return re.compile(rf"(\n)|(?:{gap})?({KEY})[ \t]*[:=][ \t]*(?:{quoted}|{bare})|([^\s{stop}][^\n]*)")


def find_separator(lines: Sequence[str]) -> str:
    """What stands between the pairs: the candidate after which keys follow most often; comma before semicolon before space.

    >>> find_separator(["proto=tcp; host=a, b"]), find_separator(["proto=tcp service=http"])
    (';', ' ')
    """
    text = "\n".join(lines[:1000])
    counts = {
        separator: len(re.findall(rf"{gap}{KEY}[ \t]*[:=]", text)) for separator, gap in SEPARATORS.items()
    }
    counts[" "] = len(re.findall(rf"(?<![,;\s])[ \t]+{KEY}[ \t]*[:=]", text))
    return max(counts, key=lambda separator: counts[separator])


def parse(
    lines: Sequence[str], *, where: str = "", first_row: int = 1, separator: str | None = None
) -> pa.Table:
    """One row per line, one text column per key, in the order in which keys first occur.

    A key that a line lacks is null there; a key that no line has is no column. A value may stand in double quotes. A line
    break inside a line counts as a space. An empty line is a row without values.

    Raises:
        DataError: a line holds something that is no pair, or one key twice.

    >>> parse(["protocol_type:tcp, service=http", "service = dns"]).to_pydict()
    {'protocol_type': ['tcp', None], 'service': ['http', 'dns']}
    >>> parse(["protocol_type:tcp, service"])["protocol_type"].to_pylist()  # no key follows: part of the value
    ['tcp, service']
    >>> parse(["GET /index.html"])
    Traceback (most recent call last):
    wirebert.errors.DataError: row 1: expected key:value or key=value, found 'GET /index.html'
    """
    lines = [line.replace("\n", " ") if "\n" in line else line for line in lines]
    prefix = f"{where}, row" if where else "row"
    pattern = pair_pattern(separator or find_separator(lines))
    found = pattern.findall("\n".join(lines))
    if not found:
        return pa.table({})
    ends, keys, quoted, bare, junk = zip(*found, strict=True)
    rows = np.cumsum(np.array(ends, dtype=object) == "\n")
    for index in (index for index, text in enumerate(junk) if text):
        raise DataError(
            f"{prefix} {first_row + rows[index]}: expected key:value or key=value, found {junk[index][:80]!r}"
        )
    is_pair = np.array([bool(key) for key in keys])
    encoded = pa.array(keys).dictionary_encode()
    values = np.array(
        [a.replace('\\"', '"') if a else b.strip() for a, b in zip(quoted, bare, strict=True)], dtype=object
    )
    columns: dict[str, pa.Array] = {}
    codes = encoded.indices.to_numpy()
    for code, key in enumerate(encoded.dictionary.to_pylist()):
        if key:
            chosen = np.flatnonzero((codes == code) & is_pair)
            column = np.full(len(lines), None, dtype=object)
            column[rows[chosen]] = values[chosen]
            columns[key] = pa.array(column, pa.string())
            repeated = np.flatnonzero(np.diff(rows[chosen]) == 0)
            if len(repeated):
                row = first_row + rows[chosen][repeated[0]]
                raise DataError(
                    f"{prefix} {row}: expected each key once, found {key!r} twice; rename or remove one"
                )
    return pa.table(columns)


def read(path: Path, dialect: Dialect, block_bytes: int, *, where: str = "") -> Iterator[pa.Table]:
    """Blocks of rows in file order; a block has the columns whose keys occur in it. Blank lines are left out."""
    where = where or str(path)
    separator: str | None = None
    row = 1
    with open_bytes(path, dialect.compression) as raw:
        text = io.TextIOWrapper(
            cast(BinaryIO, raw), encoding="utf-8-sig" if dialect.encoding == "utf-8" else dialect.encoding
        )
        try:
            while lines := text.readlines(block_bytes):
                filled = [line.rstrip("\r\n") for line in lines if not line.isspace()]
                separator = separator or find_separator(filled)
                yield parse(filled, where=where, first_row=row, separator=separator)
                row += len(filled)
        except (OSError, EOFError, UnicodeError) as error:
            raise DataError(
                f"{where}: the file is damaged, incomplete or not {dialect.encoding} ({reason_of(error)})"
            ) from error
