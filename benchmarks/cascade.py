"""Is a cascade of a small and a big model as good as the big one, and how fast is it?

    python benchmarks/cascade.py judge FOLDER [--valid] [--out result.json]
    python benchmarks/cascade.py speed [--share 0.14] [--rows N] [--out result.json]

`judge` reads the predictions of runs with equal rows and seeds, `FOLDER/NAME-base-SEED` and `FOLDER/NAME-mini-SEED`, each with
`valid.parquet` and `test.parquet`. The margin comes from the validation rows, without their labels; then the test rows are read.
Every row counts, equal ones too. Told are the means over seeds of macro-F1 and of TPR at 1 % FPR, and 95 % intervals of the paired
differences: rows are resampled, the same for all models and seeds, and attack names where the data has them. `--valid` reads no
test file and tells the share of rows for the big model.

`speed`: from the test file of NSL-KDD (generated traffic where there is none) to a CSV of verdicts, in one run: `mini`, `base` in
8 bits, and the cascade of the two. The weights are random, as time does not depend on what they say; the margin is the one that
gives the share of rows to the big model. Without the cache, with equal rows scored once and with each scored.
"""

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import score as scoring
from harness import traffic, write_figures
from pyarrow import parquet

from wirebert.data.flows import open_flows
from wirebert.decision.cascade_margin import CascadeMargin, choose_margin, class_gaps
from wirebert.encoding.token_rows import JaggedRows
from wirebert.evaluation.predictions_file import as_labelled_rows, read_predictions, read_probabilities
from wirebert.inference import detector as scorer
from wirebert.inference.artifact import load_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.engines import CASCADE
from wirebert.inference.score_cache import DistinctRows
from wirebert.metrics.registry import TPR_AT_1PCT_FPR
from wirebert.metrics.significance import paired_metrics, resample, seed_interval

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


def judge(
    folder: Path, name: str, seeds: Sequence[str], margins: Sequence[CascadeMargin]
) -> dict[str, list[float]]:
    """The cascade beside both models on the test rows of one data set."""
    path = folder / f"{name}-base-{seeds[0]}" / "test.parquet"
    rows, classes = read_predictions(path), classes_of(path)
    names = [*classes, *sorted(set(rows.true) - set(classes))]
    benign = next(name for name in classes if name.lower() in ("normal", "benign"))
    labelled = as_labelled_rows(rows, names, benign)
    scores: dict[str, list[np.ndarray]] = {kind: [] for kind in KINDS}
    shares: list[float] = []
    for seed, chosen in zip(seeds, margins, strict=True):
        small, big = (logs(folder / f"{name}-{size}-{seed}", "test") for size in ("mini", "base"))
        is_routed = class_gaps(small) < chosen.margin
        shares.append(float(is_routed.mean()))
        for kind, values in zip(KINDS, (big, small, np.where(is_routed[:, None], big, small)), strict=True):
            scores[kind].append(values)
    values = np.stack([one for kind in KINDS for one in scores[kind]])
    predicted = values.argmax(axis=2)
    # log-odds of an attack order rows as the attack score does, without its ties near 1
    attack = np.logaddexp.reduce(np.delete(values, classes.index(benign), axis=2), axis=2)
    attack -= values[:, :, classes.index(benign)]

    def by_kind(found: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(KINDS, found.reshape(len(KINDS), len(seeds), -1), strict=True))

    points = {key: by_kind(found) for key, found in paired_metrics(labelled, predicted, attack).items()}
    result: dict[str, list[float]] = {"share": shares, "margin": [one.margin for one in margins]}
    for by_cluster in (False, True) if labelled.has_clusters else (False,):
        drawn = resample(labelled, predicted, attack, by_cluster=by_cluster, seed=0)
        for key in METRICS:
            samples = {kind: found.mean(axis=0) for kind, found in by_kind(drawn[key]).items()}
            for other in ("base", "mini"):
                interval = np.percentile(samples["cascade"] - samples[other], (2.5, 97.5)).tolist()
                result[f"{key} - {other}, {'attacks' if by_cluster else 'rows'}"] = interval
    for key in METRICS:
        point = {kind: found[:, 0] for kind, found in points[key].items()}
        for kind in KINDS:
            result[f"{key} {kind}"] = [*point[kind].tolist(), float(point[kind].mean())]
        for other in ("base", "mini"):
            result[f"{key} - {other}, seeds"] = list(seed_interval(point["cascade"] - point[other]))
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


def detectors(folder: Path, train: Path, test: Path, share: float) -> Iterator[tuple[str, Detector]]:
    """What is timed."""
    models = {size: scoring.random_model(train, folder, size) for size in ("mini", "base")}
    for model in models.values():
        scoring.add_exports(model, train, is_trained=False)
    small, big = (load_artifact(models[size]) for size in ("mini", "base"))
    mini = Detector(small, backend="onnx", cache_mb=0)
    flows = open_flows(test, schema=mini.schema)
    gaps = np.concatenate([class_gaps(mini.logits(mini.encode(table))) for table in flows.blocks()])
    export = small.exports["onnx"]
    export = replace(export, about={**export.about, "margin": float(np.quantile(gaps, share))})
    yield "mini", mini
    yield "base, 8 bits", Detector(big, backend="onnx-int8", cache_mb=0)
    cascade = replace(big, exports={**big.exports, CASCADE: export})
    yield "cascade", Detector(cascade, backend=CASCADE, cache_mb=0)


def speed(options: argparse.Namespace) -> dict[str, object]:
    """Flows a second, from file to verdicts."""
    found: dict[str, object] = {}
    shared = scorer.distinct_rows
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        train, test = traffic(folder, scoring.GENERATED_ROWS)
        test = scoring.first_rows(test, options.rows, folder)
        for name, detector in detectors(folder, train, test, options.share):
            flows = open_flows(test, schema=detector.schema)
            num_flows = sum(table.num_rows for table in flows.blocks())
            for way, distinct in (("equal rows once", shared), ("each row", without_distinct)):
                scorer.distinct_rows = distinct
                before = detector.routed_counts or (0, 0)
                seconds = scoring.seconds(scoring.write_verdicts, detector, flows, folder / "verdicts.csv")
                after = detector.routed_counts or (0, 1)
                share = (after[0] - before[0]) / max(1, after[1] - before[1])
                found[f"{name}, {way}"] = {"flows_per_s": num_flows / seconds, "share": share}
                print(
                    f"{name:12} {way:16} {num_flows / seconds:9,.0f} flows/s, {share:.1%} by base", flush=True
                )
    scorer.distinct_rows = shared
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    ways = parser.add_subparsers(required=True)
    judging = ways.add_parser("judge")
    judging.add_argument("folder", type=Path)
    judging.add_argument("--valid", action="store_true", help="validation rows alone")
    judging.set_defaults(run=judge_all)
    timing = ways.add_parser("speed")
    timing.add_argument("--share", type=float, default=0.14)
    timing.add_argument("--rows", type=int)
    timing.set_defaults(run=speed)
    for way in (judging, timing):
        way.add_argument("--out", type=Path)
    options = parser.parse_args()
    figures = options.run(options)
    write_figures(options.out, **figures)


if __name__ == "__main__":
    main()
