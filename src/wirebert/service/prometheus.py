"""Prometheus metrics of the service, by `prometheus_client`, in a separate registry."""

import os
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
    multiprocess,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of `prometheus_client`: the folder in which processes of one service share their metrics."""
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
        self._gauges = [
            (Gauge(name, text, registry=registry, multiprocess_mode="livesum"), read)
            for name, (text, read) in gauges.items()
        ]
        if SHARED_FOLDER in os.environ:
            self._registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(self._registry)
        else:
            ProcessCollector(registry=registry)

    def refresh(self) -> None:
        """Read the gauges; other processes of the service see what was read last."""
        for gauge, read in self._gauges:
            gauge.set(read())

    def text(self) -> str:
        """All metrics of all processes of the service, in text format 0.0.4."""
        self.refresh()
        return generate_latest(self._registry).decode()


def forget_process(pid: int) -> None:
    """A process of the service has ended: its counts stay, its gauges go."""
    multiprocess.mark_process_dead(pid)
