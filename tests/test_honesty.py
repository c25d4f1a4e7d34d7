"""No choice uses a test row: the model has the same bits whatever the test file holds, and is saved first."""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from wirebert.cli.main import main

# In a process of its own, since an audit hook cannot be removed.
WATCHER = """
import sys
from pathlib import Path

test, manifest = Path(sys.argv[1]), Path(sys.argv[2])

def watch(event, arguments):
    if event == "open" and isinstance(arguments[0], str) and Path(arguments[0]) == test:
        print("opened with model" if manifest.exists() else "opened without model")

sys.addaudithook(watch)
from wirebert.cli.main import main
sys.exit(main(sys.argv[3:]))
"""


@pytest.mark.soak
def test_the_test_file_is_not_opened_before_the_model_is_saved(
    traffic: Path, tiny: list[str], tmp_path: Path
) -> None:
    test, out = traffic / "test.csv", tmp_path / "run"
    command = ["train", str(traffic / "train.csv"), "--test", str(test), "--out", str(out), *tiny]
    done = subprocess.run(
        [sys.executable, "-c", WATCHER, str(test), str(out / "model" / "wirebert.json"), *command],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    opened = [line for line in done.stdout.splitlines() if line.startswith("opened with")]
    assert opened
    assert set(opened) == {"opened with model"}


@pytest.mark.slow
def test_the_model_is_the_same_bits_whatever_the_test_file_holds(
    trained: Path, traffic: Path, tiny: list[str], tmp_path: Path
) -> None:
    test, out = traffic / "test.csv", tmp_path / "run"
    text = test.read_text(encoding="utf-8")
    head, *lines = text.splitlines()
    turned = [",".join([*line.split(",")[:-1], "port_scan"]) for line in reversed(lines[:200])]
    try:  # under the name that `trained` was tested on, which its settings hold
        test.write_text("\n".join([head, *turned]) + "\n", encoding="utf-8")
        assert main(["train", str(traffic / "train.csv"), "--test", str(test), "--out", str(out), *tiny]) == 0
    finally:
        test.write_text(text, encoding="utf-8")
    models: list[dict[str, str]] = []
    for run in (trained, out):
        files = sorted((run / "model").iterdir())
        digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        del digests["README.md"]  # it contains test metrics
        models.append(digests)
    assert len(models[0]) >= 5
    assert models[0] == models[1]
