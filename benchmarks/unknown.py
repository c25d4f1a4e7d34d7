"""Attacks that training has never seen: who notices them, attack name by attack name.

    python benchmarks/unknown.py --jobs 8 --out unknown.json
    python benchmarks/unknown.py --names warezclient satan --epochs 1 --rows 20000
    python benchmarks/unknown.py --set distillation.teacher=gbdt --set distillation.augmentation_factor=2 --seeds 1 2 3 4 5 --jobs 8

Leave-attack-out on a labelled file (NSL-KDD's training file in WIREBERT_DATA, ../shared/data without it). For every attack
name with at least 50 rows a model is trained, and every rival fitted, without a single row of that name. Then each score
has to tell the rows of that name from benign validation rows, which nothing was trained on: detection at 1 % false
positives, and AUROC. No test file is opened, so what wins here may be chosen.

A name is judged in a process of its own. Thresholds at 1 % are read off the benign validation rows themselves, for all
methods alike: this measures the order of scores, not how well a threshold carries over.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Float32, Float64, Int64
from rich.console import Console
from sklearn.ensemble import IsolationForest

from wirebert.baselines.fitted import fit_columns
from wirebert.config import RunConfig, find_recipe, resolve_run
from wirebert.data.flows import FlowSubset
from wirebert.data.labels import UNLABELLED
from wirebert.decision.alert_score import neg_log_p_value
from wirebert.decision.calibration import softmax
from wirebert.decision.config import DecisionConfig
from wirebert.decision.novelty import ColumnSpace, Neighbours
from wirebert.encoding.matrix import concatenate, extract_features
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import by_length
from wirebert.inference.detector import choose_device
from wirebert.metrics.curves import OperatingCurve
from wirebert.model.batches import pad
from wirebert.model.distilbert import DistilBert
from wirebert.run_folder import RunFolder
from wirebert.workflows.fit import train_model
from wirebert.workflows.prepare import PreparedData, encode, prepare, write_typed_rows
from wirebert.workflows.report import RunLog

FEWEST_ROWS = 50
FALSE_POSITIVE_RATE = 0.01
RIDGE = 1e-3
"""Added to a covariance's diagonal, as a share of its mean: directions in which training flows do not differ."""
ROWS_AT_ONCE = 4096
MOST_LEFT_OUT = 10_000
"""Rows of the name that are judged at most; neptune has 41,214."""

Scores = dict[str, Float64[np.ndarray, " flows"]]
"""Method -> score of each flow, the higher the more of an attack."""


@dataclass(frozen=True)
class Task:
    """One name left out of one training."""

    name: str
    seed: int
    run: RunConfig
    rows: int
    """Training rows at most; 0: all."""
    kept: int
    """Training flows that stand for all where the number is bounded."""
    scores: Path | None
    """Where the scores of each flow are kept."""
    threads: int


@dataclass(frozen=True)
class Sides:
    """Training rows, benign validation rows and rows of the name that was left out."""

    train: FlowSubset
    benign: FlowSubset
    left_out: FlowSubset


def names_of(run: RunConfig, folder: RunFolder) -> dict[str, int]:
    """Attack names with rows enough, and their rows."""
    data = prepare(run, write_typed_rows(run, folder))
    benign = data.classes.benign
    assert benign is not None, "the data set has to have a benign class"
    return {
        name: count
        for name, count in sorted(data.profile.label_counts.items())
        if count >= FEWEST_ROWS and data.classes.class_of_label(name) != benign
    }


def judge_name(task: Task) -> dict[str, object]:
    """Detection and AUROC of every method on one name."""
    torch.set_num_threads(task.threads)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place))
        data = prepare(task.run, write_typed_rows(task.run, folder))
        data, sides = leave_out(data, task)
        rng = np.random.default_rng(task.seed)
        benign, attack = {}, {}
        for found in (
            model_scores(task, folder, data, sides),
            tree_scores(task, data, sides),
            column_scores(task, data, sides, rng),
        ):
            benign |= found[0]
            attack |= found[1]
    if task.scores is not None:
        keep(task.scores / f"{task.name}-{task.seed}.npz", {"benign": benign, "left out": attack})
    for name, parts in COMBINED.items():
        if not benign.keys() >= set(parts):
            continue  # no teacher
        benign[name] = sum((neg_log_p_value(benign[part], benign[part]) for part in parts), np.zeros(1))
        attack[name] = sum((neg_log_p_value(benign[part], attack[part]) for part in parts), np.zeros(1))
    return {
        "name": task.name,
        "seed": task.seed,
        "num_train": int(sides.train.rows.sum()) if sides.train.rows is not None else 0,
        "num_benign": len(next(iter(benign.values()))),
        "num_left_out": len(next(iter(attack.values()))),
        "seconds": round(time.perf_counter() - started, 1),
        "methods": {name: figures(benign[name], attack[name]) for name in benign},
    }


COMBINED = {
    f"{who} 1-P(benign) and {times}{near}": (f"{who} 1-P(benign)", *([near] * count))
    for who in ("model", "teacher", "trees")
    for near in ("columns near, bounded", "columns near benign")
    for count, times in ((1, ""), (2, "twice "))
} | {
    "model 1-P(benign) and flow near": ("model 1-P(benign)", "flow near"),
    "model 1-P(benign), columns near and embedding near": (
        "model 1-P(benign)",
        "columns near, bounded",
        "embedding near",
    ),
}
"""Several scores in one: their surprise added up (`wirebert.decision.alert_score`). The trees get what the model gets; the
product joins the model's with the bounded one, `decision.novelty_weight` times."""


def keep(path: Path, sides: Mapping[str, Scores]) -> None:
    """Write the scores of each flow, as `side/method`, for looking at how they could be joined."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        path,
        allow_pickle=False,
        **{
            f"{side}/{method}": values.astype(np.float32)
            for side, scores in sides.items()
            for method, values in scores.items()
        },
    )


def figures(
    benign: Float64[np.ndarray, " benign"], attack: Float64[np.ndarray, " attack"]
) -> dict[str, float | None]:
    """Detection at 1 % false positives, and AUROC."""
    is_attack = np.arange(len(benign) + len(attack)) >= len(benign)
    curve = OperatingCurve.of(np.concatenate([benign, attack]), is_attack)
    return {"detection": curve.tpr_at_fpr(FALSE_POSITIVE_RATE), "auroc": curve.auroc}


def leave_out(data: PreparedData, task: Task) -> tuple[PreparedData, Sides]:
    """The data without a row of the name, and what is judged."""
    rng = np.random.default_rng(task.seed)
    labels = np.array([*data.profile.label_names, ""])[data.profile.labels]
    is_left = labels == task.name
    classes = np.array([data.classes.class_of_label(name) for name in data.profile.label_names] + [""])
    is_benign = classes[data.profile.labels] == data.classes.benign
    assert data.train.rows is not None
    assert data.valid.rows is not None
    is_train, is_valid = data.train.rows & ~is_left, data.valid.rows & ~is_left
    if task.rows:
        is_train &= chosen(is_train, task.rows, rng)
    train, valid = FlowSubset("train", data.flows, is_train), FlowSubset("valid", data.flows, is_valid)
    sides = Sides(
        train,
        FlowSubset("benign", data.flows, is_valid & is_benign),
        FlowSubset("left_out", data.flows, chosen(is_left, MOST_LEFT_OUT, rng)),
    )
    return replace(data, train=train, valid=valid), sides


def chosen(rows: Bool[np.ndarray, " rows"], most: int, rng: np.random.Generator) -> Bool[np.ndarray, " rows"]:
    """At most so many of the rows."""
    kept = np.zeros(len(rows), bool)
    kept[rng.permutation(np.flatnonzero(rows))[:most]] = True
    return kept


def model_scores(task: Task, folder: RunFolder, data: PreparedData, sides: Sides) -> tuple[Scores, Scores]:
    """What the model's probabilities, logits and flow vectors say."""
    with open(os.devnull, "w", encoding="utf-8") as nowhere:  # noqa: PTH123 -- the null device
        trained = train_model(task.run, data, folder, RunLog(Console(file=nowhere)))
    run, model, tokenizer = trained.run, trained.model, trained.tokenizer
    parts = [data.train, sides.benign, sides.left_out]
    train, benign, left = (encode(part, data, tokenizer, folder.encoded) for part in parts)
    device = choose_device(run.training.device)
    points = flow_vectors(model, train, device)
    benign_id = data.classes.classes.index(data.classes.benign or "")
    is_benign = np.asarray(train.class_ids) == benign_id
    by_class = Gaussians.fit(points, np.asarray(train.class_ids))
    near = Neighbours.fit(points, len(points), task.seed)
    near_benign = Neighbours.fit(points[is_benign], len(points), task.seed)
    bounded = Neighbours.fit(points, task.kept, task.seed)
    table = model.embeddings.folded().detach().cpu().numpy()
    near_tokens = Neighbours.fit(token_sums(train, table), len(points), task.seed)

    def scores(flows: EncodedFlows) -> Scores:
        vectors = flow_vectors(model, flows, device)
        with torch.inference_mode():
            logits = model.head(torch.from_numpy(vectors).to(device)).double().cpu().numpy()
        probabilities = softmax(logits)
        teacher = {}
        if trained.distillation.fitted_teacher is not None:
            teacher = {
                "teacher 1-P(benign)": 1
                - trained.distillation.fitted_teacher().predict_encoded(flows.block)[:, benign_id]
            }
        return teacher | {
            "model 1-P(benign)": 1 - probabilities[:, benign_id],
            "model 1-max": unsureness(probabilities),
            "model energy": energy(logits),
            "flow Mahalanobis": by_class.distances(vectors),
            "flow Mahalanobis, relative": by_class.relative_distances(vectors),
            "flow near": near.distances(vectors),
            "flow near, bounded": bounded.distances(vectors),
            "flow near benign": near_benign.distances(vectors),
            "embedding near": near_tokens.distances(token_sums(flows, table)),
        }

    return scores(benign), scores(left)


def energy(logits: Float[np.ndarray, "flows classes"]) -> Float64[np.ndarray, " flows"]:
    """Minus the logarithm of the summed exponentials: high where no class speaks for the flow.

    Source: Liu et al., "Energy-based out-of-distribution detection", NeurIPS 2020, equation 4, temperature 1.

    >>> energy(np.array([[0.0, 0.0], [9.0, 0.0]])).round(3)
    array([-0.693, -9.   ])
    """
    wide = logits.astype(np.float64)
    top = wide.max(axis=1)
    return -(top + np.log(np.exp(wide - top[:, None]).sum(axis=1)))


def unsureness(probabilities: Float[np.ndarray, "flows classes"]) -> Float64[np.ndarray, " flows"]:
    """1 - the largest probability.

    Source: Hendrycks & Gimpel, "A baseline for detecting misclassified and out-of-distribution examples", ICLR 2017.
    """
    return 1.0 - probabilities.astype(np.float64).max(axis=1)


@dataclass(frozen=True, slots=True)
class Gaussians:
    """One normal distribution per class, all of one covariance, and one of all flows: Mahalanobis distances.

    Source: Lee et al., "A simple unified framework for detecting out-of-distribution samples and adversarial attacks",
    NeurIPS 2018, section 2.1; Ren et al., "A simple fix to Mahalanobis distance for improving near-OOD detection", 2021.
    """

    means: Float64[np.ndarray, "known dims"]
    """Of each class that training flows show."""
    whitening: Float64[np.ndarray, "dims dims"]
    """Turns a difference from a class's mean into one whose squared length is the squared distance."""
    overall_mean: Float64[np.ndarray, " dims"]
    overall_whitening: Float64[np.ndarray, "dims dims"]

    @staticmethod
    def fit(features: Float[np.ndarray, "flows dims"], class_ids: Int64[np.ndarray, " flows"]) -> "Gaussians":
        """The distributions of these training flows, of which there is at least one."""
        wide = features.astype(np.float64)
        known, group = np.unique(class_ids, return_inverse=True)
        means = np.eye(len(known))[:, group] @ wide / np.bincount(group)[:, None]
        overall = wide.mean(axis=0)
        return Gaussians(means, whitening_of(wide - means[group]), overall, whitening_of(wide - overall))

    def distances(self, features: Float[np.ndarray, "flows dims"]) -> Float64[np.ndarray, " flows"]:
        """Squared distance from the nearest class."""
        found = [nearest(wide, self.means, self.whitening) for wide in portions(features)]
        return np.concatenate([np.empty(0), *found])

    def relative_distances(self, features: Float[np.ndarray, "flows dims"]) -> Float64[np.ndarray, " flows"]:
        """The same, less the squared distance from all flows taken together: what is unusual for every class alike."""
        found = [
            nearest(wide, self.means, self.whitening)
            - nearest(wide, self.overall_mean[None], self.overall_whitening)
            for wide in portions(features)
        ]
        return np.concatenate([np.empty(0), *found])


def portions(features: Float[np.ndarray, "flows dims"]) -> Iterator[Float64[np.ndarray, "some dims"]]:
    for first in range(0, len(features), ROWS_AT_ONCE):
        yield features[first : first + ROWS_AT_ONCE].astype(np.float64)


def nearest(
    features: Float64[np.ndarray, "flows dims"],
    means: Float64[np.ndarray, "known dims"],
    whitening: Float64[np.ndarray, "dims dims"],
) -> Float64[np.ndarray, " flows"]:
    """Squared whitened distance from the nearest mean."""
    white, centres = features @ whitening, means @ whitening
    squared = (white**2).sum(axis=1)[:, None] - 2 * white @ centres.T + (centres**2).sum(axis=1)
    return squared.min(axis=1).clip(0)


def whitening_of(differences: Float64[np.ndarray, "flows dims"]) -> Float64[np.ndarray, "dims dims"]:
    covariance = differences.T @ differences / len(differences)
    spread = float(np.trace(covariance)) / len(covariance) or 1.0
    covariance[np.diag_indices_from(covariance)] += RIDGE * spread
    values, vectors = np.linalg.eigh(covariance)
    return vectors / np.sqrt(values)


def flow_vectors(model: DistilBert, flows: EncodedFlows, device: str) -> Float32[np.ndarray, "flows dims"]:
    """What the head reads: the `[CLS]` slot after the last block."""
    model.to(device).eval()
    found = np.empty((len(flows), model.architecture.dim), np.float32)
    with torch.inference_mode():
        for rows in by_length(np.diff(flows.offsets), 65_536):
            ids, mask = pad(flows, rows, pad_id=model.architecture.pad_id)
            mask = None if mask is None else mask.to(device)
            vectors = model.encode(model.embeddings(ids.to(device)), mask)
            found[rows] = vectors.float().cpu().numpy()
    return found


def token_sums(
    flows: EncodedFlows, table: Float32[np.ndarray, "vocabulary dims"]
) -> Float32[np.ndarray, "flows dims"]:
    """The sum of each flow's token embeddings, before any block."""
    return np.add.reduceat(table[flows.ids], flows.offsets[:-1], axis=0)


def tree_scores(task: Task, data: PreparedData, sides: Sides) -> tuple[Scores, Scores]:
    """What boosted trees say."""
    label = data.flows.require_label()
    blocks = ((table, data.classes.encode(table.column(label))) for table in sides.train.tables())
    trees = fit_columns("gbdt", {}, blocks, data.flows.schema, len(data.classes.classes), seed=task.seed)
    benign_id = data.classes.classes.index(data.classes.benign or "")

    def scores(part: FlowSubset) -> Scores:
        probabilities = np.concatenate([trees.predict_proba(table) for table in part.tables()])
        return {
            "trees 1-P(benign)": 1 - probabilities[:, benign_id],
            "trees 1-max": unsureness(probabilities),
        }

    return scores(sides.benign), scores(sides.left_out)


def column_scores(
    task: Task, data: PreparedData, sides: Sides, rng: np.random.Generator
) -> tuple[Scores, Scores]:
    """What methods without a model say of standardised columns."""
    schema, label = sides.train.flows.schema, sides.train.flows.require_label()
    tables = {
        name: concatenate([extract_features(table, schema) for table in part.tables()])
        for name, part in {"train": sides.train, "benign": sides.benign, "left": sides.left_out}.items()
    }
    codes = np.concatenate([codes_of(table.column(label)) for table in sides.train.tables()])
    classes = np.concatenate([data.classes.encode(table.column(label)) for table in sides.train.tables()])
    is_benign = classes == data.classes.classes.index(data.classes.benign or "")
    found: dict[str, Scores] = {"benign": {}, "left": {}}
    space = ColumnSpace.fit(tables["train"])
    plain = ColumnSpace.fit(tables["train"], logarithms=False)
    for title, one in {"columns": space, "plain columns": plain}.items():
        points = {name: one.points(table) for name, table in tables.items()}
        methods = {
            "near": Neighbours.fit(points["train"], len(points["train"]), task.seed).distances,
            "near benign": Neighbours.fit(points["train"][is_benign], len(is_benign), task.seed).distances,
            "near, bounded": Neighbours.fit(points["train"], task.kept, task.seed).distances,
            "Mahalanobis": Gaussians.fit(points["train"], codes).distances,
            "isolation forest": isolation(points["train"], int(rng.integers(2**31))),
        }
        for name, method in methods.items():
            for side, scores in found.items():
                scores[f"{title} {name}"] = method(points[side])
    return found["benign"], found["left"]


def codes_of(labels: pa.ChunkedArray) -> Int64[np.ndarray, " flows"]:
    """A number for each label that is the same in every block."""
    texts = np.array(["" if text is None else text for text in labels.to_pylist()])
    known, index = np.unique(texts, return_inverse=True)
    numbers = np.array([int.from_bytes(text.encode()[:7], "big") if text else UNLABELLED for text in known])
    return numbers[index].astype(np.int64)


def isolation(
    points: Float32[np.ndarray, "flows dims"], seed: int
) -> Callable[..., Float64[np.ndarray, " flows"]]:
    """Isolation forest, as scikit-learn has it."""
    forest = IsolationForest(n_estimators=200, random_state=seed).fit(points)

    def scores(some: Float32[np.ndarray, "flows dims"]) -> Float64[np.ndarray, " flows"]:
        return -forest.score_samples(some)

    return scores


def summary(results: list[dict[str, object]]) -> dict[str, Mapping[str, float]]:
    """Method -> mean and worst over names, each name the mean of its seeds."""
    by_method: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for result in results:
        for method, figure in result["methods"].items():  # pyright: ignore[reportAttributeAccessIssue]
            names = by_method.setdefault(method, {})
            names.setdefault(str(result["name"]), []).append((figure["detection"], figure["auroc"]))
    table: dict[str, Mapping[str, float]] = {}
    for method, names in by_method.items():
        means = np.array([np.mean(np.array(seeds), axis=0) for seeds in names.values()])
        table[method] = {
            "mean_detection": float(means[:, 0].mean()),
            "worst_detection": float(means[:, 0].min()),
            "mean_auroc": float(means[:, 1].mean()),
            "worst_auroc": float(means[:, 1].min()),
        }
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description="Leave-attack-out detection of every attack name.")
    default = Path(os.environ.get("WIREBERT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", default=str(default / "nsl-kdd" / "KDDTrain+.txt.gz"))
    parser.add_argument("--names", nargs="*", help="attack names (default: all with at least 50 rows)")
    parser.add_argument("--recipe", type=find_recipe, help="settings of the training: a name or a file")
    parser.add_argument("--set", metavar="SETTING", action="append", default=[], dest="overrides")
    parser.add_argument("--size", default="mini", choices=("mini", "base"))
    parser.add_argument("--seeds", nargs="*", type=int, default=[1])
    parser.add_argument("--epochs", type=int, default=0, help="0: as in training")
    parser.add_argument("--rows", type=int, default=0, help="training rows at most; 0: all")
    parser.add_argument(
        "--kept",
        type=int,
        default=DecisionConfig().novelty_reference_flows,
        help="training flows kept where the number is bounded",
    )
    parser.add_argument("--jobs", type=int, default=1, help="names at a time, each in a process")
    parser.add_argument("--threads", type=int, default=0, help="processors per name; 0: all / jobs")
    parser.add_argument("--scores", type=Path, help="keep the scores of each flow in this folder")
    parser.add_argument("--out", type=Path, help="write everything to this JSON file")
    options = parser.parse_args()
    threads = options.threads or max(1, (os.cpu_count() or 1) // options.jobs)
    os.environ.update(
        OMP_NUM_THREADS=str(threads), OPENBLAS_NUM_THREADS=str(threads), MKL_NUM_THREADS=str(threads)
    )
    given = {
        "train": options.data,
        "model": {"size": options.size},
        "training": {"epochs": options.epochs},
    }
    run = resolve_run(options.recipe, options.overrides, given)
    with tempfile.TemporaryDirectory() as place:
        known = names_of(run, RunFolder(Path(place)))
    names = options.names or list(known)
    tasks = [
        Task(name, seed, replace(run, seed=seed), options.rows, options.kept, options.scores, threads)
        for seed in options.seeds
        for name in names
    ]
    results: list[dict[str, object]] = []
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for result in pool.map(judge_name, tasks):
            results.append(result)
            print(f"{result['name']} (seed {result['seed']}): {result['seconds']} s", flush=True)
            content = {
                "data": options.data,
                "size": options.size,
                "rows": known,
                "summary": summary(results),
                "runs": results,
            }
            if options.out:
                options.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"{'detection at 1 % / AUROC':52}{'mean':>8}{'worst':>8}{'mean':>9}{'worst':>8}")
    for method, row in sorted(summary(results).items(), key=lambda item: -item[1]["mean_detection"]):
        print(f"{method:52}" + "".join(f"{value:8.3f}" for value in row.values()))


if __name__ == "__main__":
    main()
