"""Items made ahead of their use, in a thread: the device never waits for the processor to make a batch ready."""

import threading
from collections.abc import Generator, Iterator
from queue import Full, Queue
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterator[Item], depth: int) -> Generator[Item]:
    """The same items, up to `depth` of them made ahead in a thread of their own (0: none).

    An error in the thread is raised here, in its place. Closing the generator ends the thread.
    """
    if depth == 0:
        yield from items
        return
    ready: Queue[Item | BaseException | None] = Queue(depth)
    is_over = threading.Event()

    def put(item: Item | BaseException | None) -> bool:
        while not is_over.is_set():
            try:
                ready.put(item, timeout=0.1)
            except Full:
                continue
            return True
        return False

    def fill() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(None)
        except BaseException as error:  # noqa: BLE001 - raised again where the items are taken
            put(error)

    worker = threading.Thread(target=fill, name="prefetch", daemon=True)
    worker.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        is_over.set()
        worker.join()
