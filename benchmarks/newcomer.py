"""A newcomer's minutes: from an installed environment to verdicts on a CSV that wirebert has never seen.

    python benchmarks/newcomer.py --rows 5000

Twice, each in new processes: two commands (`train`, `predict`), and five lines of Python. The CSV is generated, with
other column names than any schema knows. The seconds are those of the wall and of the processor, and the import of
`wirebert` alone is the least of five.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pyarrow import csv

from wirebert.data.synthetic import generate

NAMES = {"src_ip": "client", "dst_ip": "server", "duration_s": "seconds", "label": "what"}
PYTHON = """
import wirebert as wb
detector = wb.train("flows.csv", label="what", test_fraction=0.3, size="mini", out="runs/python", verbose=False)
print(detector.report())
verdicts = detector.predict("new.csv")
print(verdicts.select(["predicted_class", "attack_score", "verdict"]).slice(0, 3).to_pylist())
"""
TRAIN = "train flows.csv --label what --set data.test_fraction=0.3 --set model.size=mini --out runs/commands"
PREDICT = "predict runs/commands new.csv --out verdicts.csv"
IMPORT = "import time; start = time.perf_counter(); import wirebert; print(time.perf_counter() - start)"


def write_table(path: Path, num_rows: int, seed: int) -> None:
    """Generated flows under names of their own; the label is last, and `new.csv` has none."""
    table = next(generate(num_rows, seed, block_rows=num_rows))
    table = table.rename_columns([NAMES.get(name, name) for name in table.column_names])
    csv.write_csv(table.drop_columns(["what"]) if path.stem == "new" else table, path)


def timed(arguments: list[str], folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of a process."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, *arguments], cwd=folder, check=True, capture_output=True)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=5000, help="labelled flows")
    options = parser.parse_args()
    imports = min(
        float(
            subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(5)
    )
    print(f"import wirebert: {1000 * imports:.0f} ms")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_table(folder / "flows.csv", options.rows, seed=1)
        write_table(folder / "new.csv", options.rows, seed=2)
        programs = {
            "two commands": [["-m", "wirebert", *TRAIN.split()], ["-m", "wirebert", *PREDICT.split()]],
            "five lines of Python": [["-W", "ignore", "-c", PYTHON]],
        }
        for name, processes in programs.items():
            seconds = [timed(arguments, folder) for arguments in processes]
            wall, used = (sum(column) for column in zip(*seconds, strict=True))
            print(f"{name}: {wall:.0f} s, of which {used:.0f} s of the processor")


if __name__ == "__main__":
    main()
