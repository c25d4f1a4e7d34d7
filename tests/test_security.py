"""What SECURITY.md promises about the whole program, and that each test it names is there."""

import ast
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import SafetensorError

from wirebert.comparison.jobs import read_result
from wirebert.config import read_toml
from wirebert.data.schema.library import read_schema
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import ArtifactError, UserError
from wirebert.evaluation.test_ledger import read_ledger
from wirebert.inference.artifact import load_artifact
from wirebert.inference.follow_state import read_state
from wirebert.model.config import read_architecture
from wirebert.report.learning import read_learning
from wirebert.report.report import read_json
from wirebert.run_folder import RunFolder, check_inputs
from wirebert.telemetry.events import MetricsFollower, read_metrics
from wirebert.training.checkpoint import CheckpointFolder

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "wirebert"
DOCUMENT = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
MODULES = {
    path.relative_to(SOURCE).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in SOURCE.rglob("*.py")
}

# The modules that may open a connection: the service listens, and ranks of a training meet on this machine.
MAY_CONNECT = {"service/server.py", "alerts/syslog.py", "cluster/ray_executor.py", "workflows/ranks.py"}
CONNECTING = {
    "socket",
    "ssl",
    "http",
    "urllib.request",
    "ftplib",
    "smtplib",
    "requests",
    "httpx",
    "httpx2",
    "aiohttp",
}

AUDIT = """
import os, sys
from pathlib import Path
asked = []
def watch(event, arguments):
    network = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
    if event in (*network, "urllib.Request", "http.client.connect"):
        asked.append((event, repr(arguments[1:])))
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        asked.append((event, repr(arguments)))
from wirebert.cli.main import main
import wirebert.cli.inference_commands, wirebert.cli.scoring_commands, wirebert.workflows.train
"""


def test_every_test_that_the_document_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)
    assert len(named) > 30
    for path, name in named:
        text = (ROOT / path).read_text(encoding="utf-8")
        assert re.search(rf"^(?:async )?def {name}\(", text, re.MULTILINE), f"{path}::{name}"


def calls(tree: ast.Module) -> list[str]:
    return [ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("module", MODULES)
def test_no_module_runs_text_as_code_or_starts_a_shell(module: str):
    unsafe = {"eval", "exec", "compile", "__import__", "yaml.load", "os.system", "os.popen", "torch.load"}
    found = unsafe & set(calls(MODULES[module]))
    assert not found
    assert not any(
        isinstance(node, ast.keyword) and node.arg == "shell" for node in ast.walk(MODULES[module])
    )


@pytest.mark.parametrize("module", sorted(MODULES.keys() - MAY_CONNECT))
def test_only_the_service_knows_the_network(module: str):
    names = {
        alias.name
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        node.module
        for node in ast.walk(MODULES[module])
        if isinstance(node, ast.ImportFrom) and node.module is not None
    }
    assert not {name for name in names if name in CONNECTING or name.split(".")[0] in CONNECTING - {"http"}}


@pytest.mark.slow
def test_predicting_opens_no_connection_and_starts_no_program(trained: Path, traffic: Path, tmp_path: Path):
    program = f"""{AUDIT}
sys.addaudithook(watch)
data = {str(traffic / "test.csv")!r}
code = main(["predict", {str(trained / "model")!r}, data, "--out", {str(tmp_path / "v.csv")!r}])
assert code == 0, code
assert asked == [], asked
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_serving_asks_nobody(trained: Path):
    """A service that scores, refuses and ends; what it opens is what it listens on."""
    program = f"""{AUDIT}
import http.client, json, signal, threading, time
import wirebert.service.server as service
own = threading.Thread
def watch_others(event, arguments):
    if threading.current_thread().name != "client":
        watch(event, arguments)
sys.addaudithook(watch_others)
ready = threading.Event()
def client():
    while not port: time.sleep(0.05)
    for body in (b'{{"flows": [{{"service": "http"}}]}}', b"nonsense", b'{{"flows": [{{"uri": "http://169.254.169.254/"}}]}}'):
        connection = http.client.HTTPConnection("127.0.0.1", port[0])
        connection.request("POST", "/v1/score", body, {{"content-type": "application/json"}})
        connection.getresponse().read()
        connection.close()
    os.kill(os.getpid(), signal.SIGTERM)
port = []
listen = service.uvicorn.Server.run
def run(self, sockets):
    port.append(sockets[0].getsockname()[1])
    return listen(self, sockets)
service.uvicorn.Server.run = run
threading.Thread(target=client, name="client").start()
code = main(["serve", {str(trained / "model")!r}, "--port", "0"])
assert code == 0, code
# The address that it listens on is looked up once; no name is asked for.
asked = [one for one in asked if one[0] != "socket.getaddrinfo"]
assert asked == [], asked
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def resealed(folder: Path, **sections: object) -> None:
    """Change the manifest as someone would who knows how it is sealed."""
    from wirebert.inference import sealing

    path = folder / "wirebert.json"
    manifest = {**json.loads(path.read_text(encoding="utf-8")), **sections}
    del manifest["sha256"]
    path.write_text(sealing.sealed(manifest), encoding="utf-8")


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(trained / "model", tmp_path / "model"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "..", "a/b"])
def test_no_path_of_an_artifact_leads_out_of_its_folder(model: Path, name: str):
    from wirebert.inference.artifact import load_artifact

    files = json.loads((model / "wirebert.json").read_text(encoding="utf-8"))["files"]
    resealed(model, files={**files, name: {"sha256": "", "size_bytes": 0}})
    with pytest.raises(ArtifactError):
        load_artifact(model)
    resealed(model, files=files, exports={"onnx": {"file": name}})
    with pytest.raises(ArtifactError, match="does not list"):
        load_artifact(model)


@pytest.mark.slow
def test_an_artifact_imports_no_code(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A hostile model folder names a function as its attention pattern; nothing of that name is imported."""
    import hashlib

    from wirebert.inference.detector import Detector

    (tmp_path / "evil.py").write_text(
        "from pathlib import Path\nPath('ran').touch()\ndef pattern(a, b): ...\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = model / "config.json"
    plain = {**json.loads(config.read_text(encoding="utf-8")), "attention_pattern": "evil:pattern"}
    config.write_text(json.dumps(plain), encoding="utf-8")
    content = config.read_bytes()
    files = json.loads((model / "wirebert.json").read_text(encoding="utf-8"))["files"]
    files["config.json"] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    resealed(model, files=files)
    with pytest.raises(UserError):
        Detector.load(model)
    assert not (tmp_path / "ran").exists()
    assert "evil" not in sys.modules


@pytest.mark.slow
def test_a_pickle_in_place_of_weights_is_not_opened(model: Path, tmp_path: Path):
    import hashlib
    import pickle

    from wirebert.inference.artifact import load_artifact

    class Runs:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (tmp_path / "ran",)

    content = pickle.dumps(Runs())
    (model / "model.safetensors").write_bytes(content)
    files = json.loads((model / "wirebert.json").read_text(encoding="utf-8"))["files"]
    files["model.safetensors"] = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
    resealed(model, files=files)
    with pytest.raises((UserError, SafetensorError)):
        dict(load_artifact(model).weights.items())  # weights are read when they are first asked for
    assert not (tmp_path / "ran").exists()


PARSED: dict[str, Callable[[Path], object]] = {
    "config.json": read_architecture,
    "wirebert.json": lambda path: load_artifact(path.parent),
    "run.toml": read_toml,
    "schema.toml": read_schema,
    "report.json": read_json,
    "learning/report.json": read_learning,
    "metrics.jsonl": lambda path: MetricsFollower(path).new_events(),
    "old/metrics.jsonl": read_metrics,
    "inputs.json": lambda path: check_inputs(RunFolder(path.parent), "a"),
    "checkpoints/checkpoint-00000001/state.json": lambda path: CheckpointFolder(path.parent.parent).load(1),
    "test_reads.jsonl": read_ledger,
    "result.json": read_result,
    "v.jsonl.state/monitor.state": lambda path: read_state(path, FlowSchema(name="a", columns=())),
}
"""What is parsed of a run folder, a model folder and what lies beside verdicts."""
LARGE_NUMBERS = f'{{"event": "step", "time": {10**400}, "step": {10**400}}}\n'
HOSTILE: dict[str, Callable[[Path], object]] = {
    "deep list": lambda path: path.write_text("[" * 100_000),
    "deep object": lambda path: path.write_text('{"a":' * 200 + "1" + "}" * 200),
    "deep TOML": lambda path: path.write_text("a = " + "[" * 20_000),
    "large": lambda path: (path.touch(), os.truncate(path, 100 << 20)),
    "bytes": lambda path: path.write_bytes(b"\xff\x00" * 500),
    "empty": lambda path: path.touch(),
    "another value": lambda path: path.write_text("[1, 2]"),
    "large numbers": lambda path: path.write_text(LARGE_NUMBERS),
    "infinite": lambda path: path.write_text('{"event": "step", "time": 1e999, "step": NaN}\n'),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("content", HOSTILE)
@pytest.mark.parametrize("name", PARSED)
def test_what_is_parsed_of_a_folder_is_bounded_and_damage_is_one_sentence(
    tmp_path: Path, name: str, content: str
):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    HOSTILE[content](path)
    (tmp_path / "v.jsonl").touch()
    since = time.monotonic()
    try:
        PARSED[name](path)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017 -- not each of them is refused
    assert time.monotonic() - since < 5
