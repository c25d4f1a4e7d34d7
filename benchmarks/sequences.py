"""Two ways to show a model what hosts did before: columns that count it, or the host's last flows in one sequence.

    python benchmarks/sequences.py [--seeds 1 2 3] [--rows 64000] [--past 16] [--epochs 6]

Generated traffic whose attacks look ordinary flow by flow; tested on another network. All ways share the tokenizer of the
other columns, the mini model and one plain training loop:

- nothing: a flow by itself;
- columns: its context columns as tokens (what the product does);
- sequence: its tokens, then, for each of the last flows of the same source within the hour, latest first, a token that says
  how long before, whether to the same host and whether to the same port, and that flow's tokens.
"""

# scikit-learn's stubs know neither an average of None nor a number for zero_division.
# pyright: reportArgumentType=false

import argparse
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import torch
from sklearn.metrics import f1_score
from torch.nn import functional

from wirebert.data.context import without_context
from wirebert.data.labels import fit_classes
from wirebert.data.loading import open_flows
from wirebert.data.settings import DataConfig
from wirebert.data.survey import survey
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.data.times import seconds_of
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.architecture import Architecture
from wirebert.model.distilbert import DistilBert

WINDOW_S = 3_600.0
NUM_GAPS = 16
NUM_RELATIONS = 4 * NUM_GAPS
BATCH = 256
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Rows(NamedTuple):
    """Sequences of one file; 0 is no token."""

    ids: np.ndarray
    class_ids: np.ndarray


def padded(tokenizer: FlowTokenizer, table: pa.Table) -> np.ndarray:
    """Token ids + 1 of each flow, one line each."""
    block = tokenizer.encode(table)
    lengths = np.diff(block.offsets)
    ids = np.zeros((len(lengths), int(lengths.max())), np.int32)
    ids[np.arange(ids.shape[1]) < lengths[:, None]] = block.ids.astype(np.int32) + 1
    return ids


def sequences(ids: np.ndarray, table: pa.Table, num_past: int, first_relation: int) -> np.ndarray:
    """Each flow's tokens, then those of the last flows of its source."""
    seconds = seconds_of(table["ts"])
    ends = [
        np.unique(table[name].to_numpy(zero_copy_only=False), return_inverse=True)[1]
        for name in ("src_ip", "dst_ip")
    ]
    ports = table["dst_port"].to_numpy()
    order = np.lexsort((np.arange(len(ids)), ends[0]))
    place = np.empty(len(ids), np.int64)
    place[order] = np.arange(len(ids))
    parts = [ids]
    for back in range(1, num_past + 1):
        at = place - back
        past = order[np.maximum(at, 0)]
        gap_s = seconds - seconds[past]
        is_there = (at >= 0) & (ends[0][past] == ends[0]) & (gap_s < WINDOW_S)
        gap = np.clip(np.log2(1 + np.maximum(gap_s, 0) * 16), 0, NUM_GAPS - 1).astype(np.int64)
        relation = gap * 4 + (ends[1][past] == ends[1]) * 2 + (ports[past] == ports)
        told = np.column_stack([first_relation + relation, ids[past][:, 1:]])  # without [CLS]
        parts.append(np.where(is_there[:, None], told, 0))
    return np.concatenate(parts, axis=1)


def train(rows: Rows, vocab_size: int, num_classes: int, seed: int, epochs: int) -> DistilBert:
    """The mini model after a plain training loop."""
    torch.manual_seed(seed)
    architecture = Architecture(
        vocab_size=vocab_size,
        num_classes=num_classes,
        dim=128,
        num_layers=2,
        num_heads=4,
        hidden_dim=512,
        max_positions=max(512, rows.ids.shape[1]),
        pad_id=0,
    )
    model = DistilBert(architecture, attention="sdpa").to(DEVICE).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    num_steps = epochs * -(-len(rows.ids) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(step / (0.06 * num_steps), (num_steps - step) / (0.94 * num_steps))
    )
    generator = np.random.default_rng(seed)
    for _ in range(epochs):
        shuffled = generator.permutation(len(rows.ids))
        for start in range(0, len(shuffled), BATCH):
            chosen = shuffled[start : start + BATCH]
            logits = forward(model, rows.ids[chosen])
            loss = functional.cross_entropy(logits, torch.from_numpy(rows.class_ids[chosen]).to(DEVICE))
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
    return model.eval()


def forward(model: DistilBert, ids: np.ndarray) -> torch.Tensor:
    """Class logits."""
    tensor = torch.from_numpy(ids).long().to(DEVICE)
    return model(tensor, tensor != 0)


def measure(folder: Path, seed: int, num_rows: int, num_past: int, epochs: int) -> None:
    """Print a line for each way."""
    for name, count, traffic in (("train", num_rows, seed), ("test", num_rows // 3, seed + 1_000)):
        write_conn_log(folder / f"{name}.conn.log", generate(count, traffic, quiet=True), traffic)
    flows = open_flows(folder / "train.conn.log")
    classes = fit_classes(flows.schema, survey(flows).label_counts, DataConfig(), None)
    tables = [
        pa.concat_tables(part.blocks()).unify_dictionaries().combine_chunks()
        for part in (flows, open_flows(folder / "test.conn.log", schema=flows.schema))
    ]
    bare = without_context(flows.schema)
    for name, schema in (("nothing", bare), ("columns", flows.schema), ("sequence", bare)):
        tokenizer = FlowTokenizer.fit(schema, lambda: iter(tables[:1]))
        size = len(tokenizer.vocabulary) + 1
        parts: list[Rows] = []
        for table in tables:
            ids = padded(tokenizer, table)
            if name == "sequence":
                ids = sequences(ids, table, num_past, size)
            parts.append(Rows(ids, classes.encode(table["label"])))
        start = time.perf_counter()
        model = train(parts[0], size + NUM_RELATIONS, len(classes.classes), seed, epochs)
        seconds = time.perf_counter() - start
        with torch.inference_mode():
            found = [forward(model, chunk).argmax(1).cpu() for chunk in np.array_split(parts[1].ids, 100)]
        f1 = f1_score(
            parts[1].class_ids,
            torch.cat(found).numpy(),
            labels=range(len(classes.classes)),
            average=None,
            zero_division=0,
        )
        attacks = np.delete(f1, classes.classes.index("benign")).mean()
        shown = ", ".join(f"{label} {value:.3f}" for label, value in zip(classes.classes, f1, strict=True))
        tokens = (parts[0].ids != 0).sum(1).mean()
        print(
            f"seed {seed} {name:9} macro-F1 over attacks {attacks:.3f} ({shown}); {tokens:.0f} tokens a flow, "
            f"{epochs * num_rows / seconds:,.0f} flows/s trained on {DEVICE}",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--rows", type=int, default=64_000)
    parser.add_argument("--past", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    given = parser.parse_args()
    for seed in given.seeds:
        with tempfile.TemporaryDirectory() as folder:
            measure(Path(folder), seed, given.rows, given.past, given.epochs)


if __name__ == "__main__":
    main()
