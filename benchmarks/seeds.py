"""One measurement with several seeds, each in a process of its own, some of them side by side."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context

from wirebert.contest import limit_threads

Report = Mapping[str, object]
"""What a measurement found, as plain data."""


def by_seed(measure: Callable[[int], Report], seeds: Sequence[int], num_jobs: int) -> Iterator[Report]:
    """The report of each seed, whichever is done first."""
    os.environ.update(limit_threads(num_jobs))  # for the processes to come: this one computes nothing
    with ProcessPoolExecutor(num_jobs, mp_context=get_context("spawn"), max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(measure, seed) for seed in seeds]):
            yield future.result()
