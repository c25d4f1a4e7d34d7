from wirebert.service.prometheus import Measures


def test_the_text_is_what_prometheus_reads():
    measures = Measures()
    measures.counter("asked_total", "Requests.")
    measures.gauge("waiting", "Now.", lambda: 2.0)
    measures.histogram("took_seconds", "Time.", (0.1, 1.0))
    measures.count("asked_total", path="/", status="200")
    measures.count("asked_total", 2, status="200", path="/")
    measures.count("asked_total", path='a"\n\\', status="404")
    for value in (0.1, 0.5, 3.0):
        measures.observe("took_seconds", value)
    assert measures.text() == (
        "# HELP asked_total Requests.\n"
        "# TYPE asked_total counter\n"
        'asked_total{path="/",status="200"} 3\n'
        'asked_total{path="a\\"\\n\\\\",status="404"} 1\n'
        "# HELP waiting Now.\n"
        "# TYPE waiting gauge\n"
        "waiting 2.0\n"
        "# HELP took_seconds Time.\n"
        "# TYPE took_seconds histogram\n"
        'took_seconds_bucket{le="0.1"} 1\n'
        'took_seconds_bucket{le="1.0"} 2\n'
        'took_seconds_bucket{le="+Inf"} 3\n'
        "took_seconds_sum 3.6\n"
        "took_seconds_count 3\n"
    )


def test_large_counts_are_written_in_full():
    measures = Measures()
    measures.counter("flows_total", "Flows.")
    measures.count("flows_total", 12_345_678)
    assert "flows_total 12345678\n" in measures.text()
