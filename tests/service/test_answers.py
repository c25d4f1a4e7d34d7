"""What a request holds is counted and given back; its answer is sent in pieces."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from wirebert.service.answers import Held, PiecewiseAnswer, busy
from wirebert.service.shares import Shares

REQUEST = Request({"type": "http", "headers": [], "client": ("192.0.2.1", 1)})


def test_what_is_held_is_given_back_once():
    held_bytes, places = Shares(100), Shares(4)
    held = Held(held_bytes, places, REQUEST)
    assert held.wait_in_queue()
    assert held.take(20)
    held.hold_answer(10)
    assert (held_bytes.taken, places.taken) == (10, 0)
    held.give_back()
    held.give_back()
    assert (held_bytes.taken, places.taken) == (0, 0)


def test_an_answer_for_which_there_is_no_memory_is_refused():
    held = Held(Shares(100), Shares(4), REQUEST)
    with pytest.raises(HTTPException) as caught:
        held.hold_answer(1000)
    assert caught.value.status_code == 503


@pytest.mark.usefixtures("loop_of_its_own")
def test_an_answer_comes_in_pieces_and_then_is_ended():
    sent: list[MutableMapping[str, Any]] = []
    ended: list[bool] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {}

    body = bytes(range(256)) * 600
    asyncio.run(PiecewiseAnswer(body, lambda: ended.append(True))({}, receive, send))
    assert b"".join(message.get("body", b"") for message in sent) == body
    assert len(sent) > 4
    assert ended == [True]


def test_who_comes_too_early_is_told_when_to_come_again():
    assert busy("full").headers == {"retry-after": "1"}
    assert busy("full").detail == "full; retry later"
