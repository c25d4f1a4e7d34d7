"""Work by shards: one process, a pool and Ray on the same files; bytes a flow; large tables; and the plan of a
billion rows.

python benchmarks/cluster.py predict MODEL DATA --workers 2     # executors, same bytes checked
python benchmarks/cluster.py inspect DATA --workers 2           # the same of `inspect --json`
python benchmarks/cluster.py generate FOLDER --rows 100000000   # Parquet files, one seed each
python benchmarks/cluster.py encode DATA FOLDER --schema FILE   # what `train --workers` does before it trains
python benchmarks/cluster.py plan 1000000000                    # shard metadata alone
"""

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import TypeVar

import msgspec
import pyarrow.parquet as pq

from wirebert.cluster.executors import InProcess, Pool
from wirebert.cluster.plan import SHARD_ROWS, Shard, ShardPlan
from wirebert.config import RunConfig
from wirebert.data.config import DataConfig
from wirebert.data.files import find_files
from wirebert.data.synthetic.traffic import generate
from wirebert.run_folder import create_run_folder
from wirebert.telemetry.processors import peak_memory_mb
from wirebert.workflows.prepare import encode, encoded_folder, fit_tokenizer, prepare, write_typed_rows

Result = TypeVar("Result")

FILE_ROWS = 4 * SHARD_ROWS
"""Rows of a generated file."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = {
        name: commands.add_parser(name) for name in ("predict", "inspect", "generate", "encode", "plan")
    }
    command["predict"].add_argument("model")
    for name in ("predict", "inspect", "encode"):
        command[name].add_argument("data")
    for name in ("predict", "inspect"):
        command[name].add_argument("--executors", nargs="+", metavar="NAME", help="only these, such as pool")
    for name in ("generate", "encode"):
        command[name].add_argument("folder", type=Path)
    for name in ("predict", "inspect", "generate", "encode"):
        command[name].add_argument("--workers", type=int, default=2)
    command["generate"].add_argument("--rows", type=int, required=True)
    command["encode"].add_argument("--schema", help="as `inspect --write-schema` writes it")
    command["plan"].add_argument("rows", type=int)
    options = parser.parse_args()
    match options.command:
        case "predict":
            executors = executors_of(options.workers, options.executors)
            compare_executors(options.model, options.data, executors)
        case "inspect":
            compare_inspections(options.data, executors_of(options.workers, options.executors))
        case "generate":
            generate_files(options.folder, options.rows, options.workers)
        case "encode":
            time_encoding(options.data, options.folder, options.schema, options.workers)
        case _:
            time_plan(options.rows)


def executors_of(workers: int, names: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Name of each executor, and its options."""
    pool = ("--workers", str(workers))
    known = {"one process": (), "pool": pool, "Ray local": ("--cluster", "local", *pool)}
    return {name: known[name] for name in names or known}


def generate_files(folder: Path, num_rows: int, workers: int) -> None:
    """So many generated flows as Parquet files; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes = [min(FILE_ROWS, num_rows - first) for first in range(0, num_rows, FILE_ROWS)]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(partial(write_file, folder), range(len(sizes)), sizes))


def write_file(folder: Path, seed: int, num_rows: int) -> None:
    """One file, of the flows of one seed; a row group is a shard."""
    path = folder / f"flows-{seed:04d}.parquet"
    if path.exists():
        return
    part = path.with_suffix(".part")
    writer: pq.ParquetWriter | None = None
    for table in generate(num_rows, seed, SHARD_ROWS):
        writer = writer or pq.ParquetWriter(part, table.schema, compression="zstd")
        writer.write_table(table)
    if writer is not None:
        writer.close()
    part.rename(path)


def time_encoding(data: str, out: Path, schema: str | None, workers: int) -> None:
    """Wall time of each step before a training: typed rows, checks and split, tokenizer, encoded flows."""
    run = RunConfig(train=data, data=DataConfig(schema=schema))
    folder = create_run_folder(out)
    executor = InProcess() if workers == 1 else Pool(workers)
    cache = encoded_folder(run, folder)
    rows = timed("typed rows", lambda: write_typed_rows(run, folder, executor))
    prepared = timed("checks and split", lambda: prepare(run, rows))
    tokenizer = timed("tokenizer", lambda: fit_tokenizer(run, prepared, cache, executor))
    for part in (prepared.train, prepared.valid):
        flows = timed(
            f"encoded {part.name}", lambda part=part: encode(part, prepared, tokenizer, cache, (), executor)
        )
        print(f"  {len(flows):,} flows, {len(flows.ids) / len(flows):.1f} tokens a flow")
    size = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
    print(f"{prepared.profile.num_rows:,} rows; {size / 1e9:.1f} GB of typed rows and encoded flows")


def timed(name: str, step: Callable[[], Result]) -> Result:
    """The result of a step, with its time and the most memory of this process so far; workers tell theirs."""
    start = time.perf_counter()
    result = step()
    peak_mb = peak_memory_mb()
    print(f"{name}: {time.perf_counter() - start:.1f} s; at most {peak_mb:,} MB so far", flush=True)
    return result


def compare_inspections(data: str, executors: dict[str, tuple[str, ...]]) -> None:
    """Wall time of `inspect --json` by each executor, and whether all print the same bytes."""
    printed: set[str] = set()
    for name, arguments in executors.items():
        start = time.perf_counter()
        command = [sys.executable, "-m", "wirebert", "inspect", data, "--json", *arguments]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        printed.add(done.stdout)
        print(
            f"{name}: {time.perf_counter() - start:.1f} s; {''.join(done.stderr.splitlines()[-1:])}",
            flush=True,
        )
    print(f"same bytes: {len(printed) == 1}")


def compare_executors(model: str, data: str, executors: dict[str, tuple[str, ...]]) -> None:
    """Wall and processor time of each executor, after a run that warms the page cache."""
    digests: dict[str, list[str]] = {}
    rows, written, about = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in executors.items():
            out = Path(folder) / name.replace(" ", "_")
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "wirebert",
                "predict",
                model,
                data,
                "--out",
                f"{out}/",
                *arguments,
            ]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            wall_s = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            manifest = msgspec.json.decode((out / "_shards" / "manifest.json").read_bytes())
            rows = manifest["num_rows"]
            print(
                f"{name}: {wall_s:.1f} s, {rows / wall_s:,.0f} flows/s, processor {cpu_s:.1f} s", flush=True
            )
            print(f"  {done.stderr.splitlines()[-1]}")
            files = sorted(path for path in out.rglob("part-*"))
            written = sum(path.stat().st_size for path in files)
            about = sum(path.stat().st_size for path in (out / "_shards").iterdir())
            digests[name] = [hashlib.sha256(path.read_bytes()).hexdigest() for path in files]
        size = sum(path.stat().st_size for path in find_files(data))
        print(
            f"bytes a flow: read {size / rows:.1f}, verdicts {written / rows:.1f}, records {about / rows:.2f}"
        )
        print(f"same bytes: {len({tuple(one) for one in digests.values()}) == 1}")


def time_plan(num_rows: int) -> None:
    """Time and memory of the metadata of so many rows of Parquet, as one plan."""
    start = time.perf_counter()
    shards = tuple(
        Shard(
            part=at,
            path=f"day=2026-11-29/sensor={at % 40}/{at:06d}.parquet",
            size_bytes=10**8,
            unit="row_groups",
            stop=1,
            num_rows=SHARD_ROWS,
        )
        for at in range(-(-num_rows // SHARD_ROWS))
    )
    placed = ShardPlan(shards=shards).placed({})
    planned = msgspec.json.encode([one.shard.id for one in placed])
    peak_mb = peak_memory_mb()
    print(
        f"{num_rows:,} rows: {len(placed):,} shards, {time.perf_counter() - start:.2f} s, plan.json "
        f"{len(planned) / 1e6:.2f} MB, {peak_mb} MB"
    )


if __name__ == "__main__":
    main()
