"""The container and the systemd unit agree about the service, and are right about it."""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from wirebert.cli.main import build_parser

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
UNIT = ROOT / "deploy" / "wirebert.service"
MONITOR_UNIT = ROOT / "deploy" / "wirebert-monitor.service"
COMPOSE = ROOT / "deploy" / "compose.yaml"
DASHBOARD = ROOT / "deploy" / "grafana" / "wirebert.json"


def instruction(name: str) -> str:
    """The arguments of the last `name` in the Dockerfile's final stage."""
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    return re.findall(rf"^{name} +(.*)$", final, re.MULTILINE)[-1].strip()


def settings(unit: Path = UNIT) -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    text = unit.read_text(encoding="utf-8").replace("\\\n", " ")
    for name, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        values.setdefault(name, []).append(value)
    return values


def commands() -> list[list[str]]:
    return [json.loads(instruction("ENTRYPOINT")), shlex.split(settings()["ExecStart"][0])]


@pytest.mark.parametrize("command", commands())
def test_the_command_is_one_that_wirebert_takes(command: list[str]):
    assert Path(command[0]).name == "wirebert"
    options = build_parser().parse_args(command[1:])
    assert options.command == "serve"
    assert options.port == 8080
    assert not options.allow_anonymous


def test_the_unit_reads_its_keys_from_a_credential():
    assert settings()["LoadCredential"][0].startswith("keys:/etc/")
    assert settings()["ExecStart"][0].endswith("--keys ${CREDENTIALS_DIRECTORY}/keys")


def test_the_container_asks_a_path_that_is_there_at_the_port_that_it_opens():
    web = ROOT / "src" / "wirebert" / "service" / "app.py"
    address = re.findall(r"http://[^']+", instruction("HEALTHCHECK"))[0]
    assert urlsplit(address).path == "/healthz"
    assert '"/healthz"' in web.read_text(encoding="utf-8")
    assert str(urlsplit(address).port) == instruction("EXPOSE") == commands()[0][-1]


def test_neither_runs_as_root():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", instruction("USER"))
    assert settings()["DynamicUser"] == ["yes"]


def test_accepted_requests_have_time_to_finish():
    from wirebert.service.server import GRACE_S

    assert int(settings()["TimeoutStopSec"][0]) > GRACE_S
    assert instruction("STOPSIGNAL") == "SIGTERM"


def test_the_final_image_contains_no_build_tools():
    assert DOCKERFILE.count("\nFROM ") == 2
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "pip install" not in final
    assert "apt-get" not in final
    assert "COPY --from=build" in final


def test_the_image_is_for_scoring_from_one_index_and_a_base_of_choice():
    assert "'.[serve,kafka]'" in DOCKERFILE
    assert "index-url" not in DOCKERFILE
    assert DOCKERFILE.count("\nFROM ${PYTHON_IMAGE}") == 2


@pytest.mark.parametrize(
    "line",
    """NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes
    CapabilityBoundingSet= RestrictNamespaces=yes SystemCallFilter=@system-service IPAddressDeny=any
    IPAddressAllow=localhost MemoryMax=2G LimitCORE=0""".split(),
)
@pytest.mark.parametrize("unit", [UNIT, MONITOR_UNIT], ids=lambda unit: unit.stem)
def test_the_unit_is_hardened(unit: Path, line: str):
    assert re.search(rf"^{re.escape(line)}$", unit.read_text(encoding="utf-8"), re.MULTILINE)


def test_both_set_the_same_memory_limit():
    assert "--memory 2g" in DOCKERFILE
    assert settings()["MemoryMax"] == ["2G"]
    assert "--read-only" in DOCKERFILE


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
@pytest.mark.parametrize("unit", [UNIT, MONITOR_UNIT], ids=lambda unit: unit.stem)
def test_systemd_understands_the_unit_and_finds_it_safe(unit: Path, tmp_path: Path):
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text(encoding="utf-8").replace("/opt/wirebert/bin/wirebert", "/bin/true"))
    command = ["systemd-analyze", "verify", str(copy)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if unit.name in line] == []
    checked = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=20", str(copy)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if "Overall exposure level" not in checked.stdout:
        pytest.skip("this systemd-analyze cannot read files")
    assert checked.returncode == 0, checked.stdout


def test_every_file_of_a_run_has_the_mode_that_the_umask_gives(trained: Path, tmp_path: Path):
    (tmp_path / "plain").touch()
    usual = (tmp_path / "plain").stat().st_mode
    assert {
        path.name for path in trained.rglob("*") if path.is_file() and path.stat().st_mode != usual
    } == set()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_a_model_is_read_by_another_user(trained: Path):
    for folder in (trained, *trained.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(folder.stat().st_mode | 0o055)  # pytest's own folders are closed to others
    code = (
        "import os, sys; from wirebert.inference.artifact import load_artifact; "
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); "
        "from pathlib import Path; weights = load_artifact(Path(sys.argv[1])).weights; "
        "print(sum(array.size for _, array in weights.items()) > 0)"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code, str(trained / "model")], capture_output=True, text=True, check=False
    )
    assert (loaded.returncode, loaded.stdout) == (0, "True\n"), loaded.stderr


def parsed(command: list[str]) -> argparse.Namespace:
    from wirebert.alerts.outputs import Target

    options = build_parser().parse_args(command[1:])
    assert options.command == "monitor"
    assert [Target.parse(text) for text in options.to]
    return options


def test_the_monitors_of_unit_and_compose_are_commands_that_wirebert_takes():
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))["services"]["monitor"]
    unit = settings(MONITOR_UNIT)
    in_unit, in_container = parsed(shlex.split(unit["ExecStart"][0])), parsed(compose["entrypoint"])
    assert in_unit.listen == "127.0.0.1:9118"
    assert not in_unit.allow_anonymous
    assert (unit["DynamicUser"], unit["StateDirectory"], unit["LogsDirectory"]) == (
        ["yes"],
        ["wirebert"],
        ["wirebert"],
    )
    assert str(in_unit.state) == "/var/lib/wirebert"
    assert unit["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert in_container.allow_anonymous  # of a network that only the containers share
    assert "ports" not in compose


def test_the_containers_write_to_their_volumes_only_and_have_no_rights():
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        for volume in service["volumes"]:
            source, _, mode = [*volume.split(":"), ""][:3]
            assert mode == "ro" or source in compose["volumes"], volume
            if source.startswith("./") and source != "./model":
                assert (COMPOSE.parent / source).is_file(), source
    assert compose["services"]["monitor"]["user"] == instruction("USER")
    assert "install -d -o 10001 -g 10001 /state" in DOCKERFILE
    assert compose["networks"]["inside"]["internal"]
    assert compose["services"]["grafana"]["ports"] == ["127.0.0.1:3000:3000"]


def test_the_dashboard_shows_metrics_that_a_monitor_has():
    from prometheus_client.exposition import generate_latest

    from wirebert.service.monitor_server import MonitorServer
    from wirebert.service.server import ServerConfig

    server = MonitorServer(ServerConfig(port=0))
    text = generate_latest(server._registry).decode()  # pyright: ignore[reportPrivateUsage]
    names = set(re.findall(r"^# TYPE (\w+) ", text, re.MULTILINE))
    shown = set(re.findall(r"(?:wirebert|process)_\w+", DASHBOARD.read_text(encoding="utf-8")))
    assert len(shown) > 12
    assert shown <= names | {f"{name}_total" for name in names}
    jobs = yaml.safe_load((COMPOSE.parent / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert jobs[0]["static_configs"][0]["targets"] == ["monitor:9118"]
