from pathlib import Path

from wirebert.metrics.masked_lm import MaskedMetrics
from wirebert.metrics.thresholds import Threshold
from wirebert.report.environment import Hardware
from wirebert.report.learning import (
    FrequentValues,
    LearningReport,
    NormalTraffic,
    UnusualFlow,
    flow_line,
    learning_lines,
    normal_lines,
    read_learning,
)

AT = Threshold(
    target_fpr=0.01,
    threshold=4.5,
    num_benign=200,
    num_false_positives=2,
    fpr_interval=(0.003, 0.036),
    num_distinct=150,
    is_trusted=False,
)
FLOW = UnusualFlow(
    row=7,
    score=9.5,
    verdict="alert",
    num_equal=3,
    columns={"source": "10.0.0.1", "destination port": "<b>23"},
    reasons=("dst_port:23 (novelty 0.90)",),
)
MASKED = MaskedMetrics(num_masked=10, loss=0.5, accuracy=0.8, frequent_accuracy=0.6)


def learning_report() -> LearningReport:
    normal = NormalTraffic(
        num_flows=1000,
        first_s=0.0,
        last_s=1.0,
        flows_by_hour=(900, 100, *([0] * 22)),
        columns=(FrequentValues(column="source", num_distinct=2, counts={"10.0.0.1": 750, "10.0.0.2": 250}),),
    )
    return LearningReport(
        name="run",
        command="wirebert learn conn.log",
        seed=1,
        files=("conn.log",),
        fingerprint="ab",
        num_train=800,
        num_left_out=16,
        num_later=200,
        split="later",
        findings=(),
        normal=normal,
        unusual=(FLOW,),
        thresholds=(AT,),
        alert_fpr=0.01,
        correlation=0.875,
        columns={"": MASKED, "proto": MASKED},
        settings={},
        versions={},
        hardware=Hardware(cpu="cpu", num_cores=2),
        timing={"training": 1.0},
    )


def test_what_is_no_report_of_learning_is_read_as_none(tmp_path: Path):
    (tmp_path / "report.json").write_text('{"format_version": 2}')
    assert read_learning(tmp_path / "report.json") is None
    assert read_learning(tmp_path / "nothing.json") is None


def test_the_lines_tell_shares_hours_and_doubts():
    one = learning_report()
    assert normal_lines(one.normal) == [
        "source: 2 different; 10.0.0.1 75.0%, 10.0.0.2 25.0%",
        "hours: flows in 2 of 24 (UTC), the busiest is 0:00 with 90.0%",
    ]
    lines = learning_lines(one)
    assert "rank correlation 0.875" in lines[1]
    assert lines[3].startswith("alerts at a share of 1.00%: 2 of 200 later flows")
    assert lines[3].endswith("too few different flows to trust this share")
    assert "(one of 3 alike); dst_port:23 (novelty 0.90)" in flow_line(FLOW)
