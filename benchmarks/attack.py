"""How long other clients wait while the service is attacked, and what memory it takes.

    python benchmarks/attack.py MODEL [--seconds 20] [--out result.json]

Phases: no attack; eight clients that announce 8 MB and send nothing; twenty that never read answers of 4 MB; one that sends
bodies of which every twentieth line is damaged. In each, one client asks for the verdict of one flow every 50 ms on a
connection of its own; its waits count. All share the machine, and the address 127.0.0.1.
"""

import argparse
import asyncio
import json
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import records
from harness import write_figures
from serve import Connection, Phase, start_service

from wirebert.inference.detector import Detector

HEAD = "POST /v1/score HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {}\r\ncontent-length: {}\r\n\r\n"


def nothing(*_: object) -> None:
    """No attack."""


def request(kind: str, body: bytes) -> bytes:
    """A whole request."""
    return HEAD.format(kind, len(body)).encode() + body


def silent(port: int, _: bytes, stop: threading.Event) -> None:
    """Eight clients that announce a body and send none; those cut off come again."""
    clients: list[socket.socket] = []
    while not stop.is_set():
        for client in clients:
            client.close()
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
        for client in clients:
            client.sendall(HEAD.format("application/json", 8 << 20).encode())
        stop.wait(5)


def unread(port: int, row: bytes, stop: threading.Event) -> None:
    """Twenty clients that ask for 10,000 verdicts each and never read them."""
    body = b'{"flows":[' + b",".join([row] * 5_000) + b"]}"
    clients: list[socket.socket] = []
    for _ in range(20):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        threading.Thread(target=send, args=(client, request("application/json", body)), daemon=True).start()
        clients.append(client)
    stop.wait()
    for client in clients:
        client.close()


def poisoned(port: int, row: bytes, stop: threading.Event) -> None:
    """One client whose bodies hold damaged lines, 5 % of 200, one request after the other."""
    body = b"\n".join(row[:-9] if line % 20 == 0 else row for line in range(200))
    connection = Connection(port)

    async def ask() -> None:
        while not stop.is_set():
            await connection.ask(request("application/x-ndjson", body))

    asyncio.run(ask())


def send(client: socket.socket, data: bytes) -> None:
    try:
        client.sendall(data)
    except OSError:
        return  # cut off, as it should be


async def asks(port: int, row: bytes, name: str, seconds: float) -> Phase:
    """The client whose waits count."""
    connection, phase, end = Connection(port), Phase(name), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        status = await connection.ask(request("application/json", b'{"flows":[' + row + b"]}"))
        phase.note(status, time.perf_counter() - begin)
        await asyncio.sleep(0.05)
    phase.seconds = seconds
    return phase


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    row = json.dumps(records.rows_of(Detector.load(options.model))[1]).encode()
    attacks: dict[str, Callable[[int, bytes, threading.Event], None]] = {
        "eight silent": silent,
        "twenty never read": unread,
        "5 % poisoned": poisoned,
    }
    told: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="wirebert-attack-") as folder:
        process, port = start_service(options.model, Path(folder))
        service = psutil.Process(process.pid)
        try:
            asyncio.run(asks(port, row, "warm", 2))
            for name in ("none", *attacks):
                stop = threading.Event()
                attacker = threading.Thread(target=attacks.get(name, nothing), args=(port, row, stop))
                attacker.start()
                phase = asyncio.run(asks(port, row, name, options.seconds))
                resident = service.memory_info().rss >> 20
                stop.set()
                attacker.join()
                told.append({**phase.told(), "resident_mb": resident})
                print(
                    f"{name:20} p50 {phase.percentile_ms(50):7.1f} ms  p99 {phase.percentile_ms(99):7.1f} ms  worst "
                    f"{np.max(phase.waits_s or [np.nan]) * 1000:7.1f} ms  {dict(phase.statuses)}  {resident} MB",
                    flush=True,
                )
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
    write_figures(options.out, phases=told, exit=code)


if __name__ == "__main__":
    main()
