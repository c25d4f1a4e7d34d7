"""`wirebert demo`: a training on generated traffic."""

import argparse

from wirebert.cli.training_commands import fit
from wirebert.config import resolve_run, write_run
from wirebert.console import SafeConsole, say
from wirebert.data.synthetic import generate, write_csv
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.data.synthetic.traffic import FLOWS_PER_BLOCK
from wirebert.errors import ConfigError
from wirebert.run_folder import new_run_folder, next_run_path

DEMO_EPOCHS = 6
"""Enough for a good model in minutes on two cores."""

DEMO_TEST_DIVISOR = 3
"""The demo has a third as many test flows as training flows."""


def demo(options: argparse.Namespace) -> None:
    """Generate traffic, train the mini model on it, and report."""
    min_rows = DEMO_TEST_DIVISOR * FLOWS_PER_BLOCK if options.stealthy else 1_000
    if options.rows < min_rows:
        raise ConfigError(
            f"--rows must be at least {min_rows}{' with --stealthy' * options.stealthy}, so that every class "
            f"occurs, got {options.rows}"
        )
    console = SafeConsole()
    path = options.out or next_run_path("demo")
    traffic = path / "traffic"
    files = [traffic / f"{name}.{'conn.log' if options.stealthy else 'csv'}" for name in ("train", "test")]
    given = {
        "train": str(files[0]),
        "test": [str(files[1])],
        "seed": options.seed,
        "model": {"size": "mini"},
        "training": {"epochs": DEMO_EPOCHS},
    }
    run = resolve_run(given=given)
    with new_run_folder(path) as folder:
        traffic.mkdir()
        num_tests = options.rows // DEMO_TEST_DIVISOR
        say(console, f"generating {options.rows:,} training flows and {num_tests:,} test flows")
        # Another seed generates other hosts, so the test traffic comes from a network unknown to training.
        for file, num_rows, seed in zip(
            files,
            (options.rows, num_tests),
            (options.seed, options.seed + 1),
            strict=True,
        ):
            if options.stealthy:
                write_conn_log(file, generate(num_rows, seed, stealthy=True), seed)
            else:
                write_csv(file, num_rows, seed)
        write_run(run, folder.run_toml)
        fit(run, folder, console)
