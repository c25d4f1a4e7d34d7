"""What it costs to tell what is new: choosing the flows that are kept, and measuring how far others are from them.

    python benchmarks/novelty.py --kept 2000 5000 10000

On NSL-KDD's training file in WIREBERT_DATA (../shared/data without it), by the columns alone: no model is needed. Nine tenths
of its flows are there to be kept, the others are scored, the best of several rounds.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np

from wirebert.data.loading import open_flows
from wirebert.evaluation.novelty import Neighbours, Strangeness
from wirebert.evaluation.tree_features import concatenate, measure

SEED = 1
ROUNDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and speed of novelty.")
    default = Path(os.environ.get("WIREBERT_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser.add_argument("--data", default=str(default / "nsl-kdd" / "KDDTrain+.txt.gz"))
    parser.add_argument("--kept", nargs="+", type=int, default=[5_000])
    options = parser.parse_args()
    flows = open_flows(options.data)
    table = concatenate([measure(block, flows.schema) for block in flows.blocks()])
    order = np.random.default_rng(SEED).permutation(table.num_rows)
    train, others = table.take(order[: -len(order) // 10]), table.take(order[-len(order) // 10 :])
    for num_kept in options.kept:
        start_s = time.perf_counter()
        strangeness = Strangeness.fit(train, num_kept, SEED)
        fit_s = time.perf_counter() - start_s
        points = strangeness.space.points(others)
        speeds = [speed(strangeness.neighbours, points) for _ in range(ROUNDS)]
        print(
            f"{num_kept:,} of {train.num_rows:,} flows, {points.shape[1]} dimensions: fitted in {fit_s:.1f} s; "
            f"{max(speeds):,.0f} flows/s ({min(speeds):,.0f} at worst)"
        )


def speed(neighbours: Neighbours, points: np.ndarray) -> float:
    """Flows a second."""
    start_s = time.perf_counter()
    neighbours.distances(points)
    return len(points) / (time.perf_counter() - start_s)


if __name__ == "__main__":
    main()
