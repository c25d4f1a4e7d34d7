"""Prefetching iterator: the next items are computed while the current one is used."""

import sys
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

Item = TypeVar("Item")

TURN_S: Final = 0.0005
"""Turn of a thread beside a GPU: in Python's own of 5 ms, preparing a batch would hold up two steps."""


def prefetch(items: Iterator[Item], depth: int = 1) -> Generator[Item]:
    """The items in order, computed by a thread up to `depth` items ahead (0: without a thread).

    NumPy, Arrow, PyTorch and ONNX Runtime release the GIL, so stages that are wrapped in this run in
    parallel. An exception of the iterator is raised in place of its item. Closing the generator ends the
    thread.
    """
    if depth == 0:
        yield from items
        return
    end = object()
    thread = ThreadPoolExecutor(1, thread_name_prefix="prefetch")
    try:
        pending = deque(thread.submit(next, items, end) for _ in range(depth))
        while (item := pending.popleft().result()) is not end:
            pending.append(thread.submit(next, items, end))
            yield item  # pyright: ignore[reportReturnType]  # `end` ends the loop
    finally:
        thread.shutdown(cancel_futures=True)


@contextmanager
def short_turns() -> Generator[None]:
    """Let Python's threads take turns that are short beside a GPU's step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(TURN_S)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
