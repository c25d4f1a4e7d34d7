"""Detection without labels: `wirebert learn` on benign training rows, judged on rows that it never saw.

    python benchmarks/no_labels.py --data nsl_kdd unsw_nb15 ton_iot --seeds 1 2 3 4 5 --out no_labels.json
    python benchmarks/no_labels.py --data nsl_kdd --leave-attack-out --seeds 1 2 3 4 5

Each data set is split as its recipe says (equal rows stay on one side; TON_IoT without addresses and ports). Nothing but
benign training rows is learned from, or also a share of attack rows (`--contamination`), which keep their place among
them. Thresholds at 1 % and 0.1 % are those that so many benign validation rows exceed. The test rows are scored last.

With `--leave-attack-out` no test file is opened: every attack name of the training file with at least 50 rows is judged
against the benign validation rows. What wins there may be chosen.

Methods: the surprisal of one pass, the distance to the nearest kept flow, and both joined, all from one artifact.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from harness import DATA, write_figures
from jaxtyping import Bool, Float64

from wirebert.comparison.learned import fit_learned
from wirebert.config import RunConfig, find_recipe, resolve_learning, resolve_run
from wirebert.data.flows import FlowSubset, open_flows
from wirebert.encoding.matrix import concatenate
from wirebert.inference.detector import Detector
from wirebert.metrics.curves import OperatingCurve
from wirebert.run_folder import RunFolder
from wirebert.workflows.prepare import PreparedData, prepare, write_typed_rows

FILES = {
    "nsl_kdd": ("nsl-kdd/KDDTrain+.txt.gz", "nsl-kdd/KDDTest+.txt.gz"),
    "unsw_nb15": ("unsw-nb15/UNSW_NB15_training-set.csv.gz", None),
    "ton_iot": ("ton-iot/train_test_network.csv.gz", None),
}
RATES = (0.01, 0.001)
FEWEST_ROWS = 50

Scores = Mapping[str, Float64[np.ndarray, " flows"]]
Scorer = Callable[[pa.Table], Scores]
"""Method -> score of each flow of a table, the higher the more unusual."""


def some(rows: Bool[np.ndarray, " rows"], most: int, rng: np.random.Generator) -> Bool[np.ndarray, " rows"]:
    """At most so many of the rows; 0: all."""
    kept = np.zeros(len(rows), bool)
    kept[rng.permutation(np.flatnonzero(rows))[: most or len(rows)]] = True
    return kept


def scorer_of(detector: Detector) -> Scorer:
    """The scores of a learned detector, apart and joined."""

    def score(table: pa.Table) -> Scores:
        found = detector.score(table)
        assert found.attack_score is not None
        assert found.novelty is not None
        assert found.alert_score is not None
        return {
            "surprisal": found.attack_score.astype(np.float64),
            "distance": found.novelty,
            "joined": found.alert_score.astype(np.float64),
        }

    return score


def figures(
    benign: Float64[np.ndarray, " benign"],
    attacks: Mapping[str, Float64[np.ndarray, " flows"]],
    test_benign: Float64[np.ndarray, " flows"],
) -> dict[str, object]:
    """AUROC, detection by class at each rate, mean and worst, and the false positives on test rows.

    Args:
        benign: Scores of the benign validation rows, which set the thresholds.
        test_benign: Scores of the benign rows that attacks are ranked against.
    """
    everything = np.concatenate([test_benign, *attacks.values()])
    is_attack = np.arange(len(everything)) >= len(test_benign)
    found: dict[str, object] = {"auroc": OperatingCurve.of(everything, is_attack).auroc}
    for rate in RATES:
        threshold = np.sort(benign)[::-1][int(rate * len(benign))]
        by_class = {name: float((scores > threshold).mean()) for name, scores in attacks.items()}
        found[f"at {rate}"] = {
            "mean": float(np.mean(list(by_class.values()))),
            "worst": min(by_class.values()),
            "false positives": float((test_benign > threshold).mean()),
            "by class": by_class,
        }
    return found


def sides(
    name: str, run: RunConfig, data: PreparedData, *, leave_attack_out: bool, rng: np.random.Generator
) -> tuple[dict[str, pa.Table], str]:
    """Tables of the rows that are judged, by class or attack name; and the benign name."""
    benign, label = str(data.classes.benign), data.flows.require_label()
    if leave_attack_out:
        names = np.array([*data.profile.label_names, ""])[data.profile.labels]
        classes = np.array([*map(data.classes.class_of_label, data.profile.label_names), ""])
        is_attack = classes[data.profile.labels] != benign
        chosen = {
            one: some((names == one) & is_attack, 1000, rng)
            for one, count in data.profile.label_counts.items()
            if count >= FEWEST_ROWS and data.classes.class_of_label(one) != benign
        }
        return {
            one: concatenate(list(FlowSubset(one, data.flows, rows).tables())) for one, rows in chosen.items()
        }, benign
    part = data.test
    if part is None:
        part = FlowSubset(
            "test", open_flows(str(DATA / str(FILES[name][1])), run.data, schema=data.flows.schema)
        )
    table = concatenate(list(part.tables()))
    labels = table.column(label).to_pylist()
    classes = np.array([str(data.classes.class_of_label(str(one))) for one in labels])
    return {one: table.filter(pa.array(classes == one)) for one in np.unique(classes).tolist()}, benign


def judge(name: str, seed: int, options: argparse.Namespace) -> dict[str, object]:
    """The figures of all methods on one data set with one seed."""
    started = time.perf_counter()
    rng = np.random.default_rng(seed)
    given = {"train": str(DATA / FILES[name][0]), "seed": seed}
    run = resolve_run(find_recipe(name), (), given)
    epochs = {"training": {"epochs": options.epochs}} if options.epochs else {}
    learn_run = resolve_learning(None, options.overrides, {"seed": seed, **epochs})
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        rows = write_typed_rows(run, folder)
        data = prepare(run, rows)
        assert data.train.rows is not None
        assert data.valid.rows is not None
        classes = np.array([*map(data.classes.class_of_label, data.profile.label_names), ""])
        is_benign = classes[data.profile.labels] == data.classes.benign
        is_train = some(data.train.rows & is_benign, options.rows, rng)
        if options.contamination:
            share = options.contamination / (1 - options.contamination)
            is_train |= some(data.train.rows & ~is_benign, round(share * int(is_train.sum())), rng)
        detector, correlation = fit_learned(learn_run, rows.parsed, is_train, folder)
        score = scorer_of(detector)
        is_valid = some(data.valid.rows & is_benign, 20_000, rng)
        valid = score(concatenate(list(FlowSubset("valid", data.flows, is_valid).tables())))
        judged, benign = sides(name, run, data, leave_attack_out=options.leave_attack_out, rng=rng)
        scored = {one: score(table) for one, table in judged.items()}
    methods = {
        method: figures(
            valid[method],
            {one: scores[method] for one, scores in scored.items() if one != benign},
            scored[benign][method] if benign in scored else valid[method],
        )
        for method in valid
    }
    return {
        "data": name,
        "seed": seed,
        "num_train": int(is_train.sum()),
        "correlation": correlation,
        "seconds": round(time.perf_counter() - started, 1),
        "methods": methods,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Detection by `wirebert learn`, without labels.")
    parser.add_argument("--data", nargs="+", choices=sorted(FILES), default=sorted(FILES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1])
    parser.add_argument("--rows", type=int, default=20_000, help="benign training rows at most; 0: all")
    parser.add_argument(
        "--epochs", type=int, help="epochs of both trainings (default: as in `wirebert learn`)"
    )
    parser.add_argument(
        "--contamination", type=float, default=0.0, help="share of attacks among training rows"
    )
    parser.add_argument("--leave-attack-out", action="store_true", help="attacks of the training file only")
    parser.add_argument("--set", metavar="SETTING", action="append", default=[], dest="overrides")
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    options = parser.parse_args()
    results: list[dict[str, object]] = []
    for seed in options.seeds:
        for name in options.data:
            results.append(judge(name, seed, options))
            print(json.dumps(results[-1]), flush=True)
            write_figures(options.out, results=results)


if __name__ == "__main__":
    main()
