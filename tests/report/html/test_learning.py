import numpy as np

from wirebert.metrics.masked_lm import MaskedMetrics
from wirebert.metrics.thresholds import fit_threshold
from wirebert.report.environment import Hardware
from wirebert.report.html.learning import learning_page
from wirebert.report.learning import LearningReport, NormalTraffic, UnusualFlow


def test_values_of_the_traffic_are_escaped_and_the_page_runs_no_script():
    flow = UnusualFlow(
        row=7, score=9.5, verdict="alert", num_equal=3, columns={"source": "<b>x"}, reasons=("<i>y",)
    )
    scores = np.arange(200.0)
    page = learning_page(
        LearningReport(
            name="<script>alert(1)</script>",
            command="wirebert learn conn.log",
            seed=1,
            files=("conn.log",),
            fingerprint="ab",
            num_train=800,
            num_left_out=16,
            num_later=200,
            split="later",
            findings=(),
            normal=NormalTraffic(num_flows=1000, first_s=None, last_s=None, flows_by_hour=(), columns=()),
            unusual=(flow,),
            thresholds=(fit_threshold(scores, np.zeros(200, bool), 0.01),),
            alert_fpr=0.01,
            correlation=0.875,
            columns={"": MaskedMetrics(num_masked=10, loss=0.5, accuracy=0.8, frequent_accuracy=0.6)},
            settings={},
            versions={},
            hardware=Hardware(cpu="cpu", num_cores=2),
            timing={"training": 1.0},
        )
    )
    assert "&lt;b&gt;x" in page
    assert "&lt;i&gt;y" in page
    assert "<script" not in page
    assert "script-src" not in page
    assert "rank correlation 0.875" in page
