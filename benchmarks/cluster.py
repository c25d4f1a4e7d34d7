"""Work by shards: one process, a pool and Ray on the same files; bytes a flow; and the plan of a billion rows.

python benchmarks/cluster.py MODEL DATA --workers 2     # executors, same bytes checked
python benchmarks/cluster.py inspect DATA --workers 2   # the same of `inspect --json`
python benchmarks/cluster.py --plan 1000000000          # shard metadata alone
"""

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from wirebert.cluster.plan import SHARD_ROWS, Shard, ShardPlan
from wirebert.data.files import find_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?")
    parser.add_argument("data", nargs="?")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--executors", nargs="+", metavar="NAME", help="only these, such as pool")
    parser.add_argument("--plan", type=int, metavar="ROWS")
    options = parser.parse_args()
    if options.plan:
        time_plan(options.plan)
    if options.model == "inspect":
        compare_inspections(options.data, executors_of(options.workers, options.executors))
    elif options.model:
        compare_executors(options.model, options.data, executors_of(options.workers, options.executors))


def executors_of(workers: int, names: list[str] | None) -> dict[str, tuple[str, ...]]:
    """Name of each executor, and its options."""
    pool = ("--workers", str(workers))
    known = {"one process": (), "pool": pool, "Ray local": ("--cluster", "local", *pool)}
    return {name: known[name] for name in names or known}


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
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{num_rows:,} rows: {len(placed):,} shards, {time.perf_counter() - start:.2f} s, plan.json "
        f"{len(planned) / 1e6:.2f} MB, {peak_mb} MB"
    )


if __name__ == "__main__":
    main()
