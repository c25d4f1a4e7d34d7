"""Files and folders whose names are no UTF-8 are inspected, trained on, resumed, evaluated and scored, and told escaped."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SMALL = ("model.size=mini", "training.epochs=1", "evaluation.baseline=false", "evaluation.num_resamples=50")


def wirebert(folder: Path, *words: str) -> str:
    command = [sys.executable, "-m", "wirebert", *words]
    done = subprocess.run(command, cwd=folder, capture_output=True, check=False)
    text = (done.stdout + done.stderr).decode()
    assert done.returncode == 0, text
    return text


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_name_that_is_no_utf_8_goes_through_every_command(tmp_path: Path):
    data, run = (os.fsdecode(name) for name in (b"\xff\x1b]0;x.csv", b"run\xfd"))
    rows = "".join(
        f"{row % 97 + 500 * (row % 2)},{row % 9},{('benign', 'dos')[row % 2]}\n" for row in range(300)
    )
    (tmp_path / data).write_text("bytes,packets,label\n" + rows)
    settings = [word for one in SMALL for word in ("--set", one)]
    said = wirebert(tmp_path, "inspect", data, "--json")
    said += wirebert(tmp_path, "train", data, "--test", data, "--label", "label", *settings, "--out", run)
    said += wirebert(tmp_path, "train", "--resume", run)
    said += wirebert(tmp_path, "report", run)
    said += wirebert(tmp_path, "evaluate", f"{run}/model", data, "--out", "evaluated")
    said += wirebert(tmp_path, "predict", f"{run}/model", data, "--out", os.fsdecode(b"\xfc.csv"))
    assert (tmp_path / os.fsdecode(b"\xfc.csv")).read_bytes().count(b"\n") == 301
    assert "\x1b" not in said
    page = (tmp_path / run / "report.html").read_text(encoding="utf-8").split("<script>")[0]
    assert "\x1b" not in page
    assert "\\udcff\\x1b]0;x.csv" in page
