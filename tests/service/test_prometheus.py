from wirebert.service.prometheus import ServiceMetrics, cascade_gauges


def test_the_text_is_what_prometheus_reads():
    metrics = ServiceMetrics({"waiting": ("Now.", lambda: 2.0)})
    for path in ("/", "/", 'a"\n\\'):
        metrics.requests.labels(path=path, status="200").inc()
    for value in (0.001, 0.4, 31.0):
        metrics.score_seconds.observe(value)
    lines = metrics.text().splitlines()
    assert "# TYPE wirebert_requests_total counter" in lines
    assert 'wirebert_requests_total{path="/",status="200"} 2.0' in lines
    assert 'wirebert_requests_total{path="a\\"\\n\\\\",status="200"} 1.0' in lines
    assert "waiting 2.0" in lines
    assert [line for line in lines if line.startswith("wirebert_score_seconds_bucket")][-5:] == [
        f'wirebert_score_seconds_bucket{{le="{bound}"}} {count}'
        for bound, count in [("2.5", 2.0), ("5.0", 2.0), ("10.0", 2.0), ("30.0", 2.0), ("+Inf", 3.0)]
    ]
    assert 'wirebert_score_seconds_bucket{le="0.001"} 1.0' in lines
    assert not any("_created" in line for line in lines)


def test_services_count_apart():
    first, second = ServiceMetrics({}), ServiceMetrics({})
    first.flows.inc(3)
    assert "wirebert_flows_total 3.0" in first.text()
    assert "wirebert_flows_total 0.0" in second.text()


def test_the_share_of_the_big_model_of_a_cascade_is_read_when_it_is_asked():
    counts = [(0, 0)]
    metrics = ServiceMetrics(cascade_gauges(lambda: counts[-1]))
    counts.append((3, 8))
    lines = metrics.text().splitlines()
    assert "wirebert_cascade_routed_rows 3.0" in lines
    assert "wirebert_cascade_rows 8.0" in lines
    assert not cascade_gauges(lambda: None)


def test_drift_has_gauges_that_say_nothing_before_there_is_something_to_compare():
    status: dict[str, object] = {"flows": 300, "moved": 0}
    metrics = ServiceMetrics({}, lambda: status)
    assert "wirebert_drift_flows 300.0" in metrics.text()
    assert "wirebert_drift_distance{" not in metrics.text()
    status |= {"moved": 2, "distance": {"bytes": 0.25}, "unseen_share": {"bytes": 0.5}, "alerts_share": 0.125}
    lines = metrics.text().splitlines()
    for line in (
        "wirebert_drift_moved 2.0",
        "wirebert_drift_alerts_share 0.125",
        'wirebert_drift_distance{of="bytes"} 0.25',
        'wirebert_drift_unseen_share{of="bytes"} 0.5',
    ):
        assert line in lines
    assert "wirebert_drift" not in ServiceMetrics({}).text()
