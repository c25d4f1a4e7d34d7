"""Parts `monitor`, `kafka` and `sinks` of `alerts.py`: what a monitor keeps when it is killed and its sinks fail.

Flows are generated, so each has an identifier of its own by which it is found again in what was written.
"""

import json
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from urllib.request import urlopen

import psutil

from wirebert.alerts.kafka import KafkaPlace, KafkaSink
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log

HEADER_LINES = 7
BLOCK = 100_000


def conn_lines(folder: Path, num_flows: int) -> Iterator[list[bytes]]:
    """Lines of a conn.log, in blocks: generated flows, again and again under other identifiers and days."""
    path = folder / "generated.log"
    write_conn_log(path, generate(min(num_flows, BLOCK), seed=2, stealthy=True))
    lines = path.read_bytes().splitlines(keepends=True)
    yield lines[:HEADER_LINES]
    rows = [line.split(b"\t", 2) for line in lines[HEADER_LINES:]]
    for block in range(-(-num_flows // len(rows))):
        some = rows[: num_flows - block * len(rows)]
        yield [b"%.6f\t%s%d\t%s" % (float(ts) + block * 6e5, uid, block, rest) for ts, uid, rest in some]


def zeek_json(header: list[bytes]) -> Callable[[bytes], bytes]:
    """Turns a line under this header into what Zeek's writer of JSON makes of it: numbers are numbers."""
    names, types = (line.decode().rstrip("\n").split("\t")[1:] for line in header[5:7])
    kinds = [{"time": float, "interval": float, "count": int, "port": int}.get(kind, str) for kind in types]

    def to_json(line: bytes) -> bytes:
        fields = zip(names, kinds, line.decode().rstrip("\n").split("\t"), strict=True)
        return json.dumps({name: kind(text) for name, kind, text in fields if text != "-"}).encode()

    return to_json


class Monitor:
    """`wirebert monitor` in a process of its own, which may be killed and started again."""

    def __init__(self, folder: Path, model: Path, *words: str) -> None:
        self.folder, self._words = folder, [str(model), *words]
        self._process: subprocess.Popen[bytes] | None = None
        self.resident_mb: list[float] = []
        self.lags: list[tuple[float, float]] = []
        self.flows = 0.0

    def start(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "wirebert",
            "monitor",
            *self._words,
            "--listen",
            f"127.0.0.1:{self._port}",
        ]
        with (self.folder / "stderr").open("ab") as sink:
            self._process = subprocess.Popen(command, cwd=self.folder, stderr=sink, stdout=subprocess.DEVNULL)

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait()

    def limit_files(self, num_bytes: int) -> None:
        """From now on no file of it can grow beyond that: like a disk that is full, or has room again."""
        assert self._process is not None
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (num_bytes, resource.RLIM_INFINITY))

    def processor_s(self) -> float:
        """Processor time of this life."""
        assert self._process is not None
        times = psutil.Process(self._process.pid).cpu_times()
        return times.user + times.system

    def look(self) -> bool:
        """Note memory and lag; False while it does not score yet."""
        try:
            with urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=2) as answer:
                text = answer.read().decode()
        except OSError:
            assert self._process is not None
            assert self._process.poll() is None, (self.folder / "stderr").read_text()[-2_000:]
            return False
        values = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
        if "wirebert_monitor_lag_num_behind{" not in text:
            return False
        numbers = defaultdict[str, float](float)
        for name, value in values:
            numbers[name.partition("{")[0]] += float(value)
        self.flows = numbers["wirebert_monitor_flows_total"]
        self.resident_mb.append(numbers["process_resident_memory_bytes"] / 2**20)
        self.lags.append(
            (numbers["wirebert_monitor_lag_num_behind"], numbers["wirebert_monitor_lag_seconds"])
        )
        return True


def written(folder: Path, name: str) -> Counter[str]:
    """Identifier of a flow -> its lines in a file and in those that rotation made of it."""
    found = Counter[str]()
    for path in folder.glob(f"{name}*"):
        if path.is_file():
            with path.open("rb") as file:
                found.update(json.loads(line)["uid"] for line in file)
    return found


def monitor_part(model: Path, num_flows: int, num_kills: int) -> dict[str, object]:
    """A log that grows and is rotated, and a monitor that is killed again and again."""
    with tempfile.TemporaryDirectory(prefix="wirebert-monitor-") as place:
        folder, chance = Path(place), random.Random(1)
        log, uids, lives = folder / "conn.log", set[str](), 0
        blocks = conn_lines(folder, num_flows)
        header = b"".join(next(blocks))
        log.write_bytes(header)
        targets = ["--to", "flows.jsonl", "--to", "alerts.jsonl,write=alerts", "--state", "state"]
        monitor = Monitor(folder, model, "conn.log", *targets, "--heartbeat", "5")
        monitor.start()
        while not (folder / "state" / "monitor.state").exists():  # what is rotated before is not read
            time.sleep(0.1)
        started, is_written = time.perf_counter(), threading.Event()

        def grow() -> None:
            for number, block in enumerate(blocks):
                uids.update(line.split(b"\t", 2)[1].decode() for line in block)
                for start in range(0, len(block), 10_000):
                    with log.open("ab") as file:
                        file.write(b"".join(block[start : start + 10_000]))
                    while (monitor.lags or [(0, 0)])[-1][0] > 30e6:  # the disk is not endless
                        time.sleep(0.2)
                    time.sleep(0.02)
                log.rename(folder / f"conn.log.{100 - number}")
                log.write_bytes(header)
            is_written.set()

        writer = threading.Thread(target=grow)
        writer.start()
        longest = 3 * num_flows // max(1, num_kills)
        next_kill = chance.randint(0, longest)
        while True:
            time.sleep(0.5)
            if not monitor.look():
                continue
            if lives < num_kills and (monitor.flows > next_kill or monitor.lags[-1][0] == 0):
                monitor.kill()
                lives += 1
                if lives % 5 == 0 and (folder / "flows.jsonl").exists():
                    (folder / "flows.jsonl").rename(folder / f"flows.jsonl.{lives}")
                monitor.start()
                next_kill = chance.randint(0, longest)
            elif lives == num_kills and is_written.is_set() and monitor.lags[-1][0] == 0:
                break
        seconds = time.perf_counter() - started
        writer.join()
        time.sleep(3)
        monitor.kill(signal.SIGTERM)
        flows, alerts = written(folder, "flows.jsonl"), written(folder, "alerts.jsonl")
        tail = monitor.resident_mb[-20:]
        return {
            "flows": len(uids),
            "seconds": round(seconds, 1),
            "kills": lives,
            "without a verdict": len(uids - flows.keys()),
            "verdicts twice": sum(count > 1 for count in flows.values()),
            "alerts": len(alerts),
            "alerts twice": sum(count > 1 for count in alerts.values()),
            "resident MB, last life, first and last look": [round(tail[0]), round(tail[-1])],
            "resident MB, most": round(max(monitor.resident_mb)),
            "most MB behind": round(max(lag for lag, _ in monitor.lags) / 1e6, 1),
            "longest s behind": round(max(lag for _, lag in monitor.lags), 1),
            "told": tell_counts(folder / "stderr"),
        }


def tell_counts(path: Path) -> dict[str, int]:
    """Code -> sentences told."""
    lines = path.read_text().splitlines()
    return dict(
        Counter(line.split(": ")[1] for line in lines if line.startswith("wirebert: ") and ": " in line[10:])
    )


BROKER = """
import sys
from confluent_kafka import Producer
producer = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
print(*(f"{one.host}:{one.port}" for one in producer.list_topics(timeout=30).brokers.values()), flush=True)
sys.stdin.read()
"""


def kafka_part(model: Path, num_flows: int, num_kills: int) -> dict[str, object]:
    """The same through Kafka, in and out. The broker is librdkafka's mock, which forgets what is not read soon, so
    messages are sent as fast as they are scored."""
    from confluent_kafka import Consumer

    with (
        tempfile.TemporaryDirectory(prefix="wirebert-monitor-") as place,
        subprocess.Popen(
            [sys.executable, "-c", BROKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as broker,
    ):
        assert broker.stdout is not None
        address, folder, chance = broker.stdout.readline().strip(), Path(place), random.Random(1)
        blocks = conn_lines(folder, num_flows)
        to_json = zeek_json(next(blocks))
        source = f"kafka://{address}/flows?group=g&session.timeout.ms=6000"
        target = f"kafka://{address}/verdicts,format=verdicts,write=flows"
        monitor = Monitor(folder, model, source, "--to", target, "--state", "state", "--heartbeat", "5")
        ids: dict[str, set[str]] = {}
        num_received, is_over = 0, threading.Event()

        def receive() -> None:
            nonlocal num_received
            config = {"bootstrap.servers": address, "group.id": "r", "auto.offset.reset": "earliest"}
            consumer = Consumer({**config, "session.timeout.ms": 6_000})
            consumer.subscribe(["verdicts"])
            while not is_over.is_set():
                for message in consumer.consume(5_000, 0.2):
                    if message.error() is None:
                        row = json.loads(message.value() or b"")
                        if row["uid"] is not None:  # the message that made the topic has none
                            ids.setdefault(row["uid"], set()).add(row["event_id"])
                        num_received += 1
            consumer.close()

        sink, sent = KafkaSink(KafkaPlace.parse(f"kafka://{address}/flows")), 0
        sink.write([b"{}"])  # makes the topic; is set aside
        reader = threading.Thread(target=receive)
        reader.start()
        monitor.start()
        started, kills, longest = time.perf_counter(), 0, 3 * num_flows // max(1, num_kills)
        next_kill, last = chance.randint(0, longest), None
        messages = (to_json(line) for block in blocks for line in block)
        while len(ids) < num_flows and time.perf_counter() - started < 1_200:
            while sent - len(ids) < 6_000 and (some := list(islice(messages, 1_000))):
                sink.write(some)
                sent += len(some)
            time.sleep(0.2)
            if not monitor.look():
                continue
            last = last or (monitor.flows, monitor.processor_s())
            if kills < num_kills and monitor.flows > next_kill:
                monitor.kill()
                last = None
                kills, next_kill = kills + 1, chance.randint(0, longest)
                monitor.start()
        seconds = time.perf_counter() - started
        flows, processor_s = last or (0.0, 0.0)
        per_processor_s = (monitor.flows - flows) / max(1e-3, monitor.processor_s() - processor_s)
        monitor.kill(signal.SIGTERM)
        is_over.set()
        reader.join()
        broker.kill()
        return {
            "flows": num_flows,
            "seconds": round(seconds, 1),
            "kills": kills,
            "flows/s of a processor, last life": round(per_processor_s),
            "lost": num_flows - len(ids),
            "received": num_received,
            "flows with two ids": sum(len(found) > 1 for found in ids.values()),
            "most messages behind": max(lag for lag, _ in monitor.lags),
        }


class Receiver:
    """Takes syslog messages over TCP, or refuses, dawdles and hangs up."""

    def __init__(self) -> None:
        self.uids, self.num_messages, self.mood = set[str](), 0, "up"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.is_over = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self.is_over = True
        self._thread.join()

    def _serve(self) -> None:
        while not self.is_over:
            if self.mood == "refused":
                time.sleep(0.1)
                continue
            with socket.create_server(("127.0.0.1", self.port)) as server:
                server.settimeout(0.2)
                while not self.is_over and self.mood != "refused":
                    try:
                        connection, _ = server.accept()
                    except TimeoutError:
                        continue
                    with connection:
                        self._read(connection)

    def _read(self, connection: socket.socket) -> None:
        connection.settimeout(0.2)
        held, until = b"", time.monotonic() + (0.7 if self.mood == "flapping" else 1e9)
        mood = self.mood
        while not self.is_over and self.mood == mood and time.monotonic() < until:
            if mood == "slow":
                time.sleep(0.2)
            try:
                chunk = connection.recv(4_096 if mood == "slow" else 1 << 20)
            except TimeoutError:
                continue
            if not chunk:
                return
            held += chunk
            while True:
                size, blank, rest = held.partition(b" ")
                if not blank or len(rest) < int(size):
                    break
                message, held = rest[: int(size)], rest[int(size) :]
                self.uids.add(json.loads(message[message.index(b"{") :])["uid"])
                self.num_messages += 1


def sinks_part(model: Path, seconds: float) -> dict[str, object]:
    """A receiver that is refused, slow and flapping, and a disk that is full, in turn, while flows come at a steady
    rate."""
    with tempfile.TemporaryDirectory(prefix="wirebert-monitor-") as place:
        folder, receiver = Path(place), Receiver()
        blocks = conn_lines(folder, BLOCK)
        log = folder / "conn.log"
        log.write_bytes(b"".join(next(blocks)))
        target = f"syslog+tcp://127.0.0.1:{receiver.port},format=verdicts,write=flows"
        monitor = Monitor(
            folder, model, "conn.log", "--to", target, "--to", "flows.jsonl", "--state", "state"
        )
        monitor.start()
        while not (folder / "state" / "monitor.state").exists():
            time.sleep(0.1)
        rows, num_sent, started = next(blocks), 0, time.monotonic()
        moods = ("refused", "up", "full", "slow", "flapping", "refused", "full", "flapping", "slow", "up")
        while (elapsed := time.monotonic() - started) < seconds:
            receiver.mood = moods[int(elapsed / seconds * len(moods))]
            size = max(5 << 20, (folder / "flows.jsonl").stat().st_size)  # pieces in memory are files too
            monitor.limit_files(size if receiver.mood == "full" else resource.RLIM_INFINITY)
            with log.open("ab") as file:
                file.write(b"".join(rows[num_sent : num_sent + 20]))
            num_sent = min(num_sent + 20, len(rows))
            time.sleep(0.1)
            monitor.look()
        monitor.limit_files(resource.RLIM_INFINITY)
        receiver.mood, patience = "up", time.monotonic() + 120
        while len(receiver.uids) < num_sent and time.monotonic() < patience:
            time.sleep(0.5)
            monitor.look()
        monitor.kill(signal.SIGTERM)
        receiver.close()
        flows = written(folder, "flows.jsonl")
        return {
            "flows": num_sent,
            "seconds": seconds,
            "lost by the receiver": num_sent - len(receiver.uids),
            "messages": receiver.num_messages,
            "without a verdict in the file": num_sent - len(flows),
            "verdicts twice in the file": sum(count > 1 for count in flows.values()),
            "told": tell_counts(folder / "stderr"),
            "told of the full disk": (folder / "stderr").read_text().count("File too large"),
            "resident MB, first and last look": [
                round(monitor.resident_mb[0]),
                round(monitor.resident_mb[-1]),
            ],
        }


def speed_part(model: Path, num_flows: int) -> dict[str, object]:
    """Flows a second from a log to ECS lines, of flows that are there when the monitor starts."""
    with tempfile.TemporaryDirectory(prefix="wirebert-monitor-") as place:
        folder = Path(place)
        (folder / "conn.log").write_bytes(
            b"".join(b"".join(block) for block in conn_lines(folder, num_flows))
        )
        target = "events.jsonl,format=ecs,write=flows+incidents"
        monitor = Monitor(folder, model, "conn.log", "--to", target, "--state", "state")
        monitor.start()
        while not (monitor.look() and monitor.flows):
            time.sleep(0.05)
        first, start, processor_s = monitor.flows, time.perf_counter(), monitor.processor_s()
        while monitor.flows < num_flows and time.perf_counter() - start < 600:
            time.sleep(0.2)
            monitor.look()
        scored = monitor.flows - first
        rates = scored / (time.perf_counter() - start), scored / (monitor.processor_s() - processor_s)
        monitor.kill(signal.SIGTERM)
        return {
            "flows": num_flows,
            "flows/s": round(rates[0]),
            "flows/s of a processor": round(rates[1]),
        }
