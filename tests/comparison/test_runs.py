import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from sklearn.metrics import f1_score

from wirebert.cli.main import main
from wirebert.comparison.runs import compare_runs, group_runs
from wirebert.evaluation.predictions_file import read_predictions

NAMES = np.array(["normal", "dos", "probe"])
ATTACKS = np.array(["normal", "smurf", "neptune", "land", "satan", "nmap"])
CLASS_OF = np.array([0, 1, 1, 1, 2, 2])
RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 6, 240)

MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Writes a finished run: a report, and predictions that are wrong for a share of the rows."""
    from wirebert.metrics.split_metrics import compute_metrics
    from wirebert.report.environment import Hardware
    from wirebert.report.report import DataSection, FileUsage, Report, write_json

    def make(
        name: str, wrong: float, *, seed: int = 1, epochs: int = 5, sha256: str = "aa", rows: int = 240
    ) -> Path:
        true = CLASS_OF[LABELS[:rows]]
        predicted = np.where(np.random.default_rng(seed).random(rows) < wrong, (true + 1) % 3, true)
        probabilities = np.eye(3)[predicted] * 0.8 + 0.1
        folder = tmp_path / name
        (folder / "predictions").mkdir(parents=True)
        table = pa.table(
            {
                "row": np.arange(rows),
                "predicted_class": NAMES[predicted],
                "attack_score": 1 - probabilities[:, 0],
                "label": ATTACKS[LABELS[:rows]],
                "true_class": NAMES[true],
            }
        )
        parquet.write_table(table, folder / "predictions" / "test.parquet")
        metrics = compute_metrics(true, probabilities, tuple(NAMES.tolist()), "normal", num_resamples=20)
        made = Report(
            name=name,
            command="wirebert train train.csv --test test.csv",
            seed=seed,
            splits={"test": metrics},
            data=DataSection(
                files=("train.csv", "test.csv"),
                detected="comma-separated",
                split="A tenth",
                distribution={},
                benign="normal",
                test_usage={"test": FileUsage(sha256, 3, 2)},
            ),
            settings={"training": {"epochs": epochs}, "seed": seed},
            versions={},
            hardware=Hardware(cpu="some processor", num_cores=2),
            training={"flows_per_second": 1000},
        )
        write_json(made, folder / "report.json")
        step = {"event": "step", "step": 1, "loss": 0.5}
        epoch = {"event": "epoch", "step": 1, "valid_loss": 0.4, "valid_macro_f1": 0.7, "is_best": True}
        sample = {"event": "resource", "step": 1, "time": 0.0, "resident_bytes": 3 << 30}
        lines = [json.dumps({"v": 1, "time": 0.0, **record}) for record in (step, sample, epoch)]
        (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return folder

    return make


def test_runs_that_differ_in_the_seed_only_are_one_method(make_run: MakeRun) -> None:
    paths = [
        make_run("base-1", 0.1),
        make_run("other", 0.1, epochs=9),
        make_run("base-2", 0.1, seed=2),
        make_run("again", 0.1, seed=2),
    ]
    methods = group_runs(paths)
    assert [(method.name, method.seeds) for method in methods] == [
        ("base (2 seeds)", (1, 2)),
        ("other", (1,)),
        ("again", (2,)),
    ]


def test_figures_are_those_of_the_predictions(make_run: MakeRun) -> None:
    paths = [make_run("good", 0.1), make_run("bad", 0.5, epochs=9)]
    comparison, _ = compare_runs(paths, num_resamples=100)
    (split,) = comparison.splits
    for path in paths:
        table = parquet.read_table(path / "predictions" / "test.parquet")
        expected = f1_score(
            table.column("true_class").to_pylist(),
            table.column("predicted_class").to_pylist(),
            average="macro",
        )
        assert split.estimates[path.name]["macro_f1"].value == pytest.approx(expected)
    assert (split.num_flows, split.num_clusters) == (240, 5)  # five attacks; benign flows are drawn alone
    assert set(split.differences[0].intervals) == {"rows", "clusters"}
    assert comparison.settings == {"training.epochs": ("5", "9")}
    assert comparison.facts["good"]["flows per second"] == "1,000"
    assert comparison.facts["good"]["memory (GiB)"] == "3.00"


@pytest.mark.parametrize("other", [{"sha256": "bb"}, {"rows": 200}])
def test_other_flows_give_a_sentence_and_no_test(make_run: MakeRun, other: dict[str, Any]) -> None:
    paths = [make_run("one", 0.1), make_run("two", 0.1, epochs=9, **other)]
    (split,) = compare_runs(paths, num_resamples=100)[0].splits
    assert "were evaluated on different flows" in split.note
    assert not split.estimates
    assert not split.differences


class Cells(HTMLParser):
    """Collects texts, and every address that a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.text = ""
        self.lines: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.text += data
        self.lines.append(data)


def test_the_command_prints_tables_and_writes_a_page_that_fetches_nothing(
    make_run: MakeRun, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")  # so that no cell is wrapped
    runs = [str(make_run("good-1", 0.1)), str(make_run("good-2", 0.1, seed=2))]
    runs += [str(make_run("<b>bad", 0.5, epochs=9)), str(make_run("<b>worse", 0.6, seed=2, epochs=9))]
    assert main(["report", *runs, "--out", str(tmp_path / "compare.html")]) == 0
    printed = capfd.readouterr().out
    for expected in (
        "good (2 seeds)",
        "over seeds",
        "bootstrap over attack names",
        "Holm",
        "training.epochs",
    ):
        assert expected in printed
    assert "Used for 3 tests, with 2 sets of settings" in printed.replace("\n", " ")
    cells = Cells()
    cells.feed((tmp_path / "compare.html").read_text(encoding="utf-8"))
    assert all(address.startswith("#") for address in cells.fetched)
    assert "<b> (2 seeds)" in cells.text
    assert {f"F1 of {name}" for name in NAMES} <= {line.strip() for line in cells.lines}
    assert "Validation loss" in (tmp_path / "compare.html").read_text(encoding="utf-8")


def test_detection_goes_by_what_alerts_go_by(make_run: MakeRun) -> None:
    path = make_run("joined", 0.1) / "predictions" / "test.parquet"
    assert not read_predictions(path).is_joined
    table = parquet.read_table(path)
    alarms = np.random.default_rng(1).random(240)
    parquet.write_table(table.append_column("alert_score", pa.array(alarms)), path)
    found = read_predictions(path)
    assert found.is_joined
    assert found.scores is not None
    assert found.scores.tolist() == alarms.tolist()
