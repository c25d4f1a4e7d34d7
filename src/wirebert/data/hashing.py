"""64-bit hashes of values, many at once: equal values have equal hashes, in any file and on any machine."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from wirebert.shapes import Bool, Float64, Int64, Shaped, UInt64

NULL_HASH = np.uint64(0x9AE16A3B2F90404F)
"""Hash of a missing value."""
_GOLDEN = 0x9E3779B97F4A7C15
_PIECE_BYTES = 1 << 20


def number_hashes(numbers: Float64[np.ndarray, " values"]) -> UInt64[np.ndarray, " values"]:
    """Hashes by value: 0.0 and -0.0 are equal, NaN is missing."""
    bits = (numbers + 0.0).view(np.uint64)  # adding zero turns -0.0 into 0.0
    return np.where(np.isnan(numbers), NULL_HASH, mix(bits))


def text_hashes(texts: pa.Array) -> UInt64[np.ndarray, " values"]:
    """Multilinear hash: the sum of byte times the odd random weight of its position, mixed with the
    length."""
    if not len(texts):
        return np.empty(0, np.uint64)
    _, offset_bytes, data = texts.buffers()
    assert offset_bytes is not None  # only an array without values lacks it
    offsets = np.frombuffer(memoryview(offset_bytes), np.int32)[
        texts.offset : texts.offset + len(texts) + 1
    ].astype(np.int64)
    content = np.frombuffer(memoryview(data or b""), np.uint8)
    sums = np.empty(len(texts), np.uint64)
    for start, stop in _pieces(offsets):
        sums[start:stop] = _byte_sums(content, offsets[start : stop + 1])
    hashes = mix(sums ^ mix(np.diff(offsets).view(np.uint64)))
    return np.where(_is_null(texts), NULL_HASH, hashes)


def _pieces(offsets: Int64[np.ndarray, " bounds"]) -> Iterator[tuple[int, int]]:
    """Ranges of values of about `_PIECE_BYTES` each, so that temporary arrays stay small."""
    start = 0
    while start < len(offsets) - 1:
        stop = int(np.searchsorted(offsets, offsets[start] + _PIECE_BYTES, side="right")) - 1
        stop = min(max(stop, start + 1), len(offsets) - 1)
        yield start, stop
        start = stop


def _byte_sums(
    content: Shaped[np.ndarray, " bytes"], offsets: Int64[np.ndarray, " bounds"]
) -> UInt64[np.ndarray, " values"]:
    first, last = int(offsets[0]), int(offsets[-1])
    starts, lengths = offsets[:-1] - first, np.diff(offsets)
    position = np.arange(last - first) - np.repeat(starts, lengths)
    weights = mix(np.arange(1, int(lengths.max(initial=0)) + 1, dtype=np.uint64)) | np.uint64(1)
    sums = np.zeros(last - first + 1, np.uint64)
    np.cumsum((content[first:last].astype(np.uint64) + np.uint64(1)) * weights[position], out=sums[1:])
    return sums[starts + lengths] - sums[starts]


def _is_null(texts: pa.Array) -> Bool[np.ndarray, " values"]:
    return texts.is_null().to_numpy(zero_copy_only=False)


def mix(numbers: UInt64[np.ndarray, " values"]) -> UInt64[np.ndarray, " values"]:
    """One step of splitmix64: every input bit changes every output bit with probability one half.

    Source: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, figure 16.
    """
    return finalize(numbers + np.uint64(_GOLDEN))


def finalize(numbers: UInt64[np.ndarray, " values"]) -> UInt64[np.ndarray, " values"]:
    """The finaliser of splitmix64 alone; it maps 0 to 0."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
