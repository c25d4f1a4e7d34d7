"""Is a cascade of a small and a big model as good as the big one, and how fast is it?

    python benchmarks/cascade.py judge FOLDER [--valid] [--out result.json]
    python benchmarks/cascade.py speed [--share 0.1 0.33] [--rows N] [--repeats 3] [--out result.json]

`judge` reads the predictions of runs with equal rows and seeds, `FOLDER/NAME-base-SEED` and `FOLDER/NAME-mini-SEED`, each with
`valid.parquet` and `test.parquet`. The margin comes from the validation rows, without their labels; then the test rows are read.
Every row counts, equal ones too. Told are the means over seeds of macro-F1 and of TPR at 1 % FPR, and 95 % intervals of the paired
differences: rows are resampled, the same for all models, attack names where the data has them, and seeds. `--valid` reads no
test file and tells the share of rows for the big model.

`speed`: from the test file of NSL-KDD (generated traffic where there is none) to a CSV of verdicts, in one run:
`mini`, `base` in 8 bits, and the cascade of the two. The weights are random, as time does not depend on what they
say. The margin is the one that gives a share of rows to `base`. Without the cache, with equal rows scored once and
with each scored.
"""

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import score as scoring
from harness import matrix_gflops, traffic, write_figures
from pyarrow import parquet

from wirebert.data.flows import open_flows
from wirebert.decision.cascade_margin import CascadeMargin, choose_margin, class_gaps
from wirebert.encoding.token_rows import JaggedRows
from wirebert.evaluation.predictions_file import as_labelled_rows, read_predictions, read_probabilities
from wirebert.inference import detector as scorer
from wirebert.inference.artifact import load_artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.engines import CASCADE
from wirebert.inference.score_cache import DistinctRows
from wirebert.metrics.registry import TPR_AT_1PCT_FPR
from wirebert.metrics.significance import LabelledRows, paired_metrics, resample, seed_interval

METRICS = ("macro_f1", TPR_AT_1PCT_FPR)
KINDS = ("base", "mini", "cascade")


def logs(folder: Path, split: str) -> np.ndarray:
    """Log-probabilities of a split, in the order of the file's columns."""
    path = folder / f"{split}.parquet"
    return np.log(read_probabilities(path, classes_of(path)).clip(1e-45))


def classes_of(path: Path) -> list[str]:
    return [name.removeprefix("p_") for name in parquet.read_schema(path).names if name.startswith("p_")]


def chosen_margins(folder: Path, name: str, seeds: Sequence[str]) -> list[CascadeMargin]:
    """The margin of each seed, from its validation rows."""
    return [
        choose_margin(*(logs(folder / f"{name}-{size}-{seed}", "valid") for size in ("mini", "base")))
        for seed in seeds
    ]


def read_seed(
    folder: Path, name: str, seed: str, margin: float
) -> tuple[LabelledRows, np.ndarray, np.ndarray, str]:
    """Labels, log-probabilities and log-odds of an attack of `KINDS` on the test rows of one seed, and their fingerprint."""
    path = folder / f"{name}-base-{seed}" / "test.parquet"
    rows, classes = read_predictions(path), classes_of(path)
    benign = next(name for name in classes if name.lower() in ("normal", "benign"))
    labelled = as_labelled_rows(rows, [*classes, *sorted(set(rows.true) - set(classes))], benign)
    small, big = (logs(folder / f"{name}-{size}-{seed}", "test") for size in ("mini", "base"))
    values = np.stack([big, small, np.where((class_gaps(small) < margin)[:, None], big, small)])
    # They order flows as attack scores do, without their ties near 1.
    attack = np.logaddexp.reduce(np.delete(values, classes.index(benign), axis=2), axis=2)
    return labelled, values, attack - values[:, :, classes.index(benign)], rows.fingerprint


def judge(
    folder: Path, name: str, seeds: Sequence[str], margins: Sequence[CascadeMargin]
) -> dict[str, list[float]]:
    """The cascade beside both models on the test rows of one data set; values are of each seed, then their mean."""
    result: dict[str, list[float]] = {"margin": [one.margin for one in margins], "share": []}
    points: dict[str, list[np.ndarray]] = {key: [] for key in METRICS}
    drawn: dict[tuple[str, str], list[np.ndarray]] = {}
    fingerprints: list[str] = []
    for seed, chosen in zip(seeds, margins, strict=True):
        labelled, values, attack, fingerprint = read_seed(folder, name, seed, chosen.margin)
        result["share"].append(float((class_gaps(values[1]) < chosen.margin).mean()))
        predicted = values.argmax(axis=2)
        fingerprints.append(fingerprint)
        number = fingerprints.index(fingerprint)  # seeds with equal rows share the resamples
        exact = paired_metrics(labelled, predicted, attack)
        for key in METRICS:
            points[key].append(exact[key])
        for by_cluster in (False, True) if labelled.has_clusters else (False,):
            resamples = resample(labelled, predicted, attack, by_cluster=by_cluster, seed=number)
            for key in METRICS:
                drawn.setdefault((key, "attacks" if by_cluster else "rows"), []).append(resamples[key])
    for key in METRICS:
        by_seed = np.stack(points[key])
        for kind, found in zip(KINDS, by_seed.T, strict=True):
            result[f"{key}, {kind}"] = [*found.tolist(), float(found.mean())]
        for other, found in zip(KINDS[:2], by_seed.T, strict=False):
            difference = by_seed[:, 2] - found
            result[f"{key}, cascade - {other}"] = [float(difference.mean())]
            result[f"{key}, cascade - {other}, seeds"] = list(seed_interval(difference))
    for (key, unit), found in drawn.items():
        means = np.mean(found, axis=0)
        for other, mean in zip(KINDS[:2], means, strict=False):
            result[f"{key}, cascade - {other}, {unit}"] = np.percentile(means[2] - mean, (2.5, 97.5)).tolist()
    return result


def judge_all(options: argparse.Namespace) -> dict[str, object]:
    found: dict[str, object] = {}
    folders = sorted(options.folder.glob("*-base-*"))
    for name in dict.fromkeys(folder.name.split("-base-")[0] for folder in folders):
        seeds = [
            folder.name.split("-base-")[1] for folder in folders if folder.name.startswith(f"{name}-base-")
        ]
        margins = chosen_margins(options.folder, name, seeds)
        for seed, one in zip(seeds, margins, strict=True):
            share = f"{one.share:.1%} of validation rows for base"
            print(f"{name} {seed}: margin {one.margin:.2f}, {share}, agreement {one.agreement:.4f}")
        if not options.valid:
            found[name] = result = judge(options.folder, name, seeds, margins)
            for key, figures in result.items():
                print(f"  {key}: {' '.join(f'{figure:.4f}' for figure in figures)}")
    return found


def without_distinct(block: JaggedRows, hashes: np.ndarray) -> DistinctRows:  # noqa: ARG001
    """Every row by itself."""
    return DistinctRows(np.arange(len(block)), np.arange(len(block)))


def detectors(
    folder: Path, train: Path, test: Path, shares: Sequence[float]
) -> Iterator[tuple[str, Detector]]:
    """What is timed."""
    models = {size: scoring.random_model(train, folder, size) for size in ("mini", "base")}
    # Random weights are sure of nothing: without this, many flows lie near the margin, and each is scored alone.
    known = load_artifact(models["mini"])
    weights = {
        name: weight * 100 if name == "classifier.weight" else weight
        for name, weight in known.weights.items()
    }
    save_artifact(replace(known, weights=weights), models["mini"], card="")
    for model in models.values():
        scoring.add_exports(model, train, is_trained=False)
    small, big = (load_artifact(models[size]) for size in ("mini", "base"))
    mini = Detector(small, backend="onnx", cache_mb=0)
    flows = open_flows(test, schema=mini.schema)
    gaps = np.concatenate([class_gaps(mini.logits(mini.encode(table))) for table in flows.blocks()])
    export = small.exports["onnx"]
    yield "mini", mini
    yield "base, 8 bits", Detector(big, backend="onnx-int8", cache_mb=0)
    for share in shares:
        export = replace(export, about={**export.about, "margin": float(np.quantile(gaps, share))})
        cascade = replace(big, exports={**big.exports, CASCADE: export})
        yield f"cascade {share}", Detector(cascade, backend=CASCADE, cache_mb=0)


def speed(options: argparse.Namespace) -> dict[str, object]:
    """Flows a second, from file to verdicts: medians of all ways in turns."""
    rates: dict[str, list[tuple[float, float, float]]] = {}
    shared = scorer.distinct_rows
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train, test = traffic(folder, scoring.GENERATED_ROWS)
        test = scoring.first_rows(test, options.rows, folder)
        timed = dict(detectors(folder, train, test, options.share))
        print(f"matrix product {matrix_gflops():.0f} GFLOP/s, load {os.getloadavg()[0]:.1f}", flush=True)
        turns = itertools.product(range(options.repeats), timed.items(), (True, False))
        for _, (name, detector), shares_rows in turns:
            scorer.distinct_rows = shared if shares_rows else without_distinct
            flows = open_flows(test, schema=detector.schema)
            before, cpu = detector.routed or (0, 0), time.process_time()
            seconds = scoring.seconds(scoring.write_verdicts, detector, flows, folder / "verdicts.csv")
            cpu, after = time.process_time() - cpu, detector.routed or (0, 1)
            num_flows = sum(table.num_rows for table in flows.blocks())
            share = (after[0] - before[0]) / max(1, after[1] - before[1])
            way = f"{name}, {'equal rows once' if shares_rows else 'each row'}"
            rates.setdefault(way, []).append((num_flows / seconds, num_flows / cpu, share))
        print(f"matrix product {matrix_gflops():.0f} GFLOP/s, load {os.getloadavg()[0]:.1f}")
    scorer.distinct_rows = shared
    found: dict[str, object] = {"rates": rates}
    for way, values in rates.items():
        wall, cpu, share = np.median(values, axis=0).tolist()
        print(f"{way:32} {wall:8,.0f} flows/s, {cpu:8,.0f} a second of CPU, {share:.1%} by base")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    ways = parser.add_subparsers(required=True)
    judging = ways.add_parser("judge")
    judging.add_argument("folder", type=Path)
    judging.add_argument("--valid", action="store_true", help="validation rows alone")
    judging.set_defaults(run=judge_all)
    timing = ways.add_parser("speed")
    timing.add_argument("--share", type=float, nargs="+", default=[0.1, 0.33])
    timing.add_argument("--rows", type=int)
    timing.add_argument("--repeats", type=int, default=3)
    timing.set_defaults(run=speed)
    for way in (judging, timing):
        way.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = options.run(options)
    write_figures(options.out, **figures)


if __name__ == "__main__":
    main()
