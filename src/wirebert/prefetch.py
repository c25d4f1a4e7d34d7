"""The next items are made while this one is used: stages of a stream that overlap."""

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(items: Iterator[Item], depth: int = 1) -> Generator[Item]:
    """The items in order, each made by a thread while those before are used; up to `depth` wait (0: no thread).

    NumPy, Arrow, PyTorch and ONNX Runtime compute without holding up other threads, so stages wrapped in this run side by
    side. What making an item raises is raised where that item would have come. Closing the generator ends the thread.
    """
    if depth == 0:
        yield from items
        return
    end = object()
    thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    try:
        coming = deque(thread.submit(next, items, end) for _ in range(depth))
        while (item := coming.popleft().result()) is not end:
            coming.append(thread.submit(next, items, end))
            yield item  # pyright: ignore[reportReturnType]  # `end` has ended the loop
    finally:
        thread.shutdown(cancel_futures=True)
