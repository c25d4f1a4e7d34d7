"""How fast a file becomes verdicts on this machine's processors, next to a stock DistilBERT in the same run.

    python benchmarks/score.py [--mini MODEL] [--base MODEL] [--rows N] [--out result.json]
    python benchmarks/score.py --sizes base --base MODEL --ways onnx-int8    # the stock path and ours, and what 8 bits cost
    python benchmarks/score.py --encoded --device cuda [--base MODEL] [--flows 3000000]    # rows that are encoded already
    python benchmarks/score.py --novelty 2000 5000 10000    # what it costs to tell what is new
    python benchmarks/score.py --trees --mini MODEL    # a model as `predict` scores with it, and boosted trees, in turns

Uses NSL-KDD from the folder in WIREBERT_DATA (../shared/data without it); where there is none, generated traffic. From the
test file on disk to a CSV of verdicts on disk, loading not counted. Unless a model is given, `mini` is trained for one epoch, and
`base` has random weights and a tokenizer fitted on the training file, since time does not depend on what weights say.
Three figures each: `alone` scores every row of a sample by itself; `file` is the whole way, equal rows scored once;
`again` the same file once more, its rows remembered. Of trained models the macro-F1 of each way is told too.

The stock path writes each row as `key: value` text, cuts it into WordPieces and scores it with DistilBERT-base as
transformers runs it, on a few rows: its rate is taken to hold for the whole file.

`--encoded`: the test file is encoded, repeated to `--flows` rows and written as a store, which is opened as training opens
its own, mapped from disk; every row is computed, equal ones again and again. Rates are medians of `--repeats` from the
store to logits in memory, with the slowest and the fastest. `share` is the matrix products over the speed of one large
matrix product in the same precision, measured right before. Of a given model it is told what each precision changes.

`--trees`: the test file as a CSV of verdicts, by the model with its own export, equal rows scored once, and by LightGBM
(where it is not installed, by scikit-learn's HistGradientBoosting) with 100 rounds, fitted on 20,000 rows of the
training file: read the file, make the columns, predict, write classes and probabilities. Medians of `--repeats`, in turns.

`--novelty`: nine tenths of the training file's flows are there to be kept, the others are scored, the best of five rounds.
"""

import argparse
import gzip
import itertools
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from encode import stock_wordpiece
from harness import Rows, encode, matrix_gflops, peak_tflops, traffic, write_figures
from pyarrow import csv

from wirebert.baselines.fitted import ColumnBaseline, fit_columns
from wirebert.config import resolve_run
from wirebert.console import SafeConsole
from wirebert.data.flows import Flows, open_flows
from wirebert.decision.novelty import NoveltyScorer
from wirebert.encoding.matrix import concatenate
from wirebert.encoding.matrix import extract_features as measure_columns
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.token_rows import take_rows
from wirebert.inference import export
from wirebert.inference.artifact import Artifact, load_artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.engines import ENGINES, Bounds
from wirebert.inference.predictions import open_writer, predict_blocks
from wirebert.inference.torch_backend import TorchBackend
from wirebert.model.batches import score
from wirebert.model.checkpoints import numpy_state
from wirebert.model.config import Architecture, Precision
from wirebert.run_folder import new_run_folder
from wirebert.training.validation import macro_f1
from wirebert.workflows.train import train as run_training

GENERATED_ROWS = 20_000
STOCK_ROWS = 16
TREE_ROWS = 20_000
ALONE_ROWS = {"base": 1_000, "mini": 20_000}
SEED = 1
DTYPES: dict[Precision, torch.dtype] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}
Way = tuple[str, Precision]
WAYS: tuple[Way, ...] = (
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("onnx", "fp32"),
    ("onnx-int8", "fp32"),
)


@dataclass(frozen=True)
class Timing:
    """Flows a second of one model, computed in one way."""

    size: str
    way: str
    alone: float
    file: float
    again: float
    explained: float
    """Flows a second that get their reasons."""
    load_s: float
    matrix_gflops: float


def name_of(way: Way) -> str:
    """A way in a word or two.

    >>> name_of(("torch", "bf16"))
    'torch bf16'
    """
    return " ".join(way).removesuffix(" fp32")


def first_rows(path: Path, num_rows: int | None, folder: Path) -> Path:
    """The file, or a new one with its first rows."""
    if num_rows is None:
        return path
    short = folder / f"first-{path.name.removesuffix('.gz')}"
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as source:
        short.write_text("".join(itertools.islice(source, num_rows)))
    return short


def train_model(train: Path, folder: Path, size: str) -> Path:
    """A model trained for one epoch."""
    given = {
        "train": str(train),
        "model": {"size": size},
        "training": {"epochs": 1, "device": "cpu"},
        "evaluation": {"baseline": False},
    }
    with new_run_folder(folder / size) as run:
        run_training(resolve_run(given=given), run, SafeConsole(stderr=True))
        return run.model


def random_model(train: Path, folder: Path, size: str) -> Path:
    """A model that knows the columns of `train` and nothing else."""
    data = Rows(train).data([f"model.size={size}"])
    model = data.model()
    artifact = Artifact(
        architecture=model.architecture,
        weights=numpy_state(model),
        tokenizer=data.tokenizer,
        classes=data.classes,
    )
    save_artifact(artifact, folder / size, card="")
    return folder / size


def add_exports(model: Path, train: Path, *, is_trained: bool) -> dict[str, object]:
    """Write both exports beside the model; how well they agree with PyTorch."""
    if not is_trained:  # its classes are decided by a hair
        any_scores = Bounds(same=0.0, mean_difference=1.0)
        ENGINES["onnx-int8"] = replace(ENGINES["onnx-int8"], bounds=any_scores)
        export.MAX_ROWS = 1_024  # pyright: ignore[reportConstantRedefinition]
    return {
        name: asdict(export.export_model(model, name, data=str(train))[1]) for name in ("onnx", "onnx-int8")
    }


def seconds(work: Callable[..., object], *arguments: object) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - start


def write_verdicts(detector: Detector, flows: Flows, out: Path) -> None:
    out.unlink(missing_ok=True)
    with open_writer(out) as writer:
        for table in predict_blocks(detector, flows):
            writer.write(table)


def measure(size: str, model: Path, test: Path, way: Way, folder: Path) -> Timing:
    """Time one model, computed in one way."""
    backend, precision = way
    speed = matrix_gflops()
    start = time.perf_counter()
    detector = Detector.load(model, backend=backend, precision=precision)
    load_s = time.perf_counter() - start
    flows = open_flows(test, schema=detector.schema)
    block = detector.encode(next(iter(flows.blocks())))
    sample = np.random.default_rng(0).permutation(len(block))[: ALONE_ROWS[size]]
    sampled = take_rows(block, sample)
    alone = len(sample) / seconds(detector._backend.logits, sampled)  # pyright: ignore[reportPrivateUsage]
    num_flows = sum(table.num_rows for table in flows.blocks())
    out = folder / "verdicts.csv"
    file, again = (num_flows / seconds(write_verdicts, detector, flows, out) for _ in range(2))
    few = take_rows(sampled, np.arange(max(8, len(sample) // 100)))
    classes = np.zeros(len(few), np.int64)
    explained = len(few) / seconds(detector.explain_encoded, few, classes)
    return Timing(size, name_of(way), alone, file, again, explained, load_s, speed)


def stock_rate(flows: Flows) -> tuple[float, float]:
    """Rows a second and tokens a row of stock DistilBERT-base on `key: value` text."""
    from transformers import DistilBertConfig, DistilBertForSequenceClassification

    names = [column.name for column in flows.schema.features]
    table: pa.Table = next(iter(flows.blocks())).select(names).slice(0, STOCK_ROWS)
    tokenizer = stock_wordpiece()
    tokenizer.no_padding()
    tokenizer.enable_truncation(512)
    model = DistilBertForSequenceClassification(DistilBertConfig(num_labels=5)).eval()  # pyright: ignore[reportCallIssue]  # a base class takes it
    num_tokens = 0

    def score() -> None:
        nonlocal num_tokens
        texts = [", ".join(f"{name}: {value}" for name, value in row.items()) for row in table.to_pylist()]
        rows = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts)]
        num_tokens = sum(map(len, rows))
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            model(input_ids=ids, attention_mask=mask)

    return table.num_rows / seconds(score), num_tokens / table.num_rows


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What one way of computing says of the labelled test file."""

    macro_f1: float
    other_classes: int
    """Rows that get another class than from PyTorch."""
    other_verdicts: int
    """Rows that raise an alert where PyTorch raises none, or the reverse."""


def quality(model: Path, test: Path, ways: Iterable[Way], device: str) -> dict[str, Quality]:
    """How good each way is on the test file, PyTorch in single precision first."""
    found: dict[str, Quality] = {}
    exact: tuple[np.ndarray, np.ndarray] | None = None
    for backend, precision in dict.fromkeys((WAYS[0], *ways)):
        detector = Detector.load(model, backend=backend, precision=precision, device=device)
        flows = open_flows(test, schema=detector.schema)
        label, classes = flows.require_label(), detector.artifact.classes
        blocks = [(classes.encode(table.column(label)), detector.score(table)) for table in flows.blocks()]
        true = np.concatenate([class_ids for class_ids, _ in blocks])
        predicted = np.concatenate([scores.class_ids for _, scores in blocks])
        verdicts = np.concatenate([np.array(scores.verdict or [None] * len(ids)) for ids, scores in blocks])
        exact = exact or (predicted, verdicts)
        known = true >= 0
        found[name_of((backend, precision))] = Quality(
            macro_f1=macro_f1(true[known], predicted[known]),
            other_classes=int((predicted != exact[0]).sum()),
            other_verdicts=int((verdicts != exact[1]).sum()),
        )
    return found


def show_quality(size: str, found: dict[str, Quality]) -> None:
    """Print a line for each way."""
    for name, one in found.items():
        print(
            f"{size} {name:10} macro-F1 {one.macro_f1:.4f}, beside torch {one.other_classes} other classes, "
            f"{one.other_verdicts} other verdicts",
            flush=True,
        )


def measure_files(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """From a file to verdicts: each model in each way."""
    train, test = traffic(folder, GENERATED_ROWS)
    test = first_rows(test, options.rows, folder)
    stock, stock_tokens = stock_rate(open_flows(test, schema=open_flows(train).schema))
    print(f"{test.name}; stock path: {stock:.1f} flows/s, {stock_tokens:.0f} tokens a row")
    result: dict[str, object] = {"stock_flows_per_s": stock, "stock_tokens": stock_tokens}
    timings: list[dict[str, object]] = []
    ways = [way for way in WAYS if name_of(way) in options.ways]
    for size in options.sizes or ("mini", "base"):
        given: Path | None = getattr(options, size)
        is_trained = size == "mini" or given is not None
        given = given or (train_model if is_trained else random_model)(train, folder, size)
        model = folder / f"{size}-model"
        shutil.copytree(given, model)
        result[f"{size}_agreement"] = add_exports(model, train, is_trained=is_trained)
        for way in ways:
            timing = measure(size, model, test, way, folder)
            timings.append({**vars(timing), "times_stock": timing.file / stock})
            print(
                f"{size} {timing.way:10} alone {timing.alone:9,.0f}  file {timing.file:9,.0f} flows/s"
                f" ({timing.file / stock:7,.0f} x stock)  again {timing.again:9,.0f}  explained {timing.explained:7,.1f}"
                f"  load {timing.load_s:.2f} s  (matrix product {timing.matrix_gflops:.0f} GFLOP/s)",
                flush=True,
            )
        if is_trained:
            found = quality(model, test, ways, "cpu")
            show_quality(size, found)
            result[f"{size}_quality"] = {name: asdict(one) for name, one in found.items()}
    return {"data": test.name, **result, "timings": timings}


def repeated(flows: EncodedFlows, num_flows: int, folder: Path) -> EncodedFlows:
    """A store in `folder` of at least so many rows: the flows, again and again."""
    with StoreWriter(folder, flows.ids.dtype) as store:
        for _ in range(-(-num_flows // len(flows))):
            store.append(flows.block, flows.class_ids, flows.rows)
    return EncodedFlows.open(folder)


def scoring_flop(architecture: Architecture, num_flows: int, num_tokens: int) -> float:
    """Multiplications and additions of the matrix products that scoring takes; the last block's are of `[CLS]` alone."""
    dim, hidden = architecture.dim, architecture.hidden_dim
    block = 4 * dim**2 + 2 * dim * hidden
    per_token = (architecture.num_layers - 1) * block + 2 * dim**2
    return 2.0 * (num_tokens * per_token + num_flows * (block - 2 * dim**2 + dim**2))


def measure_encoded(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """From encoded rows on disk to logits in memory, at each precision."""
    train, test = traffic(folder, GENERATED_ROWS)
    test, device = first_rows(test, options.rows, folder), torch.device(options.device)
    result: dict[str, object] = {"data": test.name}
    for size in options.sizes or ("base",):
        given: Path | None = getattr(options, size)
        path = given or random_model(train, folder, size)
        artifact = load_artifact(path)
        model = TorchBackend(
            artifact.architecture, artifact.weights, device=options.device, precision="fp32", max_tokens=None
        ).model
        flows = encode(open_flows(test, schema=artifact.schema), artifact.tokenizer, artifact.classes)
        store = repeated(flows, options.flows, folder / f"{size}-store")
        print(f"{test.name}: {len(store):,} flows, {len(store.ids) / len(store):.1f} tokens each", flush=True)
        work = scoring_flop(artifact.architecture, len(store), len(store.ids))
        for precision in options.precisions:
            peak = peak_tflops(device, DTYPES[precision])
            run = partial(score, device=options.device, precision=precision, max_tokens=options.max_tokens)
            once_s = seconds(run, model, flows)
            took = sorted(seconds(run, model, store) for _ in range(options.repeats))
            rates = [len(store) / one for one in (statistics.median(took), took[-1], took[0])]
            share = work / statistics.median(took) / 1e12 / peak
            result[f"{size} {precision}"] = {"flows_per_s": rates, "share": share, "once_s": once_s}
            print(
                f"{size} {precision}: {rates[0]:,.0f} flows/s ({rates[1]:,.0f} to {rates[2]:,.0f}), "
                f"{share:.0%} of the matrix rate; first pass over the file {once_s:.1f} s",
                flush=True,
            )
        if given is not None:
            found = quality(path, test, [("torch", one) for one in options.precisions], options.device)
            show_quality(size, found)
            result[f"{size}_quality"] = {name: asdict(one) for name, one in found.items()}
    return result


def write_trees(trees: ColumnBaseline, classes: Sequence[str], flows: Flows, out: Path) -> None:
    """Class and probabilities of every flow by boosted trees, as CSV."""
    with csv.CSVWriter(out, writer_schema(classes)) as writer:
        for table in flows.blocks():
            probabilities = trees.predict_proba(table)
            best = pa.array(classes).take(pa.array(probabilities.argmax(axis=1)))
            writer.write_table(
                pa.table([best, *map(pa.array, probabilities.T)], schema=writer_schema(classes))
            )


def writer_schema(classes: Sequence[str]) -> pa.Schema:
    return pa.schema([("class", pa.string()), *((name, pa.float64()) for name in classes)])


def measure_trees(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Flows a second from file to verdicts, of a model and of boosted trees in turns."""
    train, test = traffic(folder, GENERATED_ROWS)
    model: Path = options.mini or options.base
    classes, schema = load_artifact(model).classes, load_artifact(model).schema
    name = "lightgbm" if find_spec("lightgbm") else "gbdt"
    labelled = open_flows(train, schema=schema)
    label = labelled.require_label()
    blocks = ((table, classes.encode(table.column(label))) for table in labelled.blocks())
    trees = fit_columns(name, {"rounds": 100}, blocks, schema, len(classes.classes), SEED, TREE_ROWS)
    flows = open_flows(first_rows(test, options.rows, folder), schema=schema)
    num_flows = sum(table.num_rows for table in flows.blocks())
    rates: dict[str, list[float]] = {"model": [], name: []}
    for _ in range(options.repeats):
        detector = Detector.load(model)  # a new one: it remembers no rows
        rates["model"].append(num_flows / seconds(write_verdicts, detector, flows, folder / "verdicts.csv"))
        rates[name].append(
            num_flows / seconds(write_trees, trees, classes.classes, flows, folder / "trees.csv")
        )
    for who, found in rates.items():
        print(
            f"{who}: {statistics.median(found):,.0f} flows/s ({min(found):,.0f} to {max(found):,.0f})",
            flush=True,
        )
    return {"data": flows.name, **rates}


def measure_novelty(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Choosing the flows that are kept, and measuring how far others are from them: by the columns, without a model."""
    flows = open_flows(traffic(folder, GENERATED_ROWS)[0])
    table = concatenate([measure_columns(block, flows.schema) for block in flows.blocks()])
    order = np.random.default_rng(SEED).permutation(table.num_rows)[: options.rows]
    train, others = table.take(order[: -len(order) // 10]), table.take(order[-len(order) // 10 :])
    result: dict[str, object] = {"data": flows.name}
    for num_kept in options.novelty:
        start_s = time.perf_counter()
        strangeness = NoveltyScorer.fit(train, num_kept, SEED)
        fit_s = time.perf_counter() - start_s
        points = strangeness.space.points(others)
        took = [seconds(strangeness.neighbours.distances, points) for _ in range(5)]
        rates = [len(points) / one for one in (min(took), max(took))]
        result[f"{num_kept} kept"] = {"fit_s": fit_s, "flows_per_s": rates}
        print(
            f"{num_kept:,} of {train.num_rows:,} flows, {points.shape[1]} dimensions: fitted in {fit_s:.1f} s; "
            f"{rates[0]:,.0f} flows/s ({rates[1]:,.0f} at worst)"
        )
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description="Scoring speed, next to stock DistilBERT.")
    parser.add_argument("--mini", type=Path, help="a trained mini model folder, instead of training one")
    parser.add_argument("--base", type=Path, help="a trained base model folder, instead of random weights")
    parser.add_argument("--sizes", nargs="+", choices=("mini", "base"))
    parser.add_argument("--rows", type=int, help="the first rows of the file only")
    parser.add_argument("--ways", nargs="+", default=[name_of(way) for way in WAYS])
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--encoded", action="store_true", help="score rows that are encoded already")
    mode.add_argument(
        "--novelty", nargs="+", type=int, metavar="KEPT", help="time novelty, so many flows kept"
    )
    mode.add_argument("--trees", action="store_true", help="beside boosted trees that score the same file")
    encoded = parser.add_argument_group("with --encoded")
    encoded.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    encoded.add_argument("--flows", type=int, default=3_000_000)
    encoded.add_argument("--repeats", type=int, default=5)
    encoded.add_argument("--max-tokens", type=int, help="of one batch, instead of what suits the device")
    encoded.add_argument("--precisions", nargs="+", default=["fp16", "bf16"], choices=tuple(DTYPES))
    options = parser.parse_args()
    measured = measure_encoded if options.encoded else measure_novelty if options.novelty else measure_files
    measured = measure_trees if options.trees else measured
    with tempfile.TemporaryDirectory() as name:
        write_figures(options.out, **measured(options, Path(name)))


if __name__ == "__main__":
    main()
