"""How many requests the service answers on this machine, how long they wait, and what it does when too many come.

    python benchmarks/serve.py [--mini MODEL] [--rows 32] [--rate 200] [--seconds 20] [--requests 100000] [--out result.json]
    python benchmarks/serve.py --workers 2 [--mini MODEL] [--rows 256] [--seconds 20]    # against one, of one thread each

Uses NSL-KDD from the folder in WIREBERT_DATA (../shared/data without it); where there is none, generated traffic. A `mini` is
trained for one epoch and exported unless a model is given. The service runs in a process of its own, with its default
settings; the client shares the machine with it, and its use of processors is told.

Load is open-loop: the schedule says when each request is due, whatever became of those before, and time counts from when
it was due. So a service that stands still for a second shows in every request of that second (Gil Tene, "How NOT to
measure latency", 2015). Four phases:

1. `most`: as many connections as keep it busy, each asking again at once: the rate that is served.
2. `half`: half of `--rate` (0: of what `most` found), open-loop: p50 and p99.
3. `flat`: `--requests` requests, closed-loop; resident memory after a tenth of them and at the end.
4. `flood`: ten times the rate of `most`, open-loop: what is answered and what is refused; then `half` once more.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
from harness import matrix_gflops, traffic, write_figures
from score import GENERATED_ROWS, train_model

from wirebert.data.flows import open_flows
from wirebert.inference.detector import Detector
from wirebert.inference.export import export_model

MOST_CONNECTIONS = 32
FLOOD_CONNECTIONS = 256


@dataclass
class Phase:
    """What came of the requests of one phase."""

    name: str
    offered_per_s: float | None = None
    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    waits_s: list[float] = field(default_factory=list)
    """Of those that were answered with verdicts."""
    refused_waits_s: list[float] = field(default_factory=list)
    not_sent: int = 0
    """Due when every connection was taken and the client's own queue full."""

    def note(self, status: int, wait_s: float) -> None:
        self.statuses[status] += 1
        (self.waits_s if status == 200 else self.refused_waits_s).append(wait_s)

    @property
    def served_per_s(self) -> float:
        return self.statuses[200] / self.seconds

    def percentile_ms(self, percent: float) -> float:
        return float(np.percentile(self.waits_s, percent)) * 1000 if self.waits_s else float("nan")

    def told(self) -> dict[str, object]:
        return {
            "phase": self.name,
            "offered_per_s": self.offered_per_s,
            "served_per_s": round(self.served_per_s, 1),
            "p50_ms": round(self.percentile_ms(50), 1),
            "p99_ms": round(self.percentile_ms(99), 1),
            "worst_ms": round(self.percentile_ms(100), 1),
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "p99_refused_ms": round(float(np.percentile(self.refused_waits_s, 99)) * 1000, 1)
            if self.refused_waits_s
            else None,
            "not_sent": self.not_sent,
        }


class Connection:
    """One HTTP connection that is kept; as little work for the client as can be."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, request: bytes) -> int:
        """The status of the answer, which is read to its end; 0 where the connection broke."""
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            writer.write(request)
            await writer.drain()
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = head.split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            if b"connection: close" in head:
                self.close()
            return int(head.split(b" ", 2)[1])
        except (OSError, asyncio.IncompleteReadError, IndexError):
            self.close()
            return 0

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def requests_of(detector: Detector, test: Path, num_rows: int, count: int = 400) -> list[bytes]:
    """Whole HTTP requests with flows of the test file drawn at random, so that few of them are equal."""
    flows = open_flows(test, schema=detector.schema)
    table = next(iter(flows.blocks()))
    own = [column.name for column in detector.schema.columns if not detector.schema.is_context(column.name)]
    names = [name for name in own if name in table.column_names]
    rng = random.Random(0)
    found: list[bytes] = []
    for _ in range(count):
        rows = table.select(names).take([rng.randrange(table.num_rows) for _ in range(num_rows)]).to_pylist()
        body = json.dumps({"flows": rows}).encode()
        head = (
            "POST /v1/score HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        found.append(head.encode() + body)
    return found


async def closed_loop(
    port: int, requests: Sequence[bytes], phase: Phase, *, seconds: float, most: int = 1 << 60
) -> Phase:
    """Each connection asks again as soon as it has its answer."""
    start, left = time.perf_counter(), most

    async def ask(number: int) -> None:
        nonlocal left
        connection, rng = Connection(port), random.Random(number)
        while left > 0 and time.perf_counter() - start < seconds:
            left -= 1
            begin = time.perf_counter()
            phase.note(await connection.ask(rng.choice(requests)), time.perf_counter() - begin)
        connection.close()

    await asyncio.gather(*(ask(number) for number in range(MOST_CONNECTIONS)))
    phase.seconds = time.perf_counter() - start
    return phase


async def open_loop(
    port: int, requests: Sequence[bytes], phase: Phase, *, rate: float, seconds: float, connections: int
) -> Phase:
    """Requests are due at times of a Poisson process of this rate; a wait counts from when a request was due."""
    rng = random.Random(1)
    due: asyncio.Queue[float | None] = asyncio.Queue(maxsize=4 * connections)
    start = time.perf_counter()

    async def ask(number: int) -> None:
        connection, own = Connection(port), random.Random(number)
        while (at := await due.get()) is not None:
            phase.note(await connection.ask(own.choice(requests)), time.perf_counter() - at)
        connection.close()

    askers = [asyncio.create_task(ask(number)) for number in range(connections)]
    at = start
    while at < start + seconds:
        at += rng.expovariate(rate)
        late = at - time.perf_counter()
        if late > 0:
            await asyncio.sleep(late)
        if due.full():
            phase.not_sent += 1
            await asyncio.sleep(0)
        else:
            due.put_nowait(at)
    for _ in askers:
        await due.put(None)
    await asyncio.gather(*askers)
    phase.offered_per_s, phase.seconds = rate, time.perf_counter() - start
    return phase


def start_service(model: Path, folder: Path, *options: str) -> tuple["subprocess.Popen[bytes]", int]:
    """A service in a process of its own, once it listens."""
    log = folder / "serve.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "wirebert", "serve", str(model), "--port", "0", *options], stderr=sink
        )
    for _ in range(600):
        for line in log.read_text().splitlines():
            entry = json.loads(line) if line.startswith("{") else {}  # findings are plain sentences
            if entry.get("event") == "listening":
                return process, int(entry["port"])
        if process.poll() is not None:
            sys.exit(log.read_text())
        time.sleep(0.1)
    sys.exit("the service does not start")


async def measure(
    service: psutil.Process, port: int, requests: Sequence[bytes], options: argparse.Namespace
) -> dict[str, object]:
    """All phases, one after the other."""
    seconds: float = options.seconds
    await closed_loop(port, requests, Phase("warm"), seconds=min(3.0, seconds))
    own = psutil.Process()
    before = own.cpu_times().user, service.cpu_times().user
    most = await closed_loop(port, requests, Phase("most"), seconds=seconds)
    used = own.cpu_times().user - before[0], service.cpu_times().user - before[1]
    rate = most.served_per_s
    half_rate = (options.rate or rate) / 2
    half = await open_loop(
        port, requests, Phase("half"), rate=half_rate, seconds=seconds, connections=MOST_CONNECTIONS
    )
    flat = Phase("flat")
    await closed_loop(port, requests, flat, seconds=1e9, most=max(1, options.requests // 10))
    early = service.memory_info().rss
    await closed_loop(port, requests, flat, seconds=1e9, most=options.requests - options.requests // 10)
    late = service.memory_info().rss
    flood = await open_loop(
        port, requests, Phase("flood"), rate=10 * rate, seconds=seconds, connections=FLOOD_CONNECTIONS
    )
    after = await open_loop(
        port, requests, Phase("after"), rate=half_rate, seconds=seconds, connections=MOST_CONNECTIONS
    )
    return {
        "rows": options.rows,
        "matrix_gflops": round(matrix_gflops()),
        "cpu_s": {"client": round(used[0], 1), "service": round(used[1], 1), "wall": round(most.seconds, 1)},
        "rss_mb": {"after_a_tenth": early >> 20, "at_the_end": late >> 20, "requests": options.requests},
        "phases": [phase.told() for phase in (most, half, flat, flood, after)],
    }


def compare_workers(
    model: Path, folder: Path, requests: Sequence[bytes], options: argparse.Namespace
) -> None:
    """Requests a second of one process and of several, closed-loop, and what client and service took of the cores.

    Client and other work take a part of the same cores, so requests per core of the service are compared, too.
    """
    served: list[float] = []
    per_core: list[float] = []
    for num_workers in (1, options.workers):
        process, port = start_service(model, folder, "--workers", str(num_workers), "--threads", "1")
        try:
            asyncio.run(closed_loop(port, requests, Phase("warm"), seconds=3.0))
            service = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
            own = psutil.Process()

            def used(processes: Sequence[psutil.Process]) -> float:
                return sum(sum(one.cpu_times()[:2]) for one in processes)

            before = used([own]), used(service)
            phase = asyncio.run(closed_loop(port, requests, Phase("most"), seconds=options.seconds))
            client, cores = (
                (after - begun) / phase.seconds
                for after, begun in zip((used([own]), used(service)), before, strict=True)
            )
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        served.append(phase.served_per_s)
        per_core.append(phase.served_per_s / cores)
        print(
            f"{num_workers} worker(s): {phase.served_per_s:,.1f} requests/s, {phase.served_per_s * options.rows:,.0f} "
            f"flows/s, p99 {phase.percentile_ms(99):.0f} ms; cores: service {cores:.2f}, client {client:.2f}; "
            f"{dict(phase.statuses)}"
        )
    print(
        f"{served[1] / served[0]:.2f} times the requests of one; {per_core[1] / per_core[0]:.2f} times per core "
        f"of the service, so {options.workers * per_core[1] / per_core[0]:.2f} times with the cores to itself"
    )


def show(result: dict[str, object]) -> None:
    """As a table."""
    print(f"{'phase':8}{'offered/s':>11}{'served/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'worst':>9}  answers")
    phases = result["phases"]
    assert isinstance(phases, list)
    for phase in phases:
        offered = f"{phase['offered_per_s']:,.0f}" if phase["offered_per_s"] else "closed"
        answers = ", ".join(f"{count:,} x {status}" for status, count in phase["statuses"].items())
        late = f", {phase['not_sent']:,} not sent" if phase["not_sent"] else ""
        print(
            f"{phase['phase']:8}{offered:>11}{phase['served_per_s']:>10,.0f}{phase['p50_ms']:>9}{phase['p99_ms']:>9}"
            f"{phase['worst_ms']:>9}  {answers}{late}"
        )
    print(f"resident memory, MB: {result['rss_mb']}; processor seconds in `most`: {result['cpu_s']}")
    print(
        f"backend {result['backend']}, matrix product {result['matrix_gflops']} GFLOP/s, exit code {result['exit']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Load on `wirebert serve`.")
    parser.add_argument("--mini", type=Path, metavar="MODEL")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--workers", type=int, metavar="N")
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="wirebert-serve-") as name:
        folder = Path(name)
        train, test = traffic(folder, GENERATED_ROWS)
        model = options.mini
        if model is None:
            model = train_model(train, folder, "mini")
            export_model(model, "onnx-int8", data=str(train))
        detector = Detector.load(model)
        requests = requests_of(detector, test, options.rows)
        if options.workers is not None:
            compare_workers(model, folder, requests, options)
            return
        process, port = start_service(model, folder)
        try:
            result = asyncio.run(measure(psutil.Process(process.pid), port, requests, options))
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(timeout=60)
        result |= {"backend": detector.backend, "exit": code, "processors": os.cpu_count()}
    show(result)
    write_figures(options.out, **result)


if __name__ == "__main__":
    main()
