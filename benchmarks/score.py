"""How fast a file becomes verdicts on this machine's processors, next to a stock DistilBERT in the same run.

    python benchmarks/score.py [--mini MODEL] [--base MODEL] [--rows N] [--out result.json]
    python benchmarks/score.py --sizes base --base MODEL --ways onnx-int8    # the stock path and ours, and what 8 bits cost

Uses NSL-KDD from the folder in WIREBERT_DATA (../shared/data without it); where there is none, generated traffic. From the
test file on disk to a CSV of verdicts on disk, loading not counted. Unless a model is given, `mini` is trained for one epoch, and
`base` has random weights and a tokenizer fitted on the training file, since time does not depend on what weights say.
Three figures each: `alone` scores every row of a sample by itself; `file` is the whole way, equal rows scored once;
`again` the same file once more, its rows remembered. Of trained models the macro-F1 of each way is told too.

The stock path writes each row as `key: value` text, cuts it into WordPieces and scores it with DistilBERT-base as
transformers runs it, on a few rows: its rate is taken to hold for the whole file.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from encode import stock_wordpiece
from harness import matrix_gflops, traffic

from wirebert.config import resolve_run
from wirebert.data.labels import ClassMap, fit_classes
from wirebert.data.loading import Flows, open_flows
from wirebert.data.settings import DataConfig
from wirebert.data.survey import survey
from wirebert.encoding.rows import take_rows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.architecture import ModelConfig
from wirebert.model.batches import Precision
from wirebert.model.checkpoints import build, hugging_face_state
from wirebert.model.initialization import TokenLayout
from wirebert.pipeline import fit
from wirebert.printing import Output
from wirebert.run_folder import new_run_folder
from wirebert.serving import export
from wirebert.serving.agreement import BOUNDS, Bounds
from wirebert.serving.artifact import Artifact, save_artifact
from wirebert.serving.backends import BackendName
from wirebert.serving.detector import Detector
from wirebert.serving.predictions import open_writer, predict_blocks
from wirebert.training.validation import macro_f1

GENERATED_ROWS = 20_000
STOCK_ROWS = 16
ALONE_ROWS = {"base": 1_000, "mini": 20_000}
WAYS: tuple[tuple[BackendName, Precision], ...] = (
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


def name_of(way: tuple[BackendName, Precision]) -> str:
    """A way in a word or two.

    >>> name_of(("torch", "bf16"))
    'torch bf16'
    """
    return " ".join(way).removesuffix(" fp32")


def first_rows(path: Path, num_rows: int | None, folder: Path) -> Path:
    """The file, or a new one with its first rows."""
    if num_rows is None:
        return path
    import gzip

    short = folder / f"first-{path.name}"
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rb") as source, opened(short, "wb") as target:
        for _, line in zip(range(num_rows), source, strict=False):
            target.write(line)  # pyright: ignore[reportArgumentType]  # both are opened as bytes
    return short


def train_model(train: Path, folder: Path, size: str, epochs: int, device: str = "cpu") -> Path:
    """A model trained for a moment."""
    given = {
        "train": str(train),
        "model": {"size": size},
        "training": {"epochs": epochs, "device": device},
        "evaluation": {"baseline": False},
    }
    with new_run_folder(folder / size) as run:
        fit(resolve_run(given=given), run, Output(stderr=True))
        return run.model


def random_base(train: Path, folder: Path) -> Path:
    """A `base` that knows the columns of `train` and nothing else."""
    flows = open_flows(train)
    classes: ClassMap = fit_classes(flows.schema, survey(flows).label_counts, DataConfig())
    tokenizer = FlowTokenizer.fit(flows.schema, flows.blocks)
    model = build(ModelConfig(size="base"), TokenLayout.of(tokenizer), classes=classes.classes, seed=1)
    artifact = Artifact(
        architecture=model.architecture,
        weights=hugging_face_state(model),
        tokenizer=tokenizer,
        classes=classes,
    )
    save_artifact(artifact, folder / "base", card="")
    return folder / "base"


def add_exports(model: Path, train: Path, *, is_trained: bool) -> dict[str, dict[str, object]]:
    """Write both exports beside the model; how well they agree with PyTorch."""
    if not is_trained:  # its classes are decided by a hair
        BOUNDS["onnx-int8"] = Bounds(same=0.0, mean_difference=1.0)
        export.MAX_ROWS = 1_024  # pyright: ignore[reportConstantRedefinition]
    return {
        name: asdict(export.export_model(model, name, data=str(train))[1]) for name in ("onnx", "onnx-int8")
    }


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def write_verdicts(detector: Detector, flows: Flows, out: Path) -> None:
    out.unlink(missing_ok=True)
    with open_writer(out) as writer:
        for table in predict_blocks(detector, flows):
            writer.write(table)


def measure(size: str, model: Path, test: Path, way: tuple[BackendName, Precision], folder: Path) -> Timing:
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
    alone = len(sample) / seconds(lambda: detector._backend.logits(sampled))  # pyright: ignore[reportPrivateUsage]
    num_flows = sum(table.num_rows for table in flows.blocks())
    out = folder / "verdicts.csv"
    file, again = (num_flows / seconds(lambda: write_verdicts(detector, flows, out)) for _ in range(2))
    few = take_rows(sampled, np.arange(max(8, len(sample) // 100)))
    classes = np.zeros(len(few), np.int64)
    explained = len(few) / seconds(lambda: detector.explain_encoded(few, classes))
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


def quality(model: Path, test: Path, backends: Iterable[BackendName]) -> dict[str, Quality]:
    """How good each way is on the test file, PyTorch first."""
    found: dict[str, Quality] = {}
    exact: tuple[np.ndarray, np.ndarray] | None = None
    names: list[BackendName] = ["torch", *backends]
    for backend in dict.fromkeys(names):
        detector = Detector.load(model, backend=backend)
        flows = open_flows(test, schema=detector.schema)
        label, classes = flows.require_label(), detector.artifact.classes
        blocks = [(classes.encode(table.column(label)), detector.score(table)) for table in flows.blocks()]
        true = np.concatenate([class_ids for class_ids, _ in blocks])
        predicted = np.concatenate([scores.class_ids for _, scores in blocks])
        verdicts = np.concatenate([np.array(scores.verdict or [None] * len(ids)) for ids, scores in blocks])
        exact = exact or (predicted, verdicts)
        known = true >= 0
        found[backend] = Quality(
            macro_f1=macro_f1(true[known], predicted[known]),
            other_classes=int((predicted != exact[0]).sum()),
            other_verdicts=int((verdicts != exact[1]).sum()),
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Scoring speed, next to stock DistilBERT.")
    parser.add_argument("--mini", type=Path, help="a trained mini model folder, instead of training one")
    parser.add_argument("--base", type=Path, help="a trained base model folder, instead of random weights")
    parser.add_argument("--ways", nargs="+", default=[name_of(way) for way in WAYS])
    parser.add_argument("--rows", type=int, help="score the first rows of the test file only")
    parser.add_argument("--sizes", nargs="+", default=["mini", "base"], choices=("mini", "base"))
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = traffic(folder, GENERATED_ROWS)
        test = first_rows(test, options.rows, folder)
        stock, stock_tokens = stock_rate(open_flows(test, schema=open_flows(train).schema))
        print(
            f"{test.name}, {os.cpu_count()} processors; stock path: {stock:.1f} flows/s, {stock_tokens:.0f} tokens a row"
        )
        result: dict[str, object] = {
            "data": test.name,
            "num_processors": os.cpu_count(),
            "stock_flows_per_s": stock,
            "stock_tokens": stock_tokens,
            "stock_rows": STOCK_ROWS,
        }
        timings: list[dict[str, object]] = []
        for size in options.sizes:
            model, given = folder / f"{size}-model", getattr(options, size)
            if given is None:
                given = train_model(train, folder, size, 1) if size == "mini" else random_base(train, folder)
            shutil.copytree(given, model)
            is_trained = size == "mini" or options.base is not None
            result[f"{size}_agreement"] = add_exports(model, train, is_trained=is_trained)
            ways = [way for way in WAYS if name_of(way) in options.ways]
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
                found = quality(model, test, [backend for backend, _ in ways])
                result[f"{size}_quality"] = {name: asdict(one) for name, one in found.items()}
                for name, one in found.items():
                    print(
                        f"{size} {name:10} macro-F1 {one.macro_f1:.4f} ({one.macro_f1 - found['torch'].macro_f1:+.4f} beside torch), "
                        f"{one.other_classes} other classes, {one.other_verdicts} other verdicts",
                        flush=True,
                    )
    if options.out is not None:
        options.out.write_text(json.dumps({**result, "timings": timings}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
