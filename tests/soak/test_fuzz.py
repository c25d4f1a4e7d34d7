"""Readers, the artifact loader and bodies under coverage-guided fuzzing, and a million damaged records.

WIREBERT_FUZZ_SECONDS: seconds of each target (600 without it); the extra `fuzz` installs what guides it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SECONDS = int(os.environ.get("WIREBERT_FUZZ_SECONDS", "600"))
TARGETS = (
    *("comma", "key-value-lines", "json-lines", "suricata-in-one-array", "zeek", "suricata", "argus"),
    *("nested-parquet", "arrow-file", "arrow-stream", "gzip", "xz", "zip", "artifact"),
    *("application/json", "application/x-ndjson", "text/csv", "text/plain"),
    "application/vnd.apache.arrow.stream",
)


@pytest.mark.soak
@pytest.mark.timeout(SECONDS + 600)
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_that_coverage_leads_to_ends_in_a_traceback(trained: Path, tmp_path: Path, target: str):
    pytest.importorskip("atheris", reason="needs the extra `fuzz`")
    command = [sys.executable, str(BENCHMARKS / "fuzz.py"), target, "--model", str(trained / "model")]
    done = subprocess.run(
        [*command, "--seconds", str(SECONDS)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_each_of_a_million_damaged_records_is_scored_or_told(trained: Path):
    command = [sys.executable, str(BENCHMARKS / "records.py"), str(trained / "model"), "--minutes", "110"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "damaged records, 0 failures" in done.stdout
