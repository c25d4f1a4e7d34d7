"""Ray starts slowly, so what needs it is run by `make soak`; what is said without it, always."""

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.cluster.test_ray_executor import children

from wirebert.cli.main import main
from wirebert.data.synthetic import write_csv

SETTINGS = (
    "model.size=mini",
    "training.epochs=3",
    "training.batch_size=8",
    "training.checkpoint_every=5",
    "training.threads=1",
    "training.device=cpu",
    "evaluation.baseline=false",
    "evaluation.num_resamples=100",
)
GIVEN = (*(word for each in SETTINGS for word in ("--set", each)), "--seed", "3")


@pytest.mark.parametrize("command", [("train",), ("distill", "runs/teacher")])
def test_without_ray_the_extra_is_named_before_anything_is_written(
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.chdir(tmp_path)
    assert main([*command, "missing.csv", "--cluster", "local", "--out", "run"]) == 2
    assert "pip install 'wirebert[ray]'" in capfd.readouterr().err
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(("--workers", "0"), "at least 1"), (("--cluster", "local", "--workers", "0"), "at least 1")],
)
def test_a_number_of_ranks_that_makes_no_sense_is_refused(
    options: tuple[str, ...], sentence: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    assert main(["train", "missing.csv", "--out", str(tmp_path / "run"), *options]) == 2
    assert sentence in capfd.readouterr().err


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("traffic")
    write_csv(folder / "train.csv", 1200, 1)
    write_csv(folder / "test.csv", 300, 2)
    return folder


def train(traffic: Path, out: Path, *more: str, launcher: tuple[str, ...] = (), code: int = 0) -> str:
    """Train in a process of its own, which ends with `code`; returns what it printed to both streams."""
    command = [*launcher, "-m", "wirebert", "train", "train.csv", "--test", "test.csv", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, *command, *GIVEN, *more],
        cwd=traffic,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == code, done.stdout
    return done.stdout


def digest(run: Path) -> str:
    return hashlib.sha256((run / "model" / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def under_torchrun(traffic: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    run = tmp_path_factory.mktemp("torchrun") / "run"
    train(traffic, run, launcher=("-m", "torch.distributed.run", "--nproc-per-node", "2"))
    return digest(run)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_two_workers_of_ray_train_end_with_the_bits_of_torchrun(
    traffic: Path, under_torchrun: str, tmp_path: Path
):
    printed = train(traffic, tmp_path / "run", "--cluster", "local", "--workers", "2")
    assert printed.count("report: ") == 1
    assert "in 2 processes" in printed
    assert digest(tmp_path / "run") == under_torchrun
    assert not (tmp_path / "run" / "output.txt").exists()


class Killer(threading.Thread):
    """Kills a rank after each new checkpoint, five times."""

    def __init__(self, run: Path) -> None:
        super().__init__(daemon=True)
        self.run_folder, self.num_killed, self.is_over = run, 0, False

    def run(self) -> None:
        seen: set[str] = set()
        while not self.is_over and self.num_killed < 5:
            time.sleep(0.05)
            names = {path.name for path in self.run_folder.glob("checkpoints/checkpoint-*")}
            workers = children(("RayTrainWorker",))
            if names - seen and workers:
                os.kill(workers[self.num_killed % len(workers)], signal.SIGKILL)
                self.num_killed, seen = self.num_killed + 1, names | seen
                time.sleep(5)  # until the others are ended, or the next one would be of the same death


@pytest.mark.soak
@pytest.mark.timeout(1500)
def test_ranks_that_are_killed_five_times_end_with_the_same_bits(
    traffic: Path, under_torchrun: str, tmp_path: Path
):
    killer = Killer(tmp_path / "run")
    killer.start()
    printed = train(traffic, tmp_path / "run", "--cluster", "local", "--workers", "2")
    killer.is_over = True
    killer.join()
    assert killer.num_killed == 5, printed
    assert printed.count("a rank of the training died; all go on from the newest checkpoint") == 5
    assert digest(tmp_path / "run") == under_torchrun


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_error_of_one_rank_is_one_sentence_and_no_rank_starts_again(traffic: Path, tmp_path: Path):
    options = ("--cluster", "local", "--workers", "2", "--label", "nosuch")
    printed = train(traffic, tmp_path / "run", *options, code=2)
    lines = [line for line in printed.splitlines() if line.startswith("wirebert: ")]
    assert len(lines) == 1
    assert "nosuch" in lines[0]
    assert not (tmp_path / "run").exists()
