"""Two ways to show a model what hosts did before: columns that count it, or the host's last flows in one sequence.

    python benchmarks/sequences.py [--seeds 1 2 3] [--jobs 3] [--rows 64000] [--past 16] [--epochs 6] [--ways columns sequence both] [--out sequences.json]

Generated traffic whose attacks look ordinary flow by flow; tested on another network. All ways share the tokenizer of the
other columns, the mini model and one plain training loop:

- nothing: a flow by itself;
- columns: its context columns as tokens (what the product does);
- sequence: its tokens, then, for each of the last flows of the same source within the hour, latest first, a token that says
  how long before, whether to the same host and whether to the same port, and that flow's tokens;
- both: such sequences of flows that have context columns.
"""

# scikit-learn's stubs know neither an average of None nor a number for zero_division.
# pyright: reportArgumentType=false

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from seeds import Report, by_seed
from sklearn.metrics import f1_score
from torch.nn import functional

from wirebert.data.context import without_context
from wirebert.data.labels import ClassMap, fit_classes
from wirebert.data.loading import open_flows
from wirebert.data.schema import FlowSchema
from wirebert.data.settings import DataConfig
from wirebert.data.survey import survey
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.data.times import seconds_of
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.model.architecture import Architecture
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout, initialize_numbers

WINDOW_S = 3_600.0
NUM_GAPS = 16
NUM_RELATIONS = 4 * NUM_GAPS
BATCH = 256
WAYS = ("nothing", "columns", "sequence", "both")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


class Traffic(NamedTuple):
    """Flows of one network to train on, and of another to test on."""

    schema: FlowSchema
    classes: ClassMap
    tables: list[pa.Table]


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


def train(
    rows: Rows, tokenizer: FlowTokenizer, vocab_size: int, num_classes: int, seed: int, epochs: int
) -> DistilBert:
    """The mini model after a plain training loop that starts and paces it as the product does."""
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
    model = DistilBert(architecture, attention="sdpa")
    numbers = [ids + 1 for ids in TokenLayout.of(tokenizer).ordered_numbers]
    initialize_numbers(model, numbers, generator=torch.Generator().manual_seed(seed))
    model.to(DEVICE).train()
    head = [weight for name, weight in model.named_parameters() if name.startswith("classifier")]
    backbone = [weight for name, weight in model.named_parameters() if not name.startswith("classifier")]
    optimizer = torch.optim.AdamW(
        [{"params": backbone, "lr": 1e-3}, {"params": head, "lr": 1e-2, "weight_decay": 0.0}],
        weight_decay=0.01,
    )
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


def read_traffic(seed: int, num_rows: int) -> Traffic:
    """Generated as `wirebert demo --quiet` does; a third as many flows to test on."""
    with tempfile.TemporaryDirectory() as aside:
        paths = [Path(aside) / f"{name}.conn.log" for name in ("train", "test")]
        for path, count, traffic in zip(paths, (num_rows, num_rows // 3), (seed, seed + 1_000), strict=True):
            write_conn_log(path, generate(count, traffic, quiet=True), traffic)
        flows = open_flows(paths[0])
        classes = fit_classes(flows.schema, survey(flows).label_counts, DataConfig(), None)
        tables = [
            pa.concat_tables(part.blocks()).unify_dictionaries().combine_chunks()
            for part in (flows, open_flows(paths[1], schema=flows.schema))
        ]
    return Traffic(flows.schema, classes, tables)


def measure(num_rows: int, num_past: int, epochs: int, ways_wanted: Sequence[str], seed: int) -> Report:
    """What each way finds; prints a line for each."""
    schema, classes, tables = read_traffic(seed, num_rows)
    bare = without_context(schema)
    ways: list[Report] = []
    for name in ways_wanted:
        shown = schema if name in ("columns", "both") else bare
        tokenizer = FlowTokenizer.fit(shown, lambda: iter(tables[:1]))
        size = len(tokenizer.vocabulary) + 1
        parts: list[Rows] = []
        for table in tables:
            ids = padded(tokenizer, table)
            if name in ("sequence", "both"):
                ids = sequences(ids, table, num_past, size)
            parts.append(Rows(ids, classes.encode(table["label"])))
        start_s = time.perf_counter()
        model = train(parts[0], tokenizer, size + NUM_RELATIONS, len(classes.classes), seed, epochs)
        train_s = time.perf_counter() - start_s
        f1 = f1_of_classes(model, parts[1], len(classes.classes))
        way = {
            "way": name,
            "attack_macro_f1": float(np.delete(f1, classes.classes.index("benign")).mean()),
            "f1": dict(zip(classes.classes, f1.tolist(), strict=True)),
            "tokens_per_flow": float((parts[0].ids != 0).sum(1).mean()),
            "flows_per_s": epochs * num_rows / train_s,
        }
        print(f"seed {seed} {line_of(way)}", flush=True)
        ways.append(way)
    return {"seed": seed, "device": DEVICE, "ways": ways}


def f1_of_classes(model: DistilBert, rows: Rows, num_classes: int) -> np.ndarray:
    """F1 of each class."""
    with torch.inference_mode():
        found = [forward(model, chunk).argmax(1).cpu() for chunk in np.array_split(rows.ids, 100)]
    found_ids = torch.cat(found).numpy()
    return np.asarray(
        f1_score(rows.class_ids, found_ids, labels=range(num_classes), average=None, zero_division=0)
    )


def line_of(way: Mapping[str, Any]) -> str:
    """A way's figures in words."""
    classes = ", ".join(f"{label} {value:.3f}" for label, value in way["f1"].items())
    return (
        f"{way['way']:9} macro-F1 over attacks {way['attack_macro_f1']:.3f} ({classes}); "
        f"{way['tokens_per_flow']:.0f} tokens a flow, {way['flows_per_s']:,.0f} flows/s trained on {DEVICE}"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="seeds at a time")
    parser.add_argument("--rows", type=int, default=64_000)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--past", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", type=Path, help="write what was found to this JSON file")
    given = parser.parse_args()
    reports: list[Report] = []
    for report in by_seed(
        partial(measure, given.rows, given.past, given.epochs, given.ways), given.seeds, given.jobs
    ):
        reports.append(report)
        if given.out is not None:
            given.out.write_text(json.dumps(reports) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
