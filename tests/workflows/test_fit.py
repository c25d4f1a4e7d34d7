from dataclasses import replace
from pathlib import Path

import pytest

from wirebert.config import resolve_run
from wirebert.run_folder import RunFolder
from wirebert.training.config import TrainConfig
from wirebert.workflows.fit import resolve_auto


@pytest.mark.parametrize(("threads", "expected"), [(None, 2), (5, 5)])
def test_threads_are_chosen_once_and_written_for_resuming(
    threads: int | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wirebert.workflows.fit.num_processors", lambda: 2)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    folder = RunFolder(tmp_path)
    run = replace(resolve_run(), training=TrainConfig(threads=threads))
    resolve_auto(run, folder, num_flows=100, width=32)
    monkeypatch.setattr("wirebert.workflows.fit.num_processors", lambda: 1)  # resumed on a smaller machine
    resumed = resolve_auto(resolve_run(folder.run_toml), folder, num_flows=100, width=32)
    assert resumed.training.threads == expected
