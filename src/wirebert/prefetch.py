"""Prefetching iterator: the next items are computed while the current one is used."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


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
