"""A redacted page holds no address, name, payload or path of the data: each is unique, and looked for."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.report.test_learning import learning_report

from wirebert.data.findings import Finding
from wirebert.metrics.split_metrics import Mistake
from wirebert.report.columns import ColumnDrift, Columns, ColumnSummary
from wirebert.report.html.learning import learning_page
from wirebert.report.html.page import page
from wirebert.report.plots.run import run_charts
from wirebert.report.redact import redacted, redacted_learning
from wirebert.report.report import FileUsage, Report

if TYPE_CHECKING:
    from wirebert.telemetry.history import History

SECRETS = {
    "src_ip": ("address", "203.0.113.77"),
    "uid": ("identifier", "CSecretUid77"),
    "ts": ("time", "1767225677.77"),
    "uri": ("text", "/secret/payload77"),
    "server_name": ("category", "secret-host77"),
    "user_name": ("category", "secretuser77"),
    "agent": ("category", "curl secret77@example.org"),
    "note": ("category", "build77.corp.internal"),
}
SHOWN = {"service": ("category", "http"), "bytes": ("count", "181")}
PATHS = ("/secret/folder77/monday77.csv", "tuesday77.csv")


@pytest.fixture(scope="module")
def secret(report: Report) -> Report:
    columns = SECRETS | SHOWN
    flow = {name: value for name, (_, value) in columns.items()}
    mistake = Mistake(
        row=3, label="smurf", true_class="dos", predicted_class="normal", probability=0.9, flow=flow
    )
    typical = {
        name: ColumnSummary(values={value: 1.0})
        if kind != "count"
        else ColumnSummary(quantiles=(1.0, 181.0, 200.0))
        for name, (kind, value) in columns.items()
    }
    drift = tuple(
        ColumnDrift(column=name, distance=0.5, bins=(value, "other"), train=(1.0, 0.0), test=(0.5, 0.5))
        for name, (_, value) in columns.items()
    )
    findings = tuple(
        Finding(code="label_leak", severity="warning", column=name, example=value, message=f"{value} leaks")
        for name, (_, value) in SECRETS.items()
    )
    splits = {
        "valid": report.splits["valid"],
        "tuesday77": replace(report.splits["test"], mistakes=(mistake,)),
    }
    data = replace(
        report.data,
        files=PATHS,
        detected="monday77.csv: comma-separated",
        split="rows of monday77 by time",
        findings=findings,
        distribution={
            "train": report.data.distribution["train"],
            "tuesday77": report.data.distribution["test"],
        },
        test_usage={"tuesday77": FileUsage(sha256="ab" * 32)},
    )
    trees = {
        key: replace(one, splits={"valid": one.splits["valid"], "tuesday77": one.splits["test"]},
                     summary={"fitted_on": PATHS[0]})
        for key, one in report.baselines.items()
    }  # fmt: skip
    return replace(
        report,
        name="monday77",
        command=f"wirebert train {PATHS[0]} --test {PATHS[1]}",
        splits=splits,
        data=data,
        baselines=trees,
        settings={"train": PATHS[0], "encoding": {"networks": ["203.0.113.0/24"]}, "model": {"size": "mini"}},
        training={"teacher": PATHS[0], "steps": 100},
        columns=Columns(
            kinds={name: kind for name, (kind, _) in columns.items()},
            typical={"dos": typical, "normal": typical},
            drift={"tuesday77": drift},
        ),
    )


def html(report: Report, history: "History") -> str:
    drawn = run_charts(report, history)
    return page(report, drawn, dict.fromkeys(drawn, '<svg viewBox="0 0 9 9"></svg>'))


def test_no_value_that_identifies_and_no_path_stands_in_the_page(secret: Report, history: "History"):
    whole, shared = html(secret, history), html(redacted(secret), history)
    hidden = [value for _, value in SECRETS.values()] + ["monday77", "tuesday77", "folder77", "203.0.113."]
    assert [value for value in hidden if value not in whole] == []  # or there would be nothing to leave out
    assert [value for value in hidden if value in shared] == []
    assert "77" not in "".join(line for line in redacted(secret).to_json()["data"]["files"])  # pyright: ignore


def test_what_identifies_nobody_stays_and_the_page_says_that_it_is_redacted(
    secret: Report, history: "History"
):
    shared = html(redacted(secret), history)
    assert "Redacted: addresses, names, times, payloads and file paths are left out" in shared
    flow = redacted(secret).splits["test 1"].mistakes[0].flow
    assert flow == {"service": "http", "bytes": "181", "agent": "left out", "note": "left out"}
    assert redacted(secret).splits["test 1"].confusion == secret.splits["tuesday77"].confusion
    assert redacted(secret).training == {"steps": 100}
    assert redacted(secret).columns.drift["test 1"][-1].column == "bytes"


def test_a_column_of_unknown_kind_is_left_out(secret: Report):
    blank = redacted(replace(secret, columns=Columns()))
    assert blank.splits["test 1"].mistakes[0].flow == {}


def test_the_command_writes_the_page_of_a_real_run_without_its_values(
    trained: Path, tmp_path: Path, traffic: Path
):
    from wirebert.cli.main import main

    out = tmp_path / "shared.html"
    assert main(["report", str(trained), "--redact", "--out", str(out)]) == 0
    text = out.read_text(encoding="utf-8")
    assert str(traffic) not in text
    assert "train.csv" not in text
    assert main(["report", str(trained), str(trained), "--redact"]) == 2


def test_a_redacted_report_of_learning_names_no_host_time_file_or_value():
    report = learning_report()
    flow = replace(
        report.unusual[0],
        columns={"time": "1970-01-01T00:00:77", "source": "10.0.0.1", "destination port": "2377"},
        reasons=("server_name:secret-host77 (novelty 0.90)",),
    )
    secret = replace(report, unusual=(flow,), split="of monday77.csv", settings={"rows": ("/home/x77",)})
    found = learning_page(redacted_learning(secret))
    assert all(text in learning_page(secret) for text in ("10.0.0.1", "secret-host77", "conn.log", "00:77"))
    assert not any(
        text in found for text in ("10.0.0.", "secret-host77", "conn.log", "00:77", "monday77", "x77")
    )
    assert "2377" in found
    assert "server_name" in found
