"""Health and metrics of a monitor."""

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from wirebert.errors import ConfigError
from wirebert.service import monitor_server
from wirebert.service.monitor_server import MonitorServer
from wirebert.service.server import ServerConfig

STATUS = {
    "flows_by_source": {"conn.log": 7},
    "alerts_by_class": {"scan": 2},
    "incidents_open": 1,
    "incidents_by_class": {"scan": 3},
    "lag": {"conn.log": {"num_behind": 100, "seconds": 1.5}},
    "targets": {"kafka://a/b": {"waiting_bytes": 5, "sent": 1, "lost": 0, "is_down": 1}},
    "drift": {"flows": 500, "moved": 1, "distance": {"bytes": 0.25}},
    "model_sha256": "abc",
}


def ask(port: int, path: str, key: str = "") -> tuple[int, str]:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_metrics_tell_what_the_monitor_told_last(monkeypatch: pytest.MonkeyPatch):
    with MonitorServer(ServerConfig(port=0)).running() as server:
        assert ask(server.port, "/metrics")[0] == 200
        assert ask(server.port, "/readyz")[0] == 200
        server.update(STATUS)
        text = ask(server.port, "/metrics")[1]
        assert ask(server.port, "/healthz")[0] == 200
        assert ask(server.port, "/readyz")[0] == 503
        monkeypatch.setattr(monitor_server, "STUCK_S", -1.0)
        assert ask(server.port, "/healthz")[0] == 503
    for line in (
        'wirebert_monitor_flows_total{source="conn.log"} 7.0',
        'wirebert_monitor_alerts_total{class="scan"} 2.0',
        "wirebert_monitor_incidents_open 1.0",
        'wirebert_monitor_incidents_opened_total{class="scan"} 3.0',
        'wirebert_monitor_lag_num_behind{source="conn.log"} 100.0',
        'wirebert_monitor_targets_waiting_bytes{target="kafka://a/b"} 5.0',
        'wirebert_drift_distance{of="bytes"} 0.25',
        "wirebert_drift_moved 1.0",
        'wirebert_monitor_model{sha256="abc"} 1.0',
    ):
        assert line in text


def test_with_keys_metrics_need_one_and_health_does_not(tmp_path: Path):
    (tmp_path / "keys").write_text("k" * 20)
    with MonitorServer(ServerConfig(port=0, keys=tmp_path / "keys")).running() as server:
        assert ask(server.port, "/metrics")[0] == 401
        assert ask(server.port, "/metrics", "k" * 20)[0] == 200
        assert ask(server.port, "/healthz")[0] == 200


def test_an_address_that_others_can_reach_needs_keys():
    with pytest.raises(ConfigError, match=r"--listen 0\.0\.0\.0:9118 can be reached by others"):
        MonitorServer(ServerConfig(host="0.0.0.0", port=9118))
