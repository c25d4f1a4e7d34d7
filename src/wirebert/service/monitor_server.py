"""Health and metrics of a monitor over HTTP, from a thread of their own."""

import asyncio
import os
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from threading import Thread
from typing import Final, cast, final

import uvicorn
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wirebert.service.api_keys import VARIABLE, ApiKeys
from wirebert.service.headers import bearer_key
from wirebert.service.prometheus import CONTENT_TYPE, drift_metrics
from wirebert.service.server import ServerConfig, listen, require_keys
from wirebert.untrusted_text import warn

STUCK_S: Final = 120.0
"""Seconds without a sign of life after which the monitor counts as stuck."""
_COUNTERS: Final = {
    "flows_by_source": ("flows", "source", "Flows that got a verdict."),
    "verdicts": ("verdicts", "verdict", "Verdicts."),
    "alerts_by_class": ("alerts", "class", "Alerts and unknown flows that no suppression hides."),
    "incidents_by_class": ("incidents_opened", "class", "Incidents opened, restarts included."),
    "suppressed": ("suppressed_alerts", "", "Alerts that a suppression hides."),
    "rejected_rows": ("rejected_rows", "", "Rows without a verdict."),
}
_GAUGES: Final = {
    "incidents_open": "Open incidents.",
    "latency_s": "Seconds from reading the last flows to having written what comes of them.",
    "cache_share": "Share of distinct rows whose scores were known.",
    "routed_share": "Share of distinct rows that the big model of a cascade computed.",
    "alert_share": "Share of flows since the start that are alerts or unknown.",
    "absent_share": "Share of features whose column the log lacks.",
    "unseen_share": "Share of features with a value that training lacked.",
    "uptime_s": "Seconds since the start.",
}
_BY_SOURCE: Final = {
    "num_behind": "Bytes, or messages of Kafka, that are not scored.",
    "seconds": "Seconds since all that was there was scored.",
}
_BY_TARGET: Final = {
    "waiting_bytes": "Bytes of events that wait on disk.",
    "sent": "Events delivered since the start.",
    "lost": "Events dropped since the start, because too much waited.",
    "is_down": "1 while it takes no events.",
}


@final
class MonitorServer(Collector):
    """Serves what the monitor last told of itself.

    Raises:
        ConfigError: the address cannot be used, or others can reach it and no key is set.
    """

    def __init__(self, config: ServerConfig) -> None:
        disable_created_metrics()
        self._config = config
        self._keys = ApiKeys(config.keys, os.environ.get(VARIABLE, ""), tell=warn)
        require_keys(config, self._keys, f"--listen {config.host}:{config.port}")
        self._status: Mapping[str, object] = {}
        self._told_at = time.monotonic()
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self.port = config.port

    def update(self, status: Mapping[str, object]) -> None:
        """Take what the monitor tells of itself: its heartbeat."""
        self._status, self._told_at = status, time.monotonic()

    def collect(self) -> Iterable[Metric]:
        """The metrics of Prometheus."""
        status = self._status
        for key, (name, label, text) in _COUNTERS.items():
            family = CounterMetricFamily(f"wirebert_monitor_{name}", text, labels=[label] if label else [])
            value = status.get(key, {} if label else 0)
            values = cast(Mapping[str, float], value) if label else {"": cast(float, value)}
            for of, number in values.items():
                family.add_metric([of] if label else [], number)
            yield family
        for name, text in _GAUGES.items():
            yield GaugeMetricFamily(f"wirebert_monitor_{name}", text, cast(float, status.get(name, 0)))
        for key, label, texts in (("lag", "source", _BY_SOURCE), ("targets", "target", _BY_TARGET)):
            rows = cast(Mapping[str, Mapping[str, float]], status.get(key, {}))
            for name, text in texts.items():
                gauge = GaugeMetricFamily(f"wirebert_monitor_{key}_{name}", text, labels=[label])
                for of, row in rows.items():
                    gauge.add_metric([of], row[name])
                yield gauge
        yield from drift_metrics(cast(Mapping[str, object], status.get("drift", {})))
        model = GaugeMetricFamily("wirebert_monitor_model", "1; the model by its hash.", labels=["sha256"])
        model.add_metric([str(status.get("model_sha256", ""))], 1)
        yield model

    @contextmanager
    def running(self) -> Generator["MonitorServer"]:
        """Serve until the block ends."""
        endpoints = {"/healthz": self._healthz, "/readyz": self._readyz, "/metrics": self._metrics}
        app = Starlette(routes=[Route(path, endpoint) for path, endpoint in endpoints.items()])
        with listen(self._config) as listener:
            listener.listen()
            self.port = listener.getsockname()[1]
            options = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, ws="none")
            server = uvicorn.Server(options)
            thread = Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
            thread.start()
            try:
                yield self
            finally:
                server.should_exit = True
                thread.join(10)

    async def _healthz(self, _: Request) -> Response:
        silent_s = time.monotonic() - self._told_at
        status = "ok" if silent_s < STUCK_S else "stuck"
        return JSONResponse(
            {"status": status, "silent_s": round(silent_s, 1)}, 200 if status == "ok" else 503
        )

    async def _readyz(self, _: Request) -> Response:
        targets = cast(Mapping[str, Mapping[str, int]], self._status.get("targets", {}))
        down = [name for name, one in targets.items() if one["is_down"]]
        return JSONResponse({"status": "waiting" if down else "ready"}, 503 if down else 200)

    async def _metrics(self, request: Request) -> Response:
        if self._keys.are_needed and not self._keys.admit(bearer_key(request)):
            return Response(status_code=401, headers={"www-authenticate": "Bearer"})
        return Response(generate_latest(self._registry), headers={"content-type": CONTENT_TYPE})
