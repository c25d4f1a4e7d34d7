"""Trainings killed at random moments end with the bits of an undisturbed one: `kill.py`, at a fixed seed."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "kill.py"
SMALL = ("model.dim=32", "model.num_layers=1", "model.num_heads=2", "model.hidden_dim=32")


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_killed_trainings_end_with_the_bits_of_an_undisturbed_one() -> None:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    command = [sys.executable, str(PROGRAM), "--kills", "4", "--rows", "600", *settings]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 runs ended with the same bits" in done.stdout
