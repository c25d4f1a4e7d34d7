import json
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from wirebert.decision.alert_score import CombinedAlertScore
from wirebert.decision.novelty import NoveltyScorer
from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.encoding.matrix import extract_features
from wirebert.errors import ArtifactError
from wirebert.inference.artifact import MANIFEST, Artifact, load_artifact, save_artifact
from wirebert.inference.detector import Detector
from wirebert.inference.engines import ENGINES, Bounds
from wirebert.inference.export import add_default_export, export_model, rows_of


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    save_artifact(artifact, tmp_path / "model", card="")
    return tmp_path / "model"


@pytest.fixture
def data(table: pa.Table, tmp_path: Path) -> str:
    csv.write_csv(table, tmp_path / "flows.csv")
    return str(tmp_path / "flows.csv")


def accept(monkeypatch: pytest.MonkeyPatch, engine: str, bounds: Bounds) -> None:
    monkeypatch.setitem(ENGINES, engine, replace(ENGINES[engine], bounds=bounds))


def test_an_export_lies_beside_the_weights_and_is_listed(folder: Path):
    path, agreement = export_model(folder, "onnx")
    manifest = json.loads((folder / MANIFEST).read_text())
    assert path == folder / "model.onnx"
    assert manifest["files"]["model.onnx"]["size_bytes"] == path.stat().st_size
    assert manifest["exports"]["onnx"]["agreement"]["same_class"] == agreement.same_class == 1
    assert agreement.rows == "generated"
    assert agreement.max_difference < 1e-4
    assert load_artifact(folder).exports["onnx"].path == path


def test_both_exports_may_lie_there_and_each_is_replaced_alone(
    folder: Path, data: str, monkeypatch: pytest.MonkeyPatch
):
    accept(
        monkeypatch, "onnx-int8", Bounds(same=0.9, mean_difference=0.02)
    )  # an untrained model is never sure
    path, _ = export_model(folder, "onnx")
    content = path.read_bytes()
    for given in (None, data):
        eight_bit, agreement = export_model(folder, "onnx-int8", data=given)
        assert agreement.rows == ("given" if given else "generated")
    assert set(load_artifact(folder).exports) == {"onnx", "onnx-int8"}
    assert (path.read_bytes(), eight_bit.name) == (content, "model-int8.onnx")


def test_ranges_come_from_other_rows_than_those_it_is_checked_on(
    folder: Path, data: str, monkeypatch: pytest.MonkeyPatch
):
    accept(monkeypatch, "onnx-int8", Bounds(same=0.9, mean_difference=0.02))
    num_rows = len(rows_of(data, load_artifact(folder)).rows)
    assert export_model(folder, "onnx-int8", data=data)[1].num_rows == num_rows - num_rows // 2


def test_given_rows_are_checked_with_their_novelty(
    artifact: Artifact, table: pa.Table, data: str, tmp_path: Path
):
    novelty_scorer = NoveltyScorer.fit(extract_features(table.slice(0, 30), artifact.schema), 30, 0)
    novelty = novelty_scorer.scores(extract_features(table, artifact.schema))
    alert_score = CombinedAlertScore.fit(np.full(60, 0.5), novelty)
    joined = replace(
        artifact, novelty=novelty_scorer, operating_point=replace(NO_OPERATING_POINT, alert_score=alert_score)
    )
    sample = rows_of(data, joined)
    assert sample.novelty is not None
    encoded = artifact.tokenizer.encode(table)
    by_tokens = {
        tuple(encoded.ids[first:last].tolist()): novel
        for (first, last), novel in zip(pairwise(encoded.offsets.tolist()), novelty.tolist(), strict=True)
    }
    rows = [tuple(sample.rows.ids[a:b].tolist()) for a, b in pairwise(sample.rows.offsets.tolist())]
    assert len(rows) == len(set(rows)) == len(by_tokens)
    np.testing.assert_allclose(sample.novelty, [by_tokens[row] for row in rows], atol=1e-3)
    assert rows_of(data, artifact).novelty is None


def test_every_model_folder_gets_an_export(folder: Path):
    assert add_default_export(folder) is None
    assert set(load_artifact(folder).exports) == {"onnx"}


def test_a_model_that_has_no_export_says_why(folder: Path, monkeypatch: pytest.MonkeyPatch):
    accept(monkeypatch, "onnx", Bounds(same=0.98, mean_difference=0.01, max_difference=0.0))
    reason = add_default_export(folder)
    assert reason is not None
    assert "does not match the model" in reason
    assert load_artifact(folder).exports == {}


def test_a_changed_export_is_refused(folder: Path):
    path, _ = export_model(folder, "onnx")
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ArtifactError, match=r"model\.onnx.*does not match its sha256"):
        Detector.load(folder)


def test_a_model_that_is_saved_again_has_no_export_of_the_one_before(folder: Path):
    export_model(folder, "onnx")
    save_artifact(load_artifact(folder), folder, card="")
    assert load_artifact(folder).exports == {}
    assert not (folder / "model.onnx").exists()


def test_a_model_replaced_by_itself_keeps_its_exports_if_they_are_asked_for(folder: Path):
    path, _ = export_model(folder, "onnx")
    content = path.read_bytes()
    assert save_artifact(load_artifact(folder), folder, card="# Again\n", with_exports=True) == ["onnx"]
    assert path.read_bytes() == content
    assert load_artifact(folder).exports["onnx"].is_current


def test_an_export_that_does_not_agree_is_not_written(folder: Path, monkeypatch: pytest.MonkeyPatch):
    accept(monkeypatch, "onnx", Bounds(same=0.98, mean_difference=0.01, max_difference=0.0))
    before = (folder / MANIFEST).read_bytes()
    with pytest.raises(ArtifactError, match=r"does not match.*differ by up to .*pass real flows with --data"):
        export_model(folder, "onnx")
    assert (folder / MANIFEST).read_bytes() == before
    assert not (folder / "model.onnx").exists()


def test_a_manifest_that_lists_a_file_elsewhere_is_refused(folder: Path, artifact: Artifact):
    """A hostile model folder cannot make wirebert open what lies outside it."""
    from wirebert.inference.artifact import add_export

    (folder.parent / "secret").write_text("")
    add_export(folder, "onnx", b"", {})
    text = (folder / MANIFEST).read_text().replace("model.onnx", "../secret")
    manifest = json.loads(text)
    manifest.pop("sha256")
    import hashlib

    compact = json.dumps(manifest, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    sealed = {"sha256": hashlib.sha256(compact.encode("ascii")).hexdigest(), **manifest}
    (folder / MANIFEST).write_text(json.dumps(sealed, indent=1, ensure_ascii=False) + "\n")
    with pytest.raises(ArtifactError, match="not a file name in it"):
        load_artifact(folder)


def test_an_export_of_other_weights_is_passed_over_and_told(folder: Path, reseal: Callable[..., None]):
    export_model(folder, "onnx")

    def change(manifest: dict[str, dict[str, dict[str, object]]]) -> None:
        manifest["exports"]["onnx"]["weights"] = "0" * 64

    reseal(folder, change)
    detector = Detector.load(folder)
    assert detector.backend == "torch"
    assert "other weights" in detector.rejected_backends["onnx"]
    with pytest.raises(ArtifactError, match="wirebert export"):
        Detector.load(folder, backend="onnx")


@pytest.mark.parametrize("content", [b"", b"\x08\x07" + b"\xff" * 500, b"{}"])
def test_a_file_that_is_no_export_is_passed_over_and_told(
    folder: Path, content: bytes, reseal: Callable[..., None]
):
    export_model(folder, "onnx")
    (folder / "model.onnx").write_bytes(content)
    reseal(folder)
    detector = Detector.load(folder)
    assert detector.backend == "torch"
    assert "ONNX Runtime" in detector.rejected_backends["onnx"]
    with pytest.raises(ArtifactError, match=r"model\.onnx"):
        Detector.load(folder, backend="onnx")
