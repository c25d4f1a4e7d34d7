"""Prometheus metrics of the service, by `prometheus_client`, in a separate registry."""

from collections.abc import Callable, Mapping
from typing import Final, final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram's buckets."""


@final
class ServiceMetrics:
    """The counters of one service. Threads may share them.

    Args:
        gauges: name -> description and function that reads the current value.
    """

    def __init__(self, gauges: Mapping[str, tuple[str, Callable[[], float]]]) -> None:
        disable_created_metrics()  # each counter would have a second series with the time of its first value
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "wirebert_requests_total", "Requests, by path and status.", ["path", "status"], registry=registry
        )
        self.flows = Counter("wirebert_flows_total", "Flows that got a verdict.", registry=registry)
        self.verdicts = Counter("wirebert_verdicts_total", "Verdicts.", ["verdict"], registry=registry)
        self.invalid_values = Counter(
            "wirebert_invalid_values_total",
            "Values that are not numbers in columns of numbers; they count as missing.",
            registry=registry,
        )
        self.findings = Counter(
            "wirebert_findings_total", "Requests with a finding, by its code.", ["code"], registry=registry
        )
        self.flows_without_history = Counter(
            "wirebert_flows_without_history_total",
            "Flows whose context may lack earlier flows, which their request did not hold.",
            registry=registry,
        )
        self.score_seconds = Histogram(
            "wirebert_score_seconds",
            "Seconds from the head of a scoring request to its answer.",
            buckets=SECONDS,
            registry=registry,
        )
        for name, (text, read) in gauges.items():
            Gauge(name, text, registry=registry).set_function(read)
        ProcessCollector(registry=registry)

    def text(self) -> str:
        """All metrics, in text format 0.0.4."""
        return generate_latest(self._registry).decode()
