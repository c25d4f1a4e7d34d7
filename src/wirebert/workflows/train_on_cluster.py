"""A training on a Ray cluster: the same `train` on every rank, in a run folder that all of them reach."""

import os
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Final

from wirebert.cluster.ray_executor import RayCluster
from wirebert.cluster.ray_ranks import run_ranks
from wirebert.config import resolve_run
from wirebert.console import SafeConsole
from wirebert.report.report import Report, read_json
from wirebert.run_folder import RunFolder
from wirebert.training.checkpoint import CheckpointFolder
from wirebert.training.parallel.process_group import init_process_group
from wirebert.workflows.rank_jobs import run_worker
from wirebert.workflows.train import train

_LOOK_S: Final = 0.2


def train_on_cluster(cluster: RayCluster, folder: RunFolder) -> Report:
    """Train the run of `folder` on the cluster, from its newest checkpoint, and print what rank 0 prints.

    Raises:
        ConfigError: the cluster is not reached, or has no room.
        DataError: ranks die again and again without a new checkpoint between.
    """
    output = folder.path / "output.txt"
    output.write_text("", encoding="utf-8")  # a driver that was killed may have left some
    checkpoints = CheckpointFolder(folder.checkpoints)
    with closing(cluster), _shown(output):
        run_ranks(cluster, partial(train_rank, folder.path.absolute(), output.absolute()), checkpoints.steps)
    output.unlink()
    return read_json(folder.report_json)


def train_rank(path: Path, output: Path) -> None:
    """The training as one rank of it; only the first one prints."""
    with (
        init_process_group(os.environ) as group,
        (output if group.communicator.is_main else Path(os.devnull)).open("a", encoding="utf-8") as file,
        redirect_stdout(file),
        redirect_stderr(file),
    ):
        if group.communicator.is_main:
            folder = RunFolder(path)
            train(resolve_run(folder.run_toml), folder, SafeConsole(), group)
        else:
            run_worker(group)


@contextmanager
def _shown(output: Path) -> Generator[None]:
    """Print what is written to a file while the block runs."""
    is_over = threading.Event()
    with output.open(encoding="utf-8", errors="replace") as file:
        thread = threading.Thread(target=_copy, args=(file.read, is_over), daemon=True)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


def _copy(read: Callable[[], str], is_over: threading.Event) -> None:
    while not is_over.wait(_LOOK_S):
        _print(read())
    _print(read())


def _print(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()
