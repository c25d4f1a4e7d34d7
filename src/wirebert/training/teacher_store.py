"""A teacher's log-probabilities for encoded flows: one memory-mapped file next to their store."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from wirebert.encoding.store import EncodedFlows, map_file
from wirebert.encoding.token_rows import JaggedRows
from wirebert.errors import DataError
from wirebert.files import atomic_file
from wirebert.shapes import Float, Float32

WINDOW: Final = 8_192
"""Flows that the teacher scores at once, which bounds the memory."""


def open_log_probs(path: Path, num_flows: int, num_classes: int) -> Float32[np.ndarray, "flows classes"]:
    """Log-probability of each class for each flow, memory-mapped.

    Raises:
        DataError: the file is missing or has another length.
    """
    return map_file(path, "<f4", num_flows * num_classes).reshape(num_flows, num_classes)


def cached_log_probs(
    path: Path,
    blocks: Iterable[JaggedRows],
    size: tuple[int, int],
    ask: Callable[[JaggedRows], Float[np.ndarray, "flows classes"]],
) -> Float32[np.ndarray, "flows classes"]:
    """The log-probabilities at `path`, computed and written atomically if they are missing.

    Args:
        blocks: All flows in order, as `windows` cuts them.
        size: Number of flows and classes.
        ask: Returns the teacher's class probabilities for some flows.
    """
    try:
        return open_log_probs(path, *size)
    except DataError:
        pass  # written below
    least = np.finfo(np.float32).tiny
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        for block in blocks:
            file.write(np.log(np.maximum(ask(block), least)).astype("<f4").tobytes())
    return open_log_probs(path, *size)


def windows(flows: EncodedFlows, size: int = WINDOW) -> Iterator[JaggedRows]:
    """All flows in order, `size` at a time."""
    for first in range(0, len(flows), size):
        offsets = np.asarray(flows.offsets[first : first + size + 1])
        ids = np.asarray(flows.ids[offsets[0] : offsets[-1]])
        yield JaggedRows(ids, offsets - offsets[0])
