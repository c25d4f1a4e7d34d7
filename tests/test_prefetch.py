"""Items made ahead are the same items, and so are their errors."""

import sys
import threading
import time
from collections.abc import Iterator

import pytest

from wirebert.prefetch import TURN_S, prefetch, short_turns


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_items_come_in_order(depth: int):
    assert list(prefetch(iter(range(20)), depth)) == list(range(20))


@pytest.mark.parametrize("depth", [0, 2])
def test_an_error_comes_in_its_place(depth: int):
    def failing() -> Iterator[int]:
        yield 1
        raise ValueError("the third is missing")

    items = prefetch(failing(), depth)
    assert next(items) == 1
    with pytest.raises(ValueError, match="the third is missing"):
        next(items)


def test_the_next_item_is_made_while_one_is_used():
    made = threading.Event()

    def items() -> Iterator[int]:
        yield 0
        made.set()
        yield 1

    stream = prefetch(items())
    assert next(stream) == 0
    assert made.wait(10)  # nobody has asked for item 1


def test_no_more_than_the_depth_is_made_ahead():
    made: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(100):
            made.append(number)
            yield number

    items = prefetch(numbers(), 3)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) == 1 + 3  # taken, and waiting
    items.close()


def test_closing_ends_the_thread():
    items = prefetch(iter(range(100)), 2)
    assert next(items) == 0
    items.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_turns_are_short_within_the_block_only():
    before = sys.getswitchinterval()
    with short_turns():
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    assert sys.getswitchinterval() == before
