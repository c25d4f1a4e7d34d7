"""How fast flows get their context, and what its state takes with a million hosts.

    python benchmarks/context.py [--flows 3000000] [--hosts 1000000] [--batch 50000] [--out result.json]

Random flows between random hosts, hardly one channel twice, are the worst case for the state; a busy network, in which
half of all flows are of a thousand hosts, stands beside it. The speed of a fixed matrix product is measured before and
after each run, so that machines compare.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from harness import matrix_gflops

from wirebert.data.context import FlowContext
from wirebert.data.windows import ContextWindows

SERVICES = np.array([53, 80, 443, 22, 25, 123, 445, 3389])


class Timing(NamedTuple):
    """One run."""

    name: str
    num_flows: int
    num_hosts: int
    flows_per_s: float
    flows_per_cpu_s: float
    """By the processor's clock, which other programs on the machine do not slow down."""
    slowest_batch_s: float
    state_mb: float
    peak_mb: float
    """Of the whole process, in resident memory."""
    matrix_gflops: tuple[float, float]
    """Speed of a fixed float32 matrix product before and after."""


def batches(
    num_flows: int, num_hosts: int, batch_rows: int, span_s: float, busy_share: float
) -> Iterator[pa.Table]:
    """Typed tables as readers give them: addresses and states as dictionaries of the batch."""
    generator = np.random.default_rng(0)
    states = pa.array(["SF", "S0", "REJ"])
    for first in range(0, num_flows, batch_rows):
        count = min(batch_rows, num_flows - first)
        ends = generator.integers(0, num_hosts, (2, count))
        ends = np.where(generator.random((2, count)) < busy_share, ends % 1_000, ends)
        ts = 1.7e9 + (first + np.arange(count)) * (span_s / num_flows)
        columns = {
            "ts": pa.array(ts).cast(pa.string()),
            "src_ip": addresses(ends[0]),
            "dst_ip": addresses(ends[1]),
            "dst_port": pa.array(generator.choice(SERVICES, count).astype(float)),
            "conn_state": pa.DictionaryArray.from_arrays(
                generator.integers(0, 3, count).astype(np.int32), states
            ),
            "src_ip_bytes": pa.array(generator.integers(40, 100_000, count).astype(float)),
            "dst_ip_bytes": pa.array(generator.integers(40, 100_000, count).astype(float)),
        }
        yield pa.table(columns)


def addresses(hosts: np.ndarray) -> pa.DictionaryArray:
    """Hosts as dotted addresses, each distinct one spelled once."""
    distinct, index = np.unique(hosts, return_inverse=True)
    texts = [f"10.{host >> 16}.{host >> 8 & 255}.{host & 255}" for host in distinct.tolist()]
    return pa.DictionaryArray.from_arrays(index.astype(np.int32), pa.array(texts))


def measure(
    name: str, num_flows: int, num_hosts: int, batch_rows: int, span_s: float, busy_share: float
) -> Timing:
    """Time a run; making the flows does not count."""
    context = FlowContext(ContextWindows())
    before = matrix_gflops()
    seconds = [0.0]
    size_bytes, cpu_s = 0, 0.0
    for table in batches(num_flows, num_hosts, batch_rows, span_s, busy_share):
        start, cpu_start = time.perf_counter(), time.process_time()
        context.append(table)
        seconds.append(time.perf_counter() - start)
        cpu_s += time.process_time() - cpu_start
        size_bytes = max(size_bytes, context.size_bytes)
    return Timing(
        name=name,
        num_flows=num_flows,
        num_hosts=num_hosts,
        flows_per_s=num_flows / sum(seconds),
        flows_per_cpu_s=num_flows / cpu_s,
        slowest_batch_s=max(seconds),
        state_mb=size_bytes / 1e6,
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3,
        matrix_gflops=(before, matrix_gflops()),
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--flows", type=int, default=3_000_000)
    parser.add_argument("--hosts", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=50_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    runs = (("busy network, 4 h", 4 * 3_600.0, 0.5), ("random hosts, one hour", 3_600.0, 0.0))
    timings = [
        measure(name, given.flows, given.hosts, given.batch, span_s, busy_share)
        for name, span_s, busy_share in runs
    ]
    for timing in timings:
        print(
            f"{timing.name:24} {timing.flows_per_s:9,.0f} flows/s, {timing.flows_per_cpu_s:,.0f} a CPU second, slowest batch {timing.slowest_batch_s:.2f} s, state "
            f"{timing.state_mb:,.0f} MB, process {timing.peak_mb:,.0f} MB "
            f"(matrix product {timing.matrix_gflops[0]:.0f} and {timing.matrix_gflops[1]:.0f} GFLOP/s)"
        )
    if given.out is not None:
        given.out.write_text(json.dumps([timing._asdict() for timing in timings], indent=1))


if __name__ == "__main__":
    main()
