"""How fast and in how much memory a large traffic file is inspected and encoded, next to pandas and stock WordPiece.

    python benchmarks/ingest.py [--rows 100000 1000000 10000000] [--folder DIR] [--out result.json]

Generated traffic is written to DIR (a temporary folder by default; 10 million flows need 4 GB), then each step runs in a
process of its own, whose anonymous memory (what can not be dropped and read again) is sampled every 20 ms. The speed of a
fixed matrix product is measured beside it, so that machines compare. pandas is needed for its own figures only.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from encode import stock_encode, stock_wordpiece
from harness import matrix_gflops
from rich.progress import track

from wirebert.data.labels import ClassMap
from wirebert.data.loading import open_flows
from wirebert.data.survey import survey
from wirebert.data.synthetic import write_csv
from wirebert.data.validation import validate
from wirebert.encoding.cache import find_or_encode, find_or_fit, store_key, tokenizer_key
from wirebert.encoding.settings import EncodingConfig
from wirebert.encoding.store import StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer

STOCK_ROWS = 20_000
SAMPLE_S = 0.02


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
    seen = survey(flows)
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of inspecting and encoding large files.")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--folder", type=Path, help="where the generated files lie and stay")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        steps = measure(options.rows, folder)
    if options.out is not None:
        result = {"num_processors": os.cpu_count(), "steps": [asdict(step) for step in steps]}
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
