"""On which line each row of a piece of delimited text begins."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

from wirebert.data.records import Grammar, quoted_fields

LF, CR = 10, 13


def row_lines(text: bytes, grammar: Grammar, odd: Sequence[int], first: int) -> Int64[np.ndarray, " rows"]:
    """Number of the first line of each row, where the text itself begins with line `first`.

    Args:
        text: whole rows; blank lines between them are none.
        grammar: line breaks inside its quoted fields end no row.
        odd: places in the text where rows begin that are not used.

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
    """True inside quoted fields that hold a line break."""
    is_inside = np.zeros(len(text), bool)
    quoted = quoted_fields(grammar)
    if quoted is not None and grammar.quote is not None and grammar.quote.encode() in text:
        for match in quoted.finditer(b"\n" + text):
            if b"\n" in match[0] or b"\r" in match[0]:
                is_inside[match.start() - 1 : match.end() - 1] = True
    return is_inside
