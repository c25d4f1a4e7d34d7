"""Prometheus metrics of the service, by `prometheus_client`, in a separate registry."""

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Final, cast, final

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
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
SHARED_FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"
"""Variable of `prometheus_client`: the folder in which processes of one service share their metrics."""
SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the histogram's buckets."""
_DRIFT: Final = {
    "flows": "Flows of the last blocks that are compared with the drift reference.",
    "moved": "Features and scores that have drifted in them.",
    "alerts_share": "Share of alerts among them.",
}
_DRIFT_OF_EACH: Final = {
    "distance": "Fraction of the flows that differ from the drift reference, of each feature and score.",
    "absent_share": "Share of flows without the column of a feature.",
    "unseen_share": "Share of flows with a value that training lacked.",
}


def drift_metrics(status: Mapping[str, object]) -> Iterable[Metric]:
    """The gauges of `DriftWindow.status`; those that are not known yet have no value."""
    for name, text in _DRIFT.items():
        gauge = GaugeMetricFamily(f"wirebert_drift_{name}", text)
        if name in status:
            gauge.add_metric([], cast(float, status[name]))
        yield gauge
    for name, text in _DRIFT_OF_EACH.items():
        gauge = GaugeMetricFamily(f"wirebert_drift_{name}", text, labels=["of"])
        for of, value in cast(Mapping[str, float], status.get(name, {})).items():
            gauge.add_metric([of], value)
        yield gauge


@final
class _DriftCollector(Collector):
    def __init__(self, read: Callable[[], Mapping[str, object]]) -> None:
        self._read = read

    def collect(self) -> Iterable[Metric]:
        return drift_metrics(self._read())


@final
class ServiceMetrics:
    """The counters of one service. Threads may share them.

    Args:
        gauges: name -> description and function that reads the current value.
        drift: reads `DriftWindow.status`; None: the model has no drift reference.
    """

    def __init__(
        self,
        gauges: Mapping[str, tuple[str, Callable[[], float]]],
        drift: Callable[[], Mapping[str, object]] | None = None,
    ) -> None:
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
        self._is_shared = SHARED_FOLDER in os.environ
        if self._is_shared:
            self._registry = registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        else:
            ProcessCollector(registry=registry)
        if drift is not None:  # of several processes, that of the one that is asked
            registry.register(_DriftCollector(drift))

    def share(self) -> None:
        """Let other processes of the service, if there are any, see the gauges as they are now."""
        if self._is_shared:
            self._read_gauges()

    def _read_gauges(self) -> None:
        for gauge, read in self._gauges:
            gauge.set(read())

    def text(self) -> str:
        """All metrics of all processes of the service, in text format 0.0.4."""
        self._read_gauges()
        return generate_latest(self._registry).decode()


def cascade_gauges(read: Callable[[], tuple[int, int] | None]) -> dict[str, tuple[str, Callable[[], float]]]:
    """How much of the work the big model of a cascade has, for `ServiceMetrics`; nothing without a cascade.

    Args:
        read: gives `Detector.routed`.
    """
    texts = ("Distinct rows that its big model computed.", "Distinct rows that the cascade computed.")
    names = ("wirebert_cascade_routed_rows", "wirebert_cascade_rows")
    if read() is None:
        return {}
    return {
        name: (text, lambda at=at: float((read() or (0, 0))[at]))
        for at, (name, text) in enumerate(zip(names, texts, strict=True))
    }


def forget_process(pid: int) -> None:
    """A process of the service has ended: its counts stay, its gauges go."""
    multiprocess.mark_process_dead(pid)
