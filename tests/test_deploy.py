"""The container and the systemd unit agree about the service, and are right about it."""

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

from wirebert.cli.main import build_parser

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
UNIT = ROOT / "deploy" / "wirebert.service"


def instruction(name: str) -> str:
    """The arguments of the last `name` in the Dockerfile's final stage."""
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    return re.findall(rf"^{name} +(.*)$", final, re.MULTILINE)[-1].strip()


def settings() -> dict[str, list[str]]:
    values: dict[str, list[str]] = {}
    for name, value in re.findall(r"^(\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE):
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
    assert "'.[serve]'" in DOCKERFILE
    assert "index-url" not in DOCKERFILE
    assert DOCKERFILE.count("\nFROM ${PYTHON_IMAGE}") == 2


@pytest.mark.parametrize(
    "line",
    """NoNewPrivileges=yes ProtectSystem=strict ProtectHome=yes PrivateTmp=yes PrivateDevices=yes
    CapabilityBoundingSet= RestrictNamespaces=yes SystemCallFilter=@system-service IPAddressDeny=any
    IPAddressAllow=localhost MemoryMax=2G LimitCORE=0""".split(),
)
def test_the_unit_is_hardened(line: str):
    assert re.search(rf"^{re.escape(line)}$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)


def test_both_set_the_same_memory_limit():
    assert "--memory 2g" in DOCKERFILE
    assert settings()["MemoryMax"] == ["2G"]
    assert "--read-only" in DOCKERFILE


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_understands_the_unit_and_finds_it_safe(tmp_path: Path):
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text(encoding="utf-8").replace("/opt/wirebert/bin/wirebert", "/bin/true"))
    command = ["systemd-analyze", "verify", str(copy)]
    verified = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in verified.stderr.splitlines() if UNIT.name in line] == []
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
