"""What a small model gains from a large one: a `base` teacher, a `mini` trained alone and a `mini` taught by it.

    python benchmarks/distill.py --out distill [--seeds 1 2 3] [--mini training.epochs=20] [--student NAME SETTING ...]

Uses NSL-KDD from the folder in WIREBERT_DATA (../shared/data without it): trained on KDDTrain+, judged on KDDTest+, all three
by recipes/nsl_kdd.toml on the same rows. Each --student is one more way of teaching, such as
`--student warm distillation.temperature=4 distillation.mix=0.9`; without one there is `default`. What is finished is not
done again, and what was interrupted goes on: the same command continues. A GPU is used where there is one; figures are
written to OUT/distill.json after every run. Flows/s are those of the model alone on the encoded KDDTest+, every row
scored, the best of some rounds.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch
from machine import matrix_gflops
from score import find_files, first_rows

from wirebert.data.loading import open_flows
from wirebert.serving.backends import TorchBackend
from wirebert.serving.cache import join_blocks
from wirebert.serving.detector import choose_device
from wirebert.teaching import Teacher

RECIPE = Path(__file__).parents[1] / "recipes" / "nsl_kdd.toml"
ROUNDS = 5


def settings(given: Sequence[str]) -> list[str]:
    """Settings as arguments of a command.

    >>> settings(["training.epochs=3"])
    ['--set', 'training.epochs=3']
    """
    return [word for setting in given for word in ("--set", setting)]


def finish(out: Path, command: str, arguments: Sequence[str]) -> Path:
    """The run folder of this command, brought to its end, whatever of it was done."""
    if not (out / "report.json").exists():
        has_begun = (out / "run.toml").exists()
        words = ["--resume", str(out)] if has_begun else [*arguments, "--out", str(out)]
        subprocess.run(
            [sys.executable, "-m", "wirebert.cli", command, *words], check=True, stdout=subprocess.DEVNULL
        )
    return out


def flows_per_s(model: Path, test: Path) -> float:
    """Flows that the model scores in a second, reading and encoding left out."""
    artifact = Teacher.load(model).artifact
    device = choose_device("auto")
    precision = "bf16" if device != "cpu" else "fp32"
    backend = TorchBackend(
        artifact.architecture, artifact.weights, device=device, precision=precision, max_tokens=None
    )
    blocks = [artifact.tokenizer.encode(table) for table in open_flows(test, schema=artifact.schema).blocks()]
    block = blocks[0]
    for other in blocks[1:]:
        block = join_blocks(block, other)
    seconds: list[float] = []
    for _ in range(ROUNDS if device != "cpu" else 2):
        start = time.perf_counter()
        backend.logits(block)  # ends with a copy to the processor, so it is waited for
        seconds.append(time.perf_counter() - start)
    return len(block) / min(seconds)


def figures(run: Path, test: Path) -> dict[str, Any]:
    """What is told of a finished run."""
    report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    split = report["splits"]["test"]
    told = {
        "macro_f1": split["macro_f1"],
        "accuracy": split["accuracy"],
        "binary_accuracy": split["binary_accuracy"],
        "valid_macro_f1": report["splits"]["valid"]["macro_f1"],
        "parameters": report["training"]["parameters"],
        "training_s": report["timing"]["training"],
        "flows_per_s": flows_per_s(run / "model", test),
    }
    if report.get("teacher"):
        told["teacher"] = {
            name: {"agreement": gap["agreement"], "macro_f1": gap["figures"]["macro_f1"]}
            for name, gap in report["teacher"]["splits"].items()
        }
    return told


def summary(runs: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """A line for each kind of run: means over its seeds, and how far they spread."""
    lines: list[str] = []
    for kind in names:
        own = [run for name, run in runs.items() if name.rpartition("-")[0] == kind]
        if not own:
            continue
        parts: list[str] = []
        for figure in ("macro_f1", "accuracy"):
            values = [run[figure] for run in own]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            parts.append(f"{figure} {mean(values):.3f}{spread}")
        speed = max(run["flows_per_s"] for run in own)
        gaps = [run["teacher"]["test"] for run in own if "teacher" in run]
        if gaps:
            short = mean(gap["macro_f1"]["student"] - gap["macro_f1"]["teacher"] for gap in gaps)
            parts.append(f"to teacher {short:+.3f}, agreement {mean(gap['agreement'] for gap in gaps):.3f}")
        lines.append(f"{kind:20} {len(own)} seeds  {'  '.join(parts)}  {speed:,.0f} flows/s")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description="A small model alone and taught, beside its teacher.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs and of distill.json")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--teacher", nargs="*", default=[], metavar="SETTING", help="settings of the teacher")
    parser.add_argument("--mini", nargs="*", default=[], metavar="SETTING", help="settings of both minis")
    parser.add_argument(
        "--student", nargs="+", action="append", metavar=("NAME", "SETTING"), help="a way of teaching"
    )
    parser.add_argument("--rows", type=int, help="the first rows of both files only")
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    train, test = (first_rows(path, options.rows, out) for path in find_files(out))
    ways: dict[str, list[str]] = {
        f"student-{name}": given for name, *given in options.student or [["default"]]
    }
    data = [str(train), "--test", str(test)]
    taught = ["--size", "mini", *settings(options.mini)]
    result: dict[str, Any] = {
        "data": train.name,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "matrix_gflops": matrix_gflops(),
        "versions": {"torch": torch.__version__, "numpy": np.__version__},
        "settings": {"teacher": options.teacher, "mini": options.mini, **ways},
        "runs": {},
    }
    for seed in options.seeds:
        how = ["--recipe", str(RECIPE), "--seed", str(seed)]
        teacher = finish(out / f"teacher-{seed}", "train", [*data, *how, *settings(options.teacher)])
        alone = ["--set", "model.size=mini", *settings(options.mini)]
        runs = [teacher, finish(out / f"alone-{seed}", "train", [*data, *how, *alone])]
        for name, given in ways.items():
            words = [str(teacher / "model"), *data, "--seed", str(seed), *taught, *settings(given)]
            runs.append(finish(out / f"{name}-{seed}", "distill", words))
        result["runs"] |= {run.name: figures(run, test) for run in runs}
        (out / "distill.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join(summary(result["runs"], ["teacher", "alone", *ways])))


if __name__ == "__main__":
    main()
