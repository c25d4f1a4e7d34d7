"""Connections with little time and few places, and an application that only answers."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from wirebert.service.connections import bounded_protocol
from wirebert.service.limits import Limits

pytestmark = pytest.mark.usefixtures("loop_of_its_own")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def served(limits: Limits, app: Any = app) -> AsyncGenerator[Callable[[], Awaitable[Streams]]]:
    config = uvicorn.Config(
        app, port=0, http=bounded_protocol(limits), lifespan="off", log_config=None, ws="none"
    )
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    port = server.servers[0].sockets[0].getsockname()[1]

    async def connect() -> Streams:
        return await asyncio.open_connection("127.0.0.1", port)

    try:
        yield connect
    finally:
        await server.shutdown()


GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


def test_a_client_that_sends_its_head_byte_by_byte_is_cut_off():
    async def run() -> float:
        async with served(Limits(head_s=0.5)) as connect:
            reader, writer = await connect()
            begin = time.perf_counter()
            closing = asyncio.create_task(reader.read())
            for byte in GET[:-1]:
                if closing.done():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.1)
            assert await closing == b""
            writer.close()
            return time.perf_counter() - begin

    assert 0.4 < asyncio.run(run()) < 2


def test_a_client_that_says_nothing_is_cut_off():
    async def run() -> None:
        async with served(Limits(head_s=0.2)) as connect:
            reader, writer = await connect()
            assert await asyncio.wait_for(reader.read(), 3) == b""
            writer.close()

    asyncio.run(run())


def test_a_connection_is_kept_for_one_request_after_the_other():
    async def run() -> None:
        async with served(Limits(head_s=0.5)) as connect:
            reader, writer = await connect()
            for _ in range(4):
                await asyncio.sleep(0.3)
                writer.write(GET)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            assert await asyncio.wait_for(reader.read(), 3) == b""
            writer.close()

    asyncio.run(run())


def test_a_body_that_comes_slowly_is_not_the_business_of_the_timer_of_heads():
    async def run() -> None:
        async with served(Limits(head_s=0.3)) as connect:
            reader, writer = await connect()
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n")
            for byte in b"abc":
                await asyncio.sleep(0.2)
                writer.write(bytes([byte]))
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(run())


def test_connections_beyond_the_limit_are_told_to_come_again():
    async def run() -> None:
        async with served(Limits(max_connections=2)) as connect:
            first, second = await connect(), await connect()
            await asyncio.sleep(0.05)
            reader, writer = await connect()
            told = (await reader.read()).decode()
            head, _, body = told.partition("\r\n\r\n")
            assert head.startswith("HTTP/1.1 503")
            assert "retry-after: 1" in head
            assert f"content-length: {len(body)}" in head
            for _, other in (first, second, (reader, writer)):
                other.close()
            await asyncio.sleep(0.05)
            reader, writer = await connect()
            writer.write(GET)
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.close()

    asyncio.run(run())


LARGE = 8 << 20


async def large_app(
    scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[Any]],
    send: Callable[[Any], Awaitable[None]],
) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]}
    )
    for _ in range(LARGE >> 16):
        await send({"type": "http.response.body", "body": b"x" * (1 << 16), "more_body": True})
    await send({"type": "http.response.body", "body": b""})


@pytest.mark.parametrize("ending", [b"", b"connection: close\r\n"])
def test_a_client_that_does_not_read_its_answer_is_cut_off(ending: bytes):
    async def run() -> int:
        async with served(Limits(write_s=0.3, head_s=0.3), large_app) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n" + ending + b"\r\n")
            reader._transport.pause_reading()  # pyright: ignore[reportAttributeAccessIssue]
            await asyncio.sleep(1.5)
            reader._transport.resume_reading()  # pyright: ignore[reportAttributeAccessIssue]
            try:
                received = len(await asyncio.wait_for(reader.read(), 3))
            except ConnectionResetError:
                received = 0
            writer.close()
            return received

    assert asyncio.run(run()) < LARGE


def test_a_client_that_reads_slowly_gets_all_of_its_answer():
    async def run() -> int:
        async with served(Limits(write_s=0.5, head_s=0.5), large_app) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            received = 0
            while piece := await reader.read(1 << 20):
                received += len(piece)
                await asyncio.sleep(0.05)
            writer.close()
            return received

    assert asyncio.run(run()) > LARGE


def test_a_head_of_two_meanings_gets_400_and_the_end():
    async def run() -> bytes:
        async with served(Limits()) as connect:
            reader, writer = await connect()
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\nx: a\r\n b\r\n\r\n" + GET)
            answer = await asyncio.wait_for(reader.read(), 3)
            writer.close()
            return answer

    answer = asyncio.run(run())
    assert answer.startswith(b"HTTP/1.1 400")
    assert answer.count(b"HTTP/1.1 ") == 1


def test_one_client_does_not_take_every_place():
    async def run() -> None:
        async with served(Limits(max_connections=8)) as connect:
            open_now = [await connect() for _ in range(8)]
            await asyncio.sleep(0.05)
            for reader, writer in open_now[:6]:
                writer.write(GET)
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            for reader, _ in open_now[6:]:
                assert (await reader.read()).startswith(b"HTTP/1.1 503")
            for _, writer in open_now:
                writer.close()

    asyncio.run(run())
