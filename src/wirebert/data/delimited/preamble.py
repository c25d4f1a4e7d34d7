"""Column names above a table without a header: ARFF's attributes, and lines such as `#Fields: date time`."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from wirebert.errors import DataError

ATTRIBUTE = re.compile(r"@attribute\s+(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(\S+))", re.IGNORECASE)
FIELDS = re.compile(r"[#%/;]+\s*(?:fields|columns|names)\s*[:=]\s*(.+)", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Arff:
    """The preamble of an ARFF file."""

    names: tuple[str, ...]
    skip_lines: int
    """Lines up to `@data`, with it."""
    quote: str


def read_arff(lines: Sequence[str], where: str) -> Arff | None:
    """The preamble of an ARFF file that begins with these lines; None for another file.

    Raises:
        DataError: `@data` is not among the lines, or the rows are sparse.

    >>> read_arff(["@relation r\\n", "@attribute 'a b' real\\n", "@data\\n", "1\\n"], "f").names
    ('a b',)
    """
    first = next((line for line in lines if line.strip() and not line.startswith("%")), "")
    if not first.lower().startswith("@relation"):
        return None
    at = next((index for index, line in enumerate(lines) if line.strip().lower().startswith("@data")), None)
    if at is None:
        raise DataError(
            f"{where}: expected a line @data at the head of the ARFF file, found none; restore it"
        )
    matches = [ATTRIBUTE.match(line.strip()) for line in lines[:at]]
    names = tuple(next(filter(None, match.groups()), "") for match in matches if match)
    below = [line.strip() for line in lines[at + 1 :] if line.strip() and not line.startswith("%")]
    if below and below[0].startswith("{"):
        raise DataError(
            f"{where}: expected rows of {len(names)} values, found sparse ARFF; write it with all values "
            "(Weka's filter SparseToNonSparse)"
        )
    text = "".join(below)
    return Arff(names=names, skip_lines=at + 1, quote='"' if '"' in text and "'" not in text else "'")


def names_above(lines: Sequence[str], width: int, delimiter: str) -> tuple[str, ...] | None:
    """The names in a comment `#Fields: ...` if there are `width` of them.

    >>> names_above(["#Version: 1.0\\n", "#Fields: date time\\n"], 2, "\\t")
    ('date', 'time')
    """
    for line in lines:
        match = FIELDS.match(line.strip())
        for names in (match[1].split(delimiter), match[1].split()) if match else ():
            if len(names) == width > 1:
                return tuple(name.strip() for name in names)
    return None
