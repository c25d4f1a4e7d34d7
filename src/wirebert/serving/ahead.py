"""The next item is made while this one is used: stages of a stream that overlap, each one item ahead."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """The items in order, each made by a thread while the one before is used.

    NumPy, Arrow, PyTorch and ONNX Runtime compute without holding up other threads, so stages wrapped in this run side by
    side. Two items are held at a time. What making an item raises is raised where that item would have come.
    """
    end = object()
    with ThreadPoolExecutor(1, thread_name_prefix="wirebert-ahead") as pool:
        coming = pool.submit(next, items, end)
        while (item := coming.result()) is not end:
            coming = pool.submit(next, items, end)
            yield item  # pyright: ignore[reportReturnType]  # `end` has ended the loop
