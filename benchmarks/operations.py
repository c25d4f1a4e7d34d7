"""Which operations of an export take a core's time?

    python benchmarks/operations.py MODEL [MODEL ...] [--rows N] [--slots 704] [--out result.json]

ONNX Runtime's own profile of each export in the model folders, one thread, on the test file of NSL-KDD (generated traffic
where there is none): calls, milliseconds and microseconds a call of each kind of operation. Beside it the best of five
passes without the profile, in rows a second of one core. The batches are those of `predict`.
"""

import argparse
import json
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from harness import matrix_gflops, traffic, write_figures

from wirebert.data.flows import open_flows
from wirebert.encoding.token_rows import JaggedRows, by_length
from wirebert.inference.artifact import Artifact, load_artifact
from wirebert.inference.onnx_backend import ONNX_TOKENS, open_session, padded, session_options

GENERATED_ROWS = 20_000
PASSES = 5

Batches = list[dict[str, np.ndarray]]


def batches_of(rows: JaggedRows, artifact: Artifact, slots: int) -> Batches:
    """The inputs of the model, a batch each."""
    pad_id = artifact.tokenizer.pad_id
    inputs = (padded(rows, batch, pad_id=pad_id) for batch in by_length(np.diff(rows.offsets), slots))
    return [{"ids": ids, "mask": mask} for ids, mask in inputs]


def profiled(path: Path, batches: Batches, folder: Path) -> list[dict[str, Any]]:
    """Calls and milliseconds of each kind of operation, the longest first."""
    options = session_options()
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for batch in batches:
        session.run(["logits"], batch)
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    calls, ms = Counter[str](), Counter[str]()
    for event in events:
        if event["name"].endswith("_kernel_time"):
            calls[event["args"]["op_name"]] += 1
            ms[event["args"]["op_name"]] += event["dur"] / 1_000
    return [
        {"operation": name, "calls": calls[name], "ms": round(total, 1)} for name, total in ms.most_common()
    ]


def best_seconds(path: Path, batches: Batches) -> float:
    """The fastest pass, without the profile."""
    session = open_session(path)
    took: list[float] = []
    for _ in range(PASSES):
        start_s = time.perf_counter()
        for batch in batches:
            session.run(["logits"], batch)
        took.append(time.perf_counter() - start_s)
    return min(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL", help="model folder with an export")
    parser.add_argument("--rows", type=int, help="the first rows alone")
    parser.add_argument("--slots", type=int, default=ONNX_TOKENS, help="of a batch")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args()
    found: dict[str, object] = {"matrix_gflops": matrix_gflops()}
    print(f"matrix product {found['matrix_gflops']:.0f} GFLOP/s", flush=True)
    with tempfile.TemporaryDirectory() as name:
        _, test = traffic(Path(name), GENERATED_ROWS)
        for model in options.models:
            artifact = load_artifact(model)
            table = next(iter(open_flows(test, schema=artifact.schema).blocks())).slice(0, options.rows)
            batches = batches_of(artifact.tokenizer.encode(table), artifact, options.slots)
            for kind, export in artifact.exports.items():
                operations = profiled(export.path, batches, Path(name))
                rate = len(table) / best_seconds(export.path, batches)
                found[f"{model} {kind}"] = {"rows_per_s": rate, "operations": operations}
                print(f"\n{model}, {kind}: {len(table):,} rows, {rate:,.0f} rows/s of one core", flush=True)
                for one in operations:
                    each = 1_000 * one["ms"] / one["calls"]
                    print(
                        f"  {one['operation']:24} {one['calls']:7,} {one['ms']:9,.1f} ms {each:8.1f} us each"
                    )
    write_figures(options.out, **found)


if __name__ == "__main__":
    main()
