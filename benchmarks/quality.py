"""How good are the frozen recipes, beside other methods on the same rows? Every public data set in one command.

`python benchmarks/quality.py --data FOLDER --out runs/quality --jobs 8` runs the protocol of each recipe (`wirebert compare`)
and writes `quality.md`, the table of all of them. What is done is not done again, so a run that was stopped goes on.
`python benchmarks/quality.py --freeze` writes the recipes' hashes to `src/wirebert/recipes/frozen.json` after a recipe was changed on purpose.
"""

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import DATA, matrix_gflops

from wirebert.cli.main import main as wirebert

RECIPES = Path(__file__).resolve().parent.parent / "src" / "wirebert" / "recipes"


@dataclass(frozen=True, slots=True)
class DataSet:
    """Where a data set lies in the folder of all data sets; without tests the recipe sets rows apart."""

    train: str
    tests: Sequence[str] = ()


SETS = {
    "nsl_kdd": DataSet("nsl-kdd/KDDTrain+.txt.gz", ["nsl-kdd/KDDTest+.txt.gz", "nsl-kdd/KDDTest-21.txt.gz"]),
    "unsw_nb15": DataSet("unsw-nb15/UNSW_NB15_training-set.csv.gz"),
    "ton_iot": DataSet("ton-iot/train_test_network.csv.gz"),
    "http_params": DataSet("http-params/payload_train.csv", ["http-params/payload_test.csv"]),
}


def frozen() -> dict[str, str]:
    """The hash of each recipe as it stands."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(RECIPES.glob("*.toml"))
    }


def compare(name: str, data: Path, out: Path, jobs: int, overrides: Sequence[str]) -> int:
    """The protocol of one recipe; the exit code of `wirebert compare`."""
    chosen = SETS[name]
    tests = [word for test in chosen.tests for word in ("--test", str(data / test))]
    settings = [word for override in overrides for word in ("--set", override)]
    recipe = ["--recipe", str(RECIPES / f"{name}.toml"), *settings]
    where = ["--out", str(out / name), "--jobs", str(jobs)]
    return wirebert(["compare", str(data / chosen.train), *tests, *recipe, *where])


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--out", type=Path, default=Path("runs/quality"))
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--only", choices=SETS, action="append", default=[], help="these data sets alone")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], help="as of `wirebert compare`"
    )
    parser.add_argument("--freeze", action="store_true", help="write recipes/frozen.json, and nothing else")
    options = parser.parse_args()
    if options.freeze:
        (RECIPES / "frozen.json").write_text(json.dumps(frozen(), indent=1) + "\n", encoding="utf-8")
        return 0
    changed = frozen() != json.loads((RECIPES / "frozen.json").read_text(encoding="utf-8"))
    if changed or options.overrides:
        print("NOTE: these are not the frozen recipes; their figures belong into docs/experiments.md only")
    print(f"matrix product: {matrix_gflops():.0f} GFLOP/s")
    for name in options.only or SETS:
        code = compare(name, options.data, options.out, options.jobs, options.overrides)
        if code:
            return code
    done = [name for name in SETS if (options.out / name / "compare.md").exists()]
    tables = [
        f"## {name}\n\n{(options.out / name / 'compare.md').read_text(encoding='utf-8')}" for name in done
    ]
    (options.out / "quality.md").write_text("\n".join(tables), encoding="utf-8")
    print(options.out / "quality.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())
