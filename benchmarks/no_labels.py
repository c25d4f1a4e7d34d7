"""Detection without labels: `wirebert learn` and its rivals on the same rows of three data sets.

    python benchmarks/no_labels.py --seconds 540 --learn-jobs 4 --jobs 10 --out no_labels.json
    python benchmarks/no_labels.py --data nsl_kdd --protocols leave_attack_out --detectors learn nearest --seeds 1

A cell is one detector with one seed under one protocol of `wirebert compare` (`wirebert.comparison.detection`): fitted on
benign training rows only, or also a share of attacks; equal rows stay on one side of the split, TON_IoT has no addresses
and ports. The most important cells come first, and the file is written after each: what is interrupted keeps what it has.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from harness import DATA, write_figures

from wirebert.comparison.detection import DETECTORS, as_tables, detect, summarise
from wirebert.config import find_recipe, resolve_run
from wirebert.run_folder import RunFolder

FILES = {
    "nsl_kdd": ("nsl-kdd/KDDTrain+.txt.gz", ["nsl-kdd/KDDTest+.txt.gz"]),
    "unsw_nb15": ("unsw-nb15/UNSW_NB15_training-set.csv.gz", []),
    "ton_iot": ("ton-iot/train_test_network.csv.gz", []),
}


@dataclass(frozen=True)
class Cell:
    """One detector, fitted once."""

    data: str
    protocol: str
    contamination: float
    detector: str
    seed: int
    rows: int
    """Training rows at most."""


def judge(cell: Cell, threads: int) -> dict[str, Any]:
    """The figures of a cell."""
    started = time.perf_counter()
    torch.set_num_threads(threads)
    train, tests = FILES[cell.data]
    comparison = {
        "protocol": cell.protocol,
        "contamination": cell.contamination,
        "max_train_rows": cell.rows,
    }
    given = {
        "train": str(DATA / train),
        "test": [str(DATA / name) for name in tests if cell.protocol == "benign_only"],
        "seed": cell.seed,
        "comparison": comparison,
    }
    with tempfile.TemporaryDirectory() as place:
        run = resolve_run(find_recipe(cell.data), (), given)
        figures = detect(run, RunFolder(Path(place)), cell.detector)
    return {"seconds": round(time.perf_counter() - started, 1), "figures": figures}


def send_figures(to: Connection, cell: Cell, threads: int) -> None:
    """Judge a cell and send its figures, or the error."""
    try:
        to.send(judge(cell, threads))
    except Exception as error:
        to.send({"error": repr(error)})
        raise


def judge_apart(cell: Cell, threads: int, limit_s: float, running: set[SpawnProcess]) -> dict[str, Any]:
    """The figures of a cell, from a process of its own, which is killed after so many seconds."""
    spawn = get_context("spawn")
    receiver, sender = spawn.Pipe(duplex=False)
    process = spawn.Process(target=send_figures, args=(sender, cell, threads))
    process.start()
    running.add(process)
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit_s) else {"error": f"killed after {limit_s:g} s"}
    except EOFError:
        return {"error": "killed"}
    finally:
        process.kill()
        running.discard(process)


def cells(options: argparse.Namespace) -> list[Cell]:
    """All cells, the most important ones first."""
    shares = [
        (protocol, share)
        for share in options.contamination
        for protocol in options.protocols
        if protocol == "benign_only" or not share
    ]
    return [
        Cell(data, protocol, share, detector, seed, options.rows)
        for protocol, share in shares
        for seed in options.seeds
        for data in (options.data if protocol == "benign_only" else options.data[:1])
        for detector in options.detectors
    ]


def tables(results: list[dict[str, Any]]) -> str:
    """Markdown: a table of each data set, protocol and share of attacks."""
    groups: dict[tuple[Any, ...], dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for one in results:
        if "figures" in one:
            group = groups[one["data"], one["protocol"], one["contamination"]]
            group[one["detector"]].append(one["figures"])
    lines: list[str] = []
    for (data, protocol, share), runs in groups.items():
        found = [row for name, own in runs.items() for row in summarise(f"{name} ({len(own)})", own)]
        lines += [f"## {data}, {protocol}, {share:.0%} attacks", "", as_tables(found)]
    return "\n".join(lines)


def run_cells(options: argparse.Namespace) -> None:
    """Judge all cells, those of `learn` beside the rivals'."""
    learning, rivals = ThreadPoolExecutor(options.learn_jobs), ThreadPoolExecutor(options.jobs)
    started, running = time.perf_counter(), set[SpawnProcess]()
    results, waiting = list[dict[str, Any]](), dict[Future[dict[str, Any]], Cell]()
    for cell in cells(options):
        pool, threads = (learning, options.learn_threads) if cell.detector == "learn" else (rivals, 1)
        waiting[pool.submit(judge_apart, cell, threads, options.cell_seconds, running)] = cell
    try:
        for done in as_completed(waiting, timeout=options.seconds):
            found = done.result()
            results.append({**asdict(waiting[done]), **found})
            took = f"{found.get('seconds', '')} s, {time.perf_counter() - started:.0f} s in all"
            print(json.dumps(asdict(waiting[done])), found.get("error", ""), took, flush=True)
            write_figures(options.out, results=results)
    except TimeoutError:
        print(f"stopped after {options.seconds} s: {len(results)} of {len(waiting)} cells", flush=True)
    for pool in (learning, rivals):
        pool.shutdown(wait=False, cancel_futures=True)
    for process in [*running]:
        process.kill()
    print(tables(results))


def main() -> None:
    parser = argparse.ArgumentParser(description="`wirebert learn` and its rivals, without labels.")
    parser.add_argument("--data", nargs="+", choices=list(FILES), default=list(FILES))
    parser.add_argument(
        *("--protocols", "--protocol"), nargs="+", default=["benign_only", "leave_attack_out"],
        help="leave_attack_out judges the first data set alone",
    )  # fmt: skip
    parser.add_argument("--detectors", nargs="+", choices=list(DETECTORS), default=list(DETECTORS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    parser.add_argument("--contamination", nargs="+", type=float, default=[0.0, 0.05, 0.01])
    parser.add_argument("--rows", type=int, default=20_000, help="training rows at most")
    parser.add_argument("--jobs", type=int, default=1, help="rivals at a time")
    parser.add_argument("--learn-jobs", type=int, default=1, help="trainings of `learn` at a time")
    parser.add_argument("--learn-threads", type=int, default=1)
    parser.add_argument("--cell-seconds", type=int, default=600, help="a cell is killed after that")
    parser.add_argument("--seconds", type=float, default=100_000, help="all is ended after that")
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    run_cells(parser.parse_args())


if __name__ == "__main__":
    main()
