"""CPU seconds and peak memory of short commands, beside those of importing what any of them needs.

    python benchmarks/start.py [--model RUN]... [--rounds 5]

Each program runs in a process of its own, in turns; told is the mean of all rounds. With --model, one row of generated
traffic is scored with that model; --base adds a `base` model with random weights, exported in 8 bits.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

IMPORTS = "import numpy, pyarrow, pyarrow.parquet, rich"
CHILD = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
assert done.returncode == 0, done.stderr
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""


def measured(arguments: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of one Python process."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", CHILD, sys.executable, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    cpu_s, memory_mb = json.loads(done.stdout)
    return cpu_s, memory_mb


def export_base(folder: Path, traffic: Path) -> Path:
    """A `base` model with random weights for the columns of `traffic`, with its export in 8 bits."""
    from wirebert.cli.main import main

    settings = ("training.epochs=1", "evaluation.baseline=false", "model.size=base")
    words = [word for setting in settings for word in ("--set", setting)]
    assert main(["train", str(traffic), "--recipe", "none", "--out", str(folder), *words]) == 0
    assert main(["export", str(folder), "--int8"]) == 0
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", action="append", default=[], help="run folder to score one row with")
    parser.add_argument("--base", action="store_true", help="also score one row with `base` in 8 bits")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    from wirebert.data.synthetic import write_csv

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        rows, row, traffic = (folder / name for name in ("rows.csv", "row.csv", "traffic.csv"))
        write_csv(traffic, 1_000, 1)
        lines = traffic.read_text(encoding="utf-8").splitlines(keepends=True)
        rows.write_text("".join(lines[:21]), encoding="utf-8")
        row.write_text("".join(lines[:2]), encoding="utf-8")
        models = [
            *map(Path, options.model),
            *([export_base(folder / "base", traffic)] if options.base else []),
        ]
        programs = {
            "imports": ["-c", IMPORTS],
            "--help": ["-m", "wirebert", "--help"],
            "datasets list": ["-m", "wirebert", "datasets", "list"],
            "inspect, 20 lines": ["-m", "wirebert", "inspect", str(rows)],
            **{
                f"predict, 1 row, {model.name}": ["-m", "wirebert", "predict", str(model), str(row)]
                for model in models
            },
        }
        runs = [
            {name: measured(arguments) for name, arguments in programs.items()} for _ in range(options.rounds)
        ]
    base = statistics.mean(run["imports"][0] for run in runs)
    print("| program | CPU seconds | times the imports | peak memory in MB |\n|---|---|---|---|")
    for name in programs:
        cpu_s = statistics.mean(run[name][0] for run in runs)
        print(f"| {name} | {cpu_s:.3f} | {cpu_s / base:.2f} | {max(run[name][1] for run in runs):.0f} |")


if __name__ == "__main__":
    main()
