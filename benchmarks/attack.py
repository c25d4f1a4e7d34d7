"""How long other clients wait while the service is attacked, how fast a log is followed, and what memory both take.

    python benchmarks/attack.py MODEL [--seconds 20] [--flows 40000] [--only service|follower] [--out result.json]

Phases of the service: no attack; eight clients that announce 8 MB and send nothing; twenty that never read answers of 4 MB;
the same twenty, who do read; one that sends bodies of which every twentieth line is damaged. In each, one client asks for
the verdict of one flow every 50 ms on a connection of its own; its waits count. All share the machine, and 127.0.0.1.

The follower reads a log of JSON lines that is written while it runs: as it should be, and with every twentieth line
poisoned (invalid UTF-8, deep structures, text for numbers, 3,000 fields, no JSON, and every 4,000th line of 9 MB). The
flows that remain must have their verdicts, and the lines without one must be told.
"""

import argparse
import asyncio
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import records
from harness import write_figures
from serve import Connection, Phase, start_service

from wirebert.inference.detector import Detector

QUIET_S = 15.0
"""Seconds without a new line after which a follower is taken to have read all."""
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


def answered(port: int, row: bytes, stop: threading.Event) -> None:
    """Twenty clients that ask for 5,000 verdicts each, once, and read them."""
    unread(port, row, stop, reads=True)


def unread(port: int, row: bytes, stop: threading.Event, *, reads: bool = False) -> None:
    """Twenty clients that ask for 5,000 verdicts each and never read them."""
    body = b'{"flows":[' + b",".join([row] * 5_000) + b"]}"
    clients: list[socket.socket] = []
    for _ in range(20):
        client = socket.socket()
        if not reads:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", port))
        data = request("application/json", body)
        threading.Thread(target=send, args=(client, data, reads), daemon=True).start()
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


def send(client: socket.socket, data: bytes, reads: bool) -> None:
    """Send a request, and read the answer if it is wanted."""
    try:
        client.sendall(data)
        while reads and client.recv(1 << 20):
            pass
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


def poison(row: bytes, number: int) -> bytes:
    """A line that is no flow as it should be."""
    if number % 200 == 0:
        return b'{"x":"' + b"A" * (9 << 20) + b'"}\n'
    kinds = (
        row.replace(b'"http"', b'"\xff\xfe"'),
        b'{"a":' + b"[" * 5_000 + b"\n",
        row.replace(b": 7", b': "many"'),
        b"{" + b",".join(b'"k%d":1' % index for index in range(3_000)) + b"}",
        b"garbage",
    )
    return kinds[number % len(kinds)].rstrip(b"\n") + b"\n"


def lines_of(rows: list[bytes], num_lines: int, every: int) -> Iterator[bytes]:
    """Lines of a log, each `every`-th of them poisoned; 0: none."""
    for number in range(num_lines):
        row = rows[number % len(rows)]
        yield poison(row, number // every) if every and number % every == every - 1 else row


def follows(model: Path, folder: Path, rows: list[bytes], num_lines: int, every: int) -> dict[str, object]:
    """Flows per second and peak memory of a follower, and what became of each line."""
    log, out = folder / f"{every}.jsonl", folder / f"{every}.verdicts.jsonl"
    log.write_bytes(b"".join(rows))
    command = [sys.executable, "-m", "wirebert", "monitor", str(model), str(log), "--to", str(out)]
    with (folder / "told").open("wb") as told, subprocess.Popen(command, stderr=told) as process:
        follower, peak = psutil.Process(process.pid), 0
        while count(out) < len(rows):
            time.sleep(0.1)
        begin = time.perf_counter()
        with log.open("ab") as file:
            file.writelines(lines_of(rows, num_lines, every))
        num_rejected = last = 0
        quiet_since = time.perf_counter()
        while time.perf_counter() - quiet_since < QUIET_S:
            time.sleep(0.1)
            peak = max(peak, follower.memory_info().rss)
            num_rejected = count(out.with_name(out.name + ".state") / "rejected.jsonl")
            if (done := count(out) + num_rejected) > last:
                last, quiet_since = done, time.perf_counter()
        took = quiet_since - begin
        process.send_signal(signal.SIGTERM)
    flows = count(out) - len(rows)
    return {
        "poisoned": 1 / every if every else 0.0,
        "lines": num_lines,
        "verdicts": flows,
        "set_aside": num_rejected,
        "flows_per_s": round(flows / took),
        "peak_mb": peak >> 20,
        "exit": process.returncode,
    }


def count(path: Path) -> int:
    """Lines of a file."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def serves(model: Path, folder: Path, row: bytes, seconds: float) -> list[dict[str, object]]:
    """The waits of a client, and the memory of the service, under each attack."""
    told: list[dict[str, object]] = []
    process, port = start_service(model, folder)
    service = psutil.Process(process.pid)
    try:
        asyncio.run(asks(port, row, "warm", 2))
        for name in ("none", *ATTACKS):
            stop = threading.Event()
            attacker = threading.Thread(target=ATTACKS.get(name, nothing), args=(port, row, stop))
            attacker.start()
            phase = asyncio.run(asks(port, row, name, seconds))
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
        told.append({"exit": process.wait(timeout=60)})
    return told


ATTACKS: dict[str, Callable[[int, bytes, threading.Event], None]] = {
    "eight silent": silent,
    "twenty never read": unread,
    "twenty read": answered,
    "5 % poisoned": poisoned,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--flows", type=int, default=40_000)
    parser.add_argument("--only", choices=["service", "follower"])
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    row = json.dumps(records.rows_of(Detector.load(options.model))[1]).encode()
    told: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory(prefix="wirebert-attack-") as folder:
        if options.only != "follower":
            told += serves(options.model, Path(folder), row, options.seconds)
        if options.only != "service":
            rows = [json.dumps(one).encode() + b"\n" for one in records.rows_of(Detector.load(options.model))]
            for every in (0, 20):
                told.append(follows(options.model, Path(folder), rows, options.flows, every))
                print(told[-1], flush=True)
    write_figures(options.out, phases=told)


if __name__ == "__main__":
    main()
