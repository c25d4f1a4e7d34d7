from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.cli.main import build_parser
from wirebert.encoding.token_rows import JaggedRows
from wirebert.errors import ArtifactError, ConfigError
from wirebert.inference.artifact import Artifact, add_export, load_artifact, save_artifact
from wirebert.inference.backends import EngineOptions, open_backend, require_finite
from wirebert.inference.detector import Detector
from wirebert.inference.engines import ENGINES, Engine


@dataclass(frozen=True)
class FirstClassBackend:
    """A toy engine: every flow is of the first class."""

    name: str
    num_classes: int

    @classmethod
    def open(cls, engine: Engine, artifact: Artifact, options: EngineOptions) -> "FirstClassBackend":
        if artifact.exports[engine.name].path.read_bytes() != b"toy":
            raise ArtifactError("this is no toy")
        return cls(engine.name, len(artifact.classes.classes))

    def logits(self, flows: JaggedRows) -> np.ndarray:
        logits = np.zeros((len(flows), self.num_classes), np.float32)
        logits[:, 0] = 9.0
        return logits


@pytest.fixture
def toy(artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model folder with an export for an engine that one entry of the registry adds."""
    backend = f"{__name__}:{FirstClassBackend.__name__}"
    monkeypatch.setitem(
        ENGINES,
        "toy",
        Engine(name="toy", title="Toy", backend=backend, file="toy.bin", export_command="make toy"),
    )
    monkeypatch.setitem(__import__("sys").modules, __name__, __import__("types").SimpleNamespace(**globals()))
    save_artifact(artifact, tmp_path / "model", card="")
    return tmp_path / "model"


def test_one_entry_of_the_registry_adds_an_engine(toy: Path, table: pa.Table):
    with pytest.raises(ConfigError, match=r"--backend toy: .* `make toy`"):
        Detector.load(toy, backend="toy")
    add_export(toy, "toy", b"toy", {})
    detector = Detector.load(toy, backend="toy")
    assert detector.backend == "toy"
    assert set(detector.score(table).class_ids.tolist()) == {0}
    parser = build_parser()
    assert parser.parse_args(["predict", "model", "data", "--backend", "toy"]).backend == "toy"


def test_auto_prefers_an_export_of_any_engine_to_the_weights(toy: Path):
    add_export(toy, "toy", b"toy", {})
    torch = ENGINES.pop("torch")
    ENGINES["torch"] = torch  # PyTorch is tried last again
    assert Detector.load(toy).backend == "toy"


def test_auto_says_why_it_does_not_use_an_export(toy: Path):
    add_export(toy, "toy", b"other", {})
    rejected: dict[str, str] = {}
    ENGINES["torch"] = ENGINES.pop("torch")
    options = EngineOptions(on_rejection=rejected.__setitem__)
    assert open_backend("auto", load_artifact(toy), options).name == "torch"
    assert rejected == {"toy": "this is no toy"}


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("tensorflow", "cpu", "--backend must be auto or one of cascade, onnx-int8, onnx, torch"),
        ("auto", "tpu", "no inference engine can use --device tpu"),
        ("torch", "tpu", "--backend torch computes on cpu, cuda, got --device tpu"),
    ],
)
def test_an_engine_that_cannot_be_used_is_refused(artifact: Artifact, name: str, device: str, message: str):
    with pytest.raises(ConfigError, match=message):
        open_backend(name, artifact, EngineOptions(device=device))


def test_a_package_that_is_missing_is_named(artifact: Artifact, monkeypatch: pytest.MonkeyPatch):
    engine = Engine(name="gone", title="Gone 1.0", backend="no_such_package:Backend")
    monkeypatch.setitem(ENGINES, "gone", engine)
    with pytest.raises(ConfigError, match=r"--backend gone needs Gone 1\.0, which is not installed"):
        open_backend("gone", artifact, EngineOptions())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused(value: float):
    logits = np.zeros((3, 2), np.float32)
    assert require_finite(logits, "torch") is logits
    logits[1, 1] = value
    with pytest.raises(ArtifactError, match="not finite"):
        require_finite(logits, "torch")
