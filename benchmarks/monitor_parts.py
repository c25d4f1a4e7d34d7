"""Parts `monitor`, `kafka` and `sinks` of `alerts.py`: what a monitor keeps when it is killed and its sinks fail.

Flows are generated, so each has an identifier of its own by which it is found again in what was written.
"""

import json
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

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
        numbers = Counter[str]()
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
        next_kill = 0.0
        while True:
            time.sleep(0.5)
            if not monitor.look():
                continue
            next_kill = next_kill or time.monotonic() + chance.uniform(1, 8)
            if lives < num_kills and time.monotonic() > next_kill:
                monitor.kill()
                lives += 1
                if lives % 5 == 0 and (folder / "flows.jsonl").exists():
                    (folder / "flows.jsonl").rename(folder / f"flows.jsonl.{lives}")
                monitor.start()
                next_kill = 0.0
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
