"""How fast rows that are encoded already are scored, and whether half precision gives the verdicts of single precision.

    python benchmarks/store.py --device cuda [--model RUN/model] [--flows 3000000] [--out result.json]

NSL-KDD from the folder in WIREBERT_DATA (../shared/data without it), else generated traffic. Without `--model` a `--size` is
trained for `--epochs`. The test file is encoded, repeated to `--flows` rows and written as a store, which is opened as
training opens its own, mapped from disk; every row is computed, equal ones again and again. Rates are of `score`, from the store to
logits in memory; each a median of `--repeats`, with the slowest and the fastest. `share` is the matrix products over the
speed of one large matrix product in the same precision, measured right before.

What half precision changes is counted on the rows of the test file once: rows of another class, and rows of another verdict at each
threshold that the model was saved with.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from harness import peak_tflops, traffic
from score import GENERATED_ROWS, train_model

from wirebert.data.loading import open_flows
from wirebert.encoding.rows import EncodedBlock
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.evaluation.environment import hardware, versions
from wirebert.model.architecture import Architecture
from wirebert.model.batches import Precision, score
from wirebert.model.distilbert import DistilBert
from wirebert.serving.agreement import Alerts, compare
from wirebert.serving.artifact import Artifact, load_artifact
from wirebert.serving.backends import TorchBackend, softmax
from wirebert.training.validation import macro_f1

DTYPES: dict[Precision, torch.dtype] = {
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "fp32": torch.float32,
}
WARM_UP_FLOWS = 50_000


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Flows a second at one precision."""

    precision: Precision
    num_flows: int
    flows_per_s: float
    slowest: float
    fastest: float
    share: float
    once_s: float
    """The first, short pass, with all that happens once."""


def encoded_test(artifact: Artifact, test: Path) -> EncodedFlows:
    """The test file as token ids, with the classes of its rows."""
    flows = open_flows(test, schema=artifact.schema)
    label = flows.require_label()
    blocks, classes = [], []
    for table in flows.blocks():
        blocks.append(artifact.tokenizer.encode(table))
        classes.append(artifact.classes.encode(table.column(label)))
    lengths = np.concatenate([np.diff(block.offsets) for block in blocks])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.concatenate([block.ids for block in blocks])
    return EncodedFlows.from_arrays(ids, offsets, np.concatenate(classes), np.arange(len(lengths)))


def repeated(flows: EncodedFlows, num_flows: int, folder: Path) -> EncodedFlows:
    """A store in `folder` of at least so many rows: the flows, again and again."""
    with StoreWriter(folder, flows.ids.dtype) as store:
        for _ in range(-(-num_flows // len(flows))):
            store.append(EncodedBlock(flows.ids, flows.offsets, 0), flows.class_ids, flows.rows)
    return EncodedFlows.open(folder)


def first(flows: EncodedFlows, num_flows: int) -> EncodedFlows:
    """The first flows of a store."""
    return EncodedFlows.from_arrays(
        flows.ids, flows.offsets[: num_flows + 1], flows.class_ids[:num_flows], flows.rows[:num_flows]
    )


def flop(architecture: Architecture, num_flows: int, num_tokens: int) -> float:
    """Multiplications and additions of the matrix products that scoring takes; the last block's are of `[CLS]` alone."""
    dim, hidden = architecture.dim, architecture.hidden_dim
    block = 4 * dim**2 + 2 * dim * hidden
    per_token = (architecture.num_layers - 1) * block + 2 * dim**2
    return 2.0 * (num_tokens * per_token + num_flows * (block - 2 * dim**2 + dim**2))


def measure(
    model: DistilBert, store: EncodedFlows, precision: Precision, options: argparse.Namespace
) -> Rate:
    """Time `score` on the whole store."""
    device = torch.device(options.device)
    peak = peak_tflops(device, DTYPES[precision])

    def run(flows: EncodedFlows) -> None:
        score(model, flows, device=options.device, precision=precision, max_tokens=options.max_tokens)

    start = time.perf_counter()
    run(first(store, min(WARM_UP_FLOWS, len(store))))
    once_s = time.perf_counter() - start
    seconds: list[float] = []
    for _ in range(options.repeats):
        start = time.perf_counter()
        run(store)
        seconds.append(time.perf_counter() - start)
    rates = sorted(len(store) / one for one in seconds)
    median = statistics.median(seconds)
    work = flop(model.architecture, len(store), len(store.ids[: store.offsets[len(store)]]))
    return Rate(
        precision=precision,
        num_flows=len(store),
        flows_per_s=len(store) / median,
        slowest=rates[0],
        fastest=rates[-1],
        share=work / median / 1e12 / peak,
        once_s=once_s,
    )


def agreement(artifact: Artifact, model: DistilBert, flows: EncodedFlows, device: str) -> dict[str, object]:
    """What each precision says of the flows, next to single precision."""
    found = {name: softmax(score(model, flows, device=device, precision=name)) for name in DTYPES}
    labels = np.asarray(flows.class_ids)
    known = labels >= 0
    told: dict[str, object] = {}
    for name, probabilities in found.items():
        near = compare(probabilities, found["fp32"], Alerts.of(artifact), "given")
        told[name] = about = {
            **asdict(near),
            "macro_f1": macro_f1(labels[known], probabilities.argmax(axis=1)[known]),
        }
        benign, operating = artifact.classes.benign, artifact.operating
        for limit in operating.thresholds if operating and benign else ():
            alerts = Alerts(artifact.classes.classes.index(benign), limit.threshold)  # pyright: ignore[reportArgumentType]
            others = alerts.raised(probabilities) != alerts.raised(found["fp32"])
            about[f"other verdicts at {limit.target_fpr:g}"] = int(others.sum())
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description="Scoring speed from an encoded store.")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--model", type=Path, help="a trained model folder, instead of training one")
    parser.add_argument("--size", default="base", choices=("base", "mini"))
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--flows", type=int, default=3_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--max-tokens", type=int, help="of one batch, instead of what suits the device")
    parser.add_argument("--precisions", nargs="+", default=["fp16", "bf16"], choices=tuple(DTYPES))
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train, test = traffic(folder, GENERATED_ROWS)
        path = options.model or train_model(train, folder, options.size, options.epochs, options.device)
        artifact = load_artifact(path)
        model = TorchBackend(
            artifact.architecture, artifact.weights, device=options.device, precision="fp32", max_tokens=None
        ).model
        flows = encoded_test(artifact, test)
        store = repeated(flows, options.flows, folder / "store")
        print(f"{test.name}: {len(store):,} flows, {len(store.ids) / len(store):.1f} tokens each", flush=True)
        rates = [measure(model, store, precision, options) for precision in options.precisions]
        for rate in rates:
            print(
                f"{rate.precision}: {rate.flows_per_s:,.0f} flows/s ({rate.slowest:,.0f} to {rate.fastest:,.0f}), "
                f"{rate.share:.0%} of the matrix rate; first pass {rate.once_s:.1f} s",
                flush=True,
            )
        told = agreement(artifact, model, flows, options.device)
        for precision, about in told.items():
            print(f"{precision} next to fp32: {json.dumps(about)}")
    if options.out is not None:
        result = {
            "hardware": asdict(hardware()),
            "versions": versions(),
            "rates": [asdict(rate) for rate in rates],
        }
        options.out.write_text(json.dumps({**result, "agreement": told}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
