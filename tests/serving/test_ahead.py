from collections.abc import Iterator
from threading import Event

import pytest

from wirebert.serving.ahead import ahead


def test_items_come_in_order():
    assert list(ahead(iter(range(100)))) == list(range(100))
    assert list(ahead(iter([]))) == []


def test_the_next_item_is_made_while_one_is_used():
    made = Event()

    def items() -> Iterator[int]:
        yield 0
        made.set()
        yield 1

    stream = ahead(items())
    assert next(stream) == 0
    assert made.wait(10)  # nobody has asked for item 1


def test_an_error_comes_where_its_item_would_have():
    def items() -> Iterator[int]:
        yield 0
        raise ValueError("damaged")

    stream = ahead(items())
    assert next(stream) == 0
    with pytest.raises(ValueError, match="damaged"):
        next(stream)


def test_leaving_early_ends_the_thread():
    stream = ahead(iter(range(5)))
    assert next(stream) == 0
    stream.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    with pytest.raises(StopIteration):
        next(stream)
