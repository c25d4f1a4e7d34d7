from pathlib import Path

import pytest

from wirebert.cli.main import main
from wirebert.config import RunConfig, resolve_run
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import open_flows
from wirebert.data.synthetic.stealthy import STEALTHY_ATTACKS


@pytest.mark.slow
def test_the_demo_is_one_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    calls: list[tuple[int, list[str]]] = []

    def fit(run: object, *_: object) -> None:
        resolved = resolve_run(tmp_path / "runs" / "demo" / "run.toml")
        assert run == resolved
        calls.append((resolved.seed, [resolved.train, *resolved.test]))

    monkeypatch.setattr("wirebert.workflows.train.train", fit)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--rows", "1200", "--seed", "4"]) == 0
    ((seed, files),) = calls
    assert seed == 4
    assert [len(Path(file).read_text().splitlines()) - 1 for file in files] == [1200, 400]


@pytest.mark.slow
def test_the_quiet_demo_trains_on_a_log_with_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[RunConfig] = []

    def fit(run: RunConfig, *_: object) -> None:
        assert open_flows(run.train).schema.context is not None
        calls.append(run)

    monkeypatch.setattr("wirebert.workflows.train.train", fit)
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--stealthy", "--rows", "24000"]) == 0
    (run,) = calls
    assert Path(run.train).name == "train.conn.log"
    test = open_flows(run.test[0])
    assert set(profile_table(test).label_counts) == {
        "benign",
        *(attack.__name__ for attack in STEALTHY_ATTACKS),
    }
