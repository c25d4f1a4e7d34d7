"""Does pretraining on unlabelled rows help where labels are few? NSL-KDD, the mini model, from scratch and from pretraining.

    python benchmarks/pretraining.py --seeds 1 2 3 --fractions 0.01 0.1 1.0 --out runs/pretraining
    python benchmarks/pretraining.py --rows 6000 --seeds 1 --fractions 0.1 --train-set training.epochs=1 --out tiny   # a check

KDDTrain+ alone is read; no test file is opened. For each seed whole attack names are held out with a share of the benign rows
(`attacks`), and of the other rows a fifth, equal rows on one side (`rows`). The rest is what is pretrained on, without labels;
of its labels a fraction is given to both trainings, which are judged on the two held-out files. What is finished is not done
again, and an interrupted training goes on, so the same command continues. `results.json` has every figure, the table the
means, and of the differences the mean and the spread over seeds.

With --pretrain-set encoding.leave_out=false rows are full: give --train-set the same, for the training from scratch.
"""

import argparse
import gzip
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from machine import matrix_gflops

from wirebert.cli import main as wirebert
from wirebert.data.labels import fit_classes
from wirebert.data.loading import open_flows
from wirebert.data.splits import duplicate_safe_split
from wirebert.data.survey import survey
from wirebert.evaluation.folds import leave_attacks_out
from wirebert.files import write_whole

NUM_FOLDS = 3
HELD_OUT_ROWS = 0.2
JUDGED = ("rows", "attacks")
FIGURES = ("macro_f1", "accuracy", "binary_accuracy")


@dataclass(frozen=True, slots=True)
class Task:
    """One training of the comparison."""

    seed: int
    fraction: float
    start: str
    """`scratch` or `pretrained`."""

    @property
    def name(self) -> str:
        """Of its run folder."""
        return f"{self.start}-{self.fraction:g}"


def write_parts(source: Path, folder: Path, seed: int, fractions: Sequence[float], num_rows: int) -> None:
    """The files of one seed: what is pretrained on, what each fraction of the labels is of, and the two held-out files."""
    done = folder / "parts.json"
    asked = {"fractions": list(fractions), "rows": num_rows}
    if done.exists() and json.loads(done.read_text()) == asked:
        return
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    with gzip.open(source, "rt") as file:
        lines = np.array(file.read().splitlines())
    if num_rows and num_rows < len(lines):
        lines = lines[np.sort(random.choice(len(lines), num_rows, replace=False))]
    whole = folder / "all.txt"
    whole.write_text("\n".join(lines) + "\n")
    flows = open_flows(whole)
    seen = survey(flows)
    if seen.num_rows != len(lines):
        raise SystemExit(f"{source}: expected a row on every line, found {seen.num_rows} on {len(lines)}")
    classes = fit_classes(flows.schema, seen.label_counts)
    class_ids, names = seen.class_ids(classes), seen.labels.astype(np.int64)
    benign = classes.classes.index(classes.benign or "")
    folds = leave_attacks_out(names, class_ids, seen.feature_hashes, benign, num_folds=NUM_FOLDS, seed=seed)
    is_open, is_attacks = folds.train_and_held_out(seed % NUM_FOLDS)
    is_rows = np.zeros(len(lines), bool)
    is_rows[is_open] = duplicate_safe_split(
        seen.feature_hashes[is_open], class_ids[is_open], HELD_OUT_ROWS, seed
    )
    pool = np.flatnonzero(is_open & ~is_rows)
    lots = random.permutation(pool)
    parts = {"attacks": np.flatnonzero(is_attacks), "rows": np.flatnonzero(is_rows), "pool": pool}
    parts |= {
        f"labelled-{fraction:g}": np.sort(lots[: round(fraction * len(pool))]) for fraction in fractions
    }
    for name, rows in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(lines[rows]) + "\n")
    write_whole(done, json.dumps(asked))


def run(command: str, folder: Path, arguments: Sequence[str]) -> dict[str, Any]:
    """The report of a run, begun, gone on with, or found finished; with the seconds that this call took."""
    start = time.perf_counter()
    if not (folder / "report.json").exists():
        is_begun = (folder / "run.toml").exists()
        words = ["--resume", str(folder)] if is_begun else [*arguments, "--out", str(folder)]
        code = wirebert([command, *words])
        if code:
            raise SystemExit(code)
        print(f"{folder.name}: {time.perf_counter() - start:.0f} s", flush=True)
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))


def measure(task: Task, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """What one training ends with on the held-out files."""
    data = folder / "data"
    words = [str(data / f"labelled-{task.fraction:g}.txt"), "--seed", str(task.seed)]
    words += [word for name in JUDGED for word in ("--test", str(data / f"{name}.txt"))]
    start = ["--from", str(folder / "pretraining" / "model")] if task.start == "pretrained" else []
    own = [text for text in options.train_set if not (start and text.startswith("encoding."))]
    size = [] if start else ["model.size=mini"]
    fixed = [*size, "evaluation.baseline=false", "evaluation.num_resamples=100", "operating.unknown_flows=0"]
    words += [word for text in (*fixed, *own) for word in ("--set", text)]
    report = run("train", folder / task.name, [*words, *start])
    figures: dict[str, Any] = {"seed": task.seed, "fraction": task.fraction, "start": task.start}
    figures["training_s"] = report["timing"]["training"]
    figures["best_step"] = report["training"]["best step"]
    for name in JUDGED:
        split = report["splits"][name]
        figures[name] = {figure: split[figure] for figure in FIGURES}
        points = [point for point in split["operating_points"] if point["target_fpr"] == 0.01]
        figures[name] |= {key: points[0][key] for key in ("detection", "fpr") if points and key in points[0]}
    return figures


def told(values: Sequence[float]) -> str:
    """Mean, and spread over seeds."""
    spread = f" +- {stdev(values):.3f}" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def table(results: Sequence[dict[str, Any]]) -> str:
    """One line for each fraction and figure: from scratch, from pretraining, and the difference seed by seed."""
    lines = [
        "| labels | judged on | figure | scratch | pretrained | difference |",
        "|---|---|---|---|---|---|",
    ]
    found = {(one["fraction"], one["start"], one["seed"]): one for one in results}
    for fraction in sorted({one["fraction"] for one in results}):
        seeds = [
            seed
            for seed in sorted({one["seed"] for one in results})
            if all((fraction, start, seed) in found for start in ("scratch", "pretrained"))
        ]
        if not seeds:
            continue
        both = [[found[fraction, start, seed] for seed in seeds] for start in ("scratch", "pretrained")]
        for name in JUDGED:
            for figure in (*FIGURES, "detection"):
                values = [[one[name].get(figure) for one in side] for side in both]
                if None in (*values[0], *values[1]):
                    continue
                gains = [after - before for before, after in zip(*values, strict=True)]
                cells = [f"{fraction:g}", name, figure, *map(told, values), told(gains)]
                lines.append(f"| {' | '.join(cells)} |")
        times = [[one["training_s"] for one in side] for side in both]
        lines.append(f"| {fraction:g} | - | training, s | {' | '.join(map(told, times))} | - |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("WIREBERT_DATA", "../shared/data")))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.01, 0.1, 1.0])
    parser.add_argument("--rows", type=int, default=0, help="rows of the file to use (0: all)")
    parser.add_argument("--pretrain-set", action="append", default=[], help="as of `wirebert pretrain`")
    parser.add_argument("--train-set", action="append", default=[], help="as of `wirebert train`")
    parser.add_argument(
        "--minutes", type=float, default=0, help="begin nothing new after this time (0: no end)"
    )
    parser.add_argument("--out", type=Path, default=Path("runs/pretraining"))
    options = parser.parse_args()
    began = time.perf_counter()
    print(f"matrix product: {matrix_gflops():.0f} GFLOP/s")
    results: list[dict[str, Any]] = []
    pretrainings: list[dict[str, Any]] = []

    def is_over() -> bool:
        return 0 < options.minutes * 60 < time.perf_counter() - began

    for seed in options.seeds:
        if is_over():
            break
        folder = options.out / f"seed-{seed}"
        source = options.data / "nsl-kdd" / "KDDTrain+.txt.gz"
        write_parts(source, folder / "data", seed, options.fractions, options.rows)
        settings = [word for text in ("model.size=mini", *options.pretrain_set) for word in ("--set", text)]
        words = [str(folder / "data" / "pool.txt"), "--seed", str(seed), *settings]
        report = run("pretrain", folder / "pretraining", words)
        pretrainings.append({"seed": seed, **report["valid"], "training_s": report["timing"]["training"]})
        for fraction in options.fractions:
            for start in ("scratch", "pretrained"):
                if is_over():
                    break
                results.append(measure(Task(seed, fraction, start), folder, options))
                content = {"pretraining": pretrainings, "training": results}
                write_whole(options.out / "results.json", json.dumps(content, indent=1))
    text = table(results)
    write_whole(options.out / "table.md", text + "\n")
    print(json.dumps(pretrainings))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
