import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from wirebert.report.report import read_json

LONGEST_S = 120


def run(script: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run a script of its own, without GPUs."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )


def test_a_rank_that_is_started_joins_and_leaves_and_the_environment_is_as_before(tmp_path: Path):
    done = run(
        """
        import os
        from wirebert.workflows.ranks import other_ranks

        before = dict(os.environ)
        with other_ranks(2):
            from wirebert.training.parallel.process_group import init_process_group

            with init_process_group(os.environ) as group:
                print(group.communicator.rank, group.communicator.size)
                group.release_workers()
        assert dict(os.environ) == before
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "0 2\n"), done.stderr


def test_a_process_that_waits_for_a_killed_rank_ends_with_one_sentence(tmp_path: Path):
    done = run(
        """
        import time
        import psutil
        from wirebert.workflows import ranks

        ranks._GRACE_S = 0.1
        with ranks.other_ranks(2):
            psutil.Process().children()[0].kill()
            time.sleep(60)
        """,
        tmp_path,
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("wirebert: rank 1: this process of the training ended without saying why")


def test_one_rank_is_this_process_alone(tmp_path: Path):
    done = run(
        """
        import os, psutil
        from wirebert.workflows.ranks import other_ranks

        with other_ranks(1):
            assert not psutil.Process().children()
            assert "WORLD_SIZE" not in os.environ
        """,
        tmp_path,
    )
    assert done.returncode == 0, done.stderr


def test_a_rank_joins_before_it_imports_what_its_jobs_need(tmp_path: Path):
    """Until it has joined, the first rank waits."""
    done = run(
        """
        import os, sys
        from wirebert.cli.main import main
        from wirebert.training.parallel import process_group

        def join(_environment):
            print("wirebert.training.trainer" in sys.modules)
            raise SystemExit(0)

        process_group.init_process_group = join
        os.environ |= {"RANK": "1", "WORLD_SIZE": "2"}
        main(["train"])
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


@pytest.mark.soak
def test_two_ranks_that_the_command_starts_report_what_one_process_does(traffic: Path, tmp_path: Path):
    for number in (1, 2):
        done = run(
            f"""
            from wirebert.cli.training_commands import fit
            from wirebert.workflows.ranks import Ranks
            from wirebert.config import resolve_run
            from wirebert.console import SafeConsole
            from wirebert.run_folder import new_run_folder
            from pathlib import Path

            settings = ["model.size=mini", "training.epochs=1", "training.threads=1", "model.dropout=0.0"]
            settings += ["model.attention_dropout=0.0", "model.head_dropout=0.0", "training.device=cpu"]
            run = resolve_run(None, settings, {{"train": {str(traffic / "train.csv")!r}}})
            with new_run_folder(Path("run{number}")) as folder:
                fit(run, folder, SafeConsole(), Ranks({number}))
            """,
            tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("report: ") == 1
    one, two = (read_json(tmp_path / f"run{number}" / "report.json") for number in (1, 2))
    for split, expected in one.splits.items():
        assert two.splits[split].loss == pytest.approx(expected.loss, abs=1e-4)
