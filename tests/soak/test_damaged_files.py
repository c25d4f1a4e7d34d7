"""Thousands of damaged traffic files end in a result or in one sentence: `mutate.py`, at a fixed seed."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "mutate.py"


@pytest.mark.soak
@pytest.mark.timeout(5400)
def test_no_damaged_file_crashes_inspect_or_loses_a_line() -> None:
    command = [sys.executable, str(PROGRAM), "--count", "20000", "--seed", "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "20,000 files, 0 failures" in done.stdout
