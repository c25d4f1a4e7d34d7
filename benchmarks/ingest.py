"""How fast and in how much memory a large traffic file is inspected and encoded, next to pandas and stock WordPiece.

    python benchmarks/ingest.py [--rows 100000 1000000 10000000] [--folder DIR] [--out result.json]
    python benchmarks/ingest.py --context [--flows 3000000] [--hosts 1000000] [--batch 50000]

Generated traffic is written to DIR (a temporary folder by default; 10 million flows need 4 GB), then each step runs in a
process of its own, whose anonymous memory (what can not be dropped and read again) is sampled every 20 ms. The speed of a
fixed matrix product is measured beside it, so that machines compare. pandas is needed for its own figures only.

`--context` says how fast flows get their context, and what its state takes with a million hosts. Random flows between random
hosts, hardly one channel twice, are the worst case for the state; a busy network, in which half of all flows are of a
thousand hosts, stands beside it.
"""

import argparse
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
from encode import stock_encode, stock_wordpiece
from harness import matrix_gflops, write_figures
from rich.progress import track

from wirebert.data.checks.checks import validate
from wirebert.data.checks.profile import profile_table
from wirebert.data.context.context import FlowContext
from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.synthetic import write_csv
from wirebert.data.windows import ContextWindows
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.store import StoreWriter, find_or_encode, find_or_fit, store_key, tokenizer_key
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.workflows.typed_rows import parse_once

STOCK_ROWS = 20_000
SAMPLE_S = 0.02
SERVICES = np.array([53, 80, 443, 22, 25, 123, 445, 3389])
RUNS = {"busy network, 4 h": (4 * 3_600.0, 0.5), "random hosts, one hour": (3_600.0, 0.0)}
"""Seconds that the flows span, and the share that is of a thousand hosts."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step over one file, in a process of its own."""

    name: str
    num_rows: int
    seconds: float
    rows_per_s: float
    cpu_us_per_row: float
    """Processor time of all threads; it does not depend on what else the machine does."""
    peak_anonymous_mb: float
    bytes_on_disk: int
    """Of what the step wrote, or of the file where it wrote nothing."""
    matrix_gflops: float


def anonymous_mb() -> float:
    """Anonymous memory of this process (Linux)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1024
    return 0.0


class MemoryWatch:
    """The most anonymous memory this process had since the watch began."""

    def __init__(self) -> None:
        self.peak_mb = anonymous_mb()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, anonymous_mb())
            time.sleep(SAMPLE_S)


def inspect_file(path: Path, _folder: Path) -> tuple[int, int]:
    """What `wirebert inspect` does; rows and bytes on disk."""
    flows = open_flows(path)
    seen = profile_table(flows)
    validate(seen, ClassMap.fit(flows.schema, seen.label_counts))
    return seen.num_rows, path.stat().st_size


def encode_file(path: Path, folder: Path) -> tuple[int, int]:
    """Fit a tokenizer and encode every row, unless the encoded store is found; rows and bytes on disk."""
    flows = open_flows(path)
    fingerprint, config, cache = flows.fingerprint(), EncodingConfig(), folder / "cache"
    tokenizer = find_or_fit(
        cache,
        tokenizer_key(fingerprint, flows.schema, config),
        lambda: FlowTokenizer.fit(flows.schema, flows.blocks, config),
    )

    def write(store: StoreWriter) -> None:
        row = 0
        for table in flows.blocks():
            block = tokenizer.encode(table)
            rows = np.arange(row, row + len(block))
            store.append(block, np.zeros(len(block), np.int64), rows)
            row += len(block)

    key = store_key(fingerprint, tokenizer)
    encoded, _ = find_or_encode(cache, key, tokenizer, write)
    stored = sum(file.stat().st_size for file in (cache / key).iterdir())
    return len(encoded), stored


def parse_file(path: Path, folder: Path) -> tuple[int, int]:
    """Parse the file once: profile, fingerprint and typed rows; rows and bytes of the typed rows."""
    parsed = parse_once(open_flows(path), folder / f"{path.stem}.typed")
    return parsed.profile.num_rows, _typed_bytes(parsed.flows)


def read_file(path: Path, folder: Path) -> tuple[int, int]:
    """One pass over the typed rows that the step before left; rows and bytes of the typed rows."""
    (typed_rows,) = (folder / f"{path.stem}.typed").glob("*.rows")
    flows = replace(open_flows(path), typed_rows=typed_rows)
    return sum(block.num_rows for block in flows.blocks()), _typed_bytes(flows)


def _typed_bytes(flows: Flows) -> int:
    assert flows.typed_rows is not None
    return sum(file.stat().st_size for file in flows.typed_rows.iterdir())


def stock_file(path: Path, _folder: Path) -> tuple[int, int]:
    """The usual notebook: pandas, a text per row, WordPiece; rows and bytes of the ids."""
    frame = import_module("pandas").read_csv(path, nrows=STOCK_ROWS, dtype=str, keep_default_na=False)
    columns = {str(name): frame[name].tolist() for name in frame.columns if name != "label"}
    return len(frame), 2 * stock_encode(stock_wordpiece(), columns)


def pandas_file(path: Path, _folder: Path) -> tuple[int, int]:
    """pandas reading the whole file, which it holds; rows and bytes on disk."""
    return len(import_module("pandas").read_csv(path)), path.stat().st_size


STEPS: dict[str, Callable[[Path, Path], tuple[int, int]]] = {
    "inspect": inspect_file,
    "parse to typed rows": parse_file,
    "read typed rows": read_file,
    "fit and encode": encode_file,
    "the same again": encode_file,
    "pandas.read_csv": pandas_file,
    "pandas, stock WordPiece": stock_file,
}
PANDAS_MAX_ROWS = 1_000_000
"""pandas holds the file in memory several times over; it is not asked to hold more."""


def run_step(name: str, path: Path, folder: Path) -> Step:
    """The step, measured; called in a process of its own."""
    speed = matrix_gflops()
    watch = MemoryWatch()
    start, cpu_start = time.perf_counter(), time.process_time()
    num_rows, num_bytes = STEPS[name](path, folder)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return Step(
        name=name,
        num_rows=num_rows,
        seconds=seconds,
        rows_per_s=num_rows / seconds,
        cpu_us_per_row=1e6 * cpu_seconds / num_rows,
        peak_anonymous_mb=max(watch.peak_mb, anonymous_mb()),
        bytes_on_disk=num_bytes,
        matrix_gflops=speed,
    )


def measure(row_counts: list[int], folder: Path) -> list[Step]:
    """All steps over files of these sizes."""
    has_pandas = find_spec("pandas") is not None
    if not has_pandas:
        print("pandas is not installed, so its figures are left out: pip install '.[benchmarks]'", flush=True)
    context = multiprocessing.get_context("spawn")
    found: list[Step] = []
    for num_rows in row_counts:
        path = folder / f"flows_{num_rows}.csv"
        if not path.is_file():
            print(f"generating {num_rows:,} flows", flush=True)
            partial = path.with_suffix(".partial")
            write_csv(partial, num_rows, seed=1)
            partial.rename(path)
        for name in track(STEPS, description=f"{num_rows:,} flows", transient=True):
            if name.startswith("pandas") and (not has_pandas or num_rows > PANDAS_MAX_ROWS):
                continue
            with context.Pool(1) as pool:
                step = pool.apply(run_step, (name, path, folder))
            print(
                f"{step.name:24} {step.num_rows:12,} rows {step.seconds:8.1f} s {step.rows_per_s:12,.0f} rows/s"
                f" {step.cpu_us_per_row:7.1f} us of processor a row"
                f" {step.peak_anonymous_mb:8,.0f} MB anonymous {step.bytes_on_disk / 1e6:8,.0f} MB on disk"
                f"  (matrix product {step.matrix_gflops:.0f} GFLOP/s)",
                flush=True,
            )
            found.append(step)
    return found


def batches(given: argparse.Namespace, span_s: float, busy_share: float) -> Iterator[pa.Table]:
    """Typed tables as readers give them: addresses and states as dictionaries of the batch."""
    generator = np.random.default_rng(0)
    states = pa.array(["SF", "S0", "REJ"])
    for first in range(0, given.flows, given.batch):
        count = min(given.batch, given.flows - first)
        ends = generator.integers(0, given.hosts, (2, count))
        ends = np.where(generator.random((2, count)) < busy_share, ends % 1_000, ends)
        ts = 1.7e9 + (first + np.arange(count)) * (span_s / given.flows)
        columns = {
            "ts": pa.array(ts).cast(pa.string()),
            "src_ip": addresses(ends[0]),
            "dst_ip": addresses(ends[1]),
            "dst_port": pa.array(generator.choice(SERVICES, count).astype(float)),
            "conn_state": pa.DictionaryArray.from_arrays(
                generator.integers(0, 3, count).astype(np.int32), states
            ),
            "src_ip_bytes": pa.array(generator.integers(40, 100_000, count).astype(float)),
            "dst_ip_bytes": pa.array(generator.integers(40, 100_000, count).astype(float)),
        }
        yield pa.table(columns)


def addresses(hosts: np.ndarray) -> pa.DictionaryArray:
    """Hosts as dotted addresses, each distinct one spelled once."""
    distinct, index = np.unique(hosts, return_inverse=True)
    texts = [f"10.{host >> 16}.{host >> 8 & 255}.{host & 255}" for host in distinct.tolist()]
    return pa.DictionaryArray.from_arrays(index.astype(np.int32), pa.array(texts))


def measure_context(given: argparse.Namespace) -> list[dict[str, object]]:
    """Time both networks; making the flows does not count."""
    found: list[dict[str, object]] = []
    for name, (span_s, busy_share) in RUNS.items():
        context, speed = FlowContext(ContextWindows()), matrix_gflops()
        seconds, cpu_s, size_bytes = [0.0], 0.0, 0
        for table in batches(given, span_s, busy_share):
            start, cpu_start = time.perf_counter(), time.process_time()
            context.append(table)
            seconds.append(time.perf_counter() - start)
            cpu_s += time.process_time() - cpu_start
            size_bytes = max(size_bytes, context.size_bytes)
        timing = {
            "flows_per_s": given.flows / sum(seconds),
            "flows_per_cpu_s": given.flows / cpu_s,
            "slowest_batch_s": max(seconds),
            "state_mb": size_bytes / 1e6,
            "process_peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
            "matrix_gflops": speed,
        }
        print(
            f"{name}: " + ", ".join(f"{figure} {value:,.2f}" for figure, value in timing.items()), flush=True
        )
        found.append({"network": name, "flows": given.flows, "hosts": given.hosts, **timing})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of inspecting and encoding large files.")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, help="where the generated files lie and stay")
    parser.add_argument("--context", action="store_true", help="measure the context of flows instead")
    parser.add_argument("--flows", type=int, default=3_000_000, help="with --context")
    parser.add_argument("--hosts", type=int, default=1_000_000, help="with --context")
    parser.add_argument("--batch", type=int, default=50_000, help="flows at a time, with --context")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    given = parser.parse_args()
    if given.context:
        write_figures(given.out, runs=measure_context(given))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_figures(given.out, steps=[asdict(step) for step in measure(given.rows, folder)])


if __name__ == "__main__":
    main()
