"""Generated texts, column by column: pieces from pools, joined, encoded and obfuscated."""

# The pyarrow stubs lack type arguments, and know neither text literals nor boolean arrays as arguments.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false, reportIndexIssue=false, reportAttributeAccessIssue=false

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.arrow_columns import combine_chunks
from wirebert.shapes import Bool, UInt8

TextGrammar = Callable[[np.random.Generator, int], pa.Array]
"""Makes a number of texts of one form."""

# Percent-encoding of a client; the percent sign first, so that nothing is encoded twice by mistake.
_ESCAPES = {c: f"%{ord(c):02X}" for c in "%\"'<>()*;=,#`{}|:+"}
_RAW_ESCAPES = {"#": "%23", " ": "%20"}


def pick(generator: np.random.Generator, pool: Sequence[str], count: int) -> pa.Array:
    """One text of the pool for each row."""
    return pa.array(pool, pa.string()).take(pa.array(generator.integers(0, len(pool), count)))


def number(generator: np.random.Generator, count: int, low: int, high: int) -> pa.Array:
    """Whole numbers from `low` to `high`, as text."""
    return pa.array(generator.integers(low, high + 1, count)).cast(pa.string())


def hexadecimal(generator: np.random.Generator, count: int) -> pa.Array:
    """Eight hexadecimal digits for each row."""
    return of_letters(np.frombuffer(b"0123456789abcdef", np.uint8)[generator.integers(0, 16, (count, 8))])


def of_letters(letters: UInt8[np.ndarray, "texts letters"]) -> pa.Array:
    """Texts of equal length from their bytes."""
    count, width = letters.shape
    offsets = np.arange(0, width * count + 1, width, dtype=np.int32)
    return pa.StringArray.from_buffers(
        count, pa.py_buffer(offsets.tobytes()), pa.py_buffer(letters.tobytes())
    )


def joined_lines(fields: Sequence[pa.Array | pa.ChunkedArray], mark: str) -> bytes:
    """Lines of fields with a mark between them, as the text of a whole table."""
    lines = combine_chunks(pc.binary_join_element_wise(*fields, mark))
    joined = pc.binary_join(pa.ListArray.from_arrays([0, len(lines)], lines), "\n")
    return joined[0].as_buffer().to_pybytes() + b"\n"


def join(*parts: pa.Array | str) -> pa.Array:
    """The parts of each row, one after the other; a plain string is the same part in every row."""
    scalars = [_scalar(part) if isinstance(part, str) else part for part in (*parts, "")]
    return pc.binary_join_element_wise(*scalars)


@cache
def _scalar(text: str) -> pa.StringScalar:
    # Made once: pyarrow looks for pandas each time that it makes one from a Python object.
    return pa.scalar(text, pa.string())


def either(
    generator: np.random.Generator, fraction: float | int, first: pa.Array, second: pa.Array
) -> pa.Array:
    """The first text in a fraction of the rows, the second in the others."""
    return pc.if_else(pa.array(generator.random(len(first)) < fraction), first, second)


def mixture(
    generator: np.random.Generator, count: int, grammars: Sequence[tuple[float | int, TextGrammar]]
) -> pa.Array:
    """`count` texts, each from one of the grammars, with chances in proportion to the weights."""
    weights = np.array([weight for weight, _ in grammars])
    counts = generator.multinomial(count, weights / weights.sum())
    parts = [grammar(generator, int(n)) for n, (_, grammar) in zip(counts, grammars, strict=True)]
    return pa.concat_arrays(parts).take(pa.array(generator.permutation(count)))


def encoded(
    generator: np.random.Generator, values: pa.Array, *, raw: float | int, twice: float | int
) -> pa.Array:
    """Values in a query: percent-encoded, some encoded `twice`, some almost `raw` as from sloppy clients."""
    drawn = generator.random(len(values))
    spaces = pc.if_else(pa.array(generator.random(len(values)) < 0.5), "+", "%20")
    full = _replaced(values, _ESCAPES)
    # A space becomes + or %20, the same in the whole value: split at spaces, joined with the row's mark.
    full = pc.binary_join(pc.split_pattern(full, " "), spaces)
    again = pc.replace_substring(full, "%", "%25")
    sloppy = _replaced(values, _RAW_ESCAPES)
    return pc.if_else(pa.array(drawn < raw), sloppy, pc.if_else(pa.array(drawn > 1 - twice), again, full))


def _replaced(values: pa.Array, escapes: dict[str, str]) -> pa.Array:
    for character, escape in escapes.items():
        values = pc.replace_substring(values, character, escape)
    return pc.replace_substring(values, "\t", "%09")


def mixed_case(
    generator: np.random.Generator, texts: pa.Array, chosen: Bool[np.ndarray, " texts"]
) -> pa.Array:
    """Texts with random case of every letter where `chosen`: `uNIoN SElEct`."""
    joined = pa.concat_arrays([texts])
    _, offset_bytes, data = joined.buffers()
    if not len(joined) or data is None or offset_bytes is None:
        return texts
    offsets = np.frombuffer(memoryview(offset_bytes), np.int32)[
        joined.offset : joined.offset + len(joined) + 1
    ]
    content = np.frombuffer(memoryview(data), np.uint8)[offsets[0] : offsets[-1]].copy()
    is_letter = ((content | 0x20) >= ord("a")) & ((content | 0x20) <= ord("z"))
    flips = is_letter & np.repeat(chosen, np.diff(offsets)) & (generator.random(len(content)) < 0.5)
    content[flips] ^= 0x20
    bounds = (offsets - offsets[0]).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(joined), pa.py_buffer(bounds.tobytes()), pa.py_buffer(content.tobytes())
    )
