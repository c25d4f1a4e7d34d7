from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import torch

from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.decision.drift import DriftReference
from wirebert.decision.traffic_blocks import TrafficBlocks
from wirebert.encoding.token_rows import JaggedRows
from wirebert.errors import ArtifactError, ConfigError, SchemaError
from wirebert.inference import detector as module
from wirebert.inference import export
from wirebert.inference.artifact import Artifact, load_artifact, save_artifact
from wirebert.inference.attribution import with_tokens
from wirebert.inference.detector import Detector, choose_device
from wirebert.inference.engines import ENGINES, Bounds
from wirebert.inference.torch_backend import TorchBackend
from wirebert.model.config import Precision
from wirebert.model.distilbert import DistilBert


@pytest.fixture(scope="module")
def detector(artifact: Artifact) -> Detector:
    return Detector(artifact)


def coded(table: pa.Table) -> pa.Table:
    return pa.table({name: table[name].dictionary_encode() for name in table.column_names})


def test_probabilities_are_those_of_the_classes_in_order(detector: Detector, table: pa.Table):
    scores = detector.score(table)
    assert scores.classes == detector.classes == ("normal", "dos", "probe")
    assert scores.probabilities.shape == (60, 3)
    np.testing.assert_allclose(scores.probabilities.sum(axis=1), 1)
    assert scores.class_ids.tolist() == scores.probabilities.argmax(axis=1).tolist()
    assert set(scores.class_ids.tolist()) == {0, 1, 2}
    assert scores.attack_score is not None
    np.testing.assert_allclose(scores.attack_score, scores.probabilities[:, 1:].sum(axis=1))


def test_without_a_benign_class_there_is_no_attack_score(artifact: Artifact, table: pa.Table):
    classes = ClassMap(classes=artifact.classes.classes)
    assert Detector(replace(artifact, classes=classes)).score(table).attack_score is None


def test_a_folder_scores_as_the_artifact_does(
    artifact: Artifact, detector: Detector, table: pa.Table, tmp_path: Path
):
    save_artifact(artifact, tmp_path / "model", card="")
    loaded = Detector.load(str(tmp_path / "model"))
    np.testing.assert_allclose(
        loaded.score(table).probabilities, detector.score(table).probabilities, atol=1e-6
    )
    assert loaded.schema == artifact.schema
    assert loaded.num_parameters == sum(weight.size for _, weight in artifact.weights.items())


def test_a_damaged_folder_is_refused(artifact: Artifact, tmp_path: Path):
    save_artifact(artifact, tmp_path / "model", card="")
    (tmp_path / "model" / "model.safetensors").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"model\.safetensors.*expected \d+ bytes, found 0"):
        Detector.load(tmp_path / "model")


def coded_twice(table: pa.Table) -> pa.Table:
    return pa.concat_tables([coded(table.slice(0, 7)), coded(table.slice(7))])


def in_chunks(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table.slice(0, 0), table.slice(0, 59), table.slice(59)])


def backwards(table: pa.Table) -> pa.Table:
    return table.select(list(reversed(table.column_names)))


def features_only(table: pa.Table) -> pa.Table:
    return table.drop_columns(["label", "ts", "uid"])


def with_another_column(table: pa.Table) -> pa.Table:
    return table.append_column("left", table["service"])


@pytest.mark.parametrize(
    "form", [coded, coded_twice, in_chunks, backwards, features_only, with_another_column]
)
def test_the_same_flows_in_another_form_score_the_same(
    detector: Detector, table: pa.Table, form: Callable[[pa.Table], pa.Table]
):
    other = form(table)
    assert other.schema != table.schema or other["ts"].num_chunks > 1
    np.testing.assert_allclose(
        detector.score(other).probabilities, detector.score(table).probabilities, atol=1e-6
    )


def test_scores_keep_the_order_of_rows_and_do_not_depend_on_the_others(detector: Detector, table: pa.Table):
    found = detector.score(table).probabilities
    order = np.random.default_rng(0).permutation(60)
    np.testing.assert_allclose(detector.score(table.take(order)).probabilities, found[order], atol=1e-6)
    parts = [detector.score(table.slice(first, 25)).probabilities for first in (0, 25, 50)]
    np.testing.assert_allclose(np.concatenate(parts), found, atol=1e-6)


def test_small_batches_change_nothing(artifact: Artifact, detector: Detector, table: pa.Table):
    found = Detector(artifact, max_tokens=20).score(table).probabilities
    np.testing.assert_allclose(found, detector.score(table).probabilities, atol=1e-6)


@pytest.mark.parametrize("lacking", [["service"], ["duration", "flags"]])
def test_a_column_that_the_table_lacks_is_absent(artifact: Artifact, table: pa.Table, lacking: list[str]):
    """As in key-value text, where a key is not there."""
    detector = Detector(artifact, allow_absent=True)
    kept = [name for name in ("bytes", "service", "flags", "duration") if name not in lacking]
    rows = table.select(kept).filter(pc.is_finite(table["bytes"])).drop_null()
    assert rows.num_rows > 9
    lines = [", ".join(f"{name}={value}" for name, value in row.items()) for row in rows.to_pylist()]
    tokenizer = detector.artifact.tokenizer
    encoded, expected = tokenizer.encode(rows), tokenizer.encode_key_values(lines)
    assert encoded.ids.tolist() == expected.ids.tolist()
    found = detector.score(rows).probabilities
    assert np.isfinite(found).all()
    whole = detector.score(table.filter(pc.is_finite(table["bytes"])).slice(0, 3))
    assert np.abs(found[:3] - whole.probabilities).max() > 1e-3


def test_a_table_without_a_known_column_is_refused_or_scored_as_all_absent(
    artifact: Artifact, detector: Detector
):
    with pytest.raises(SchemaError, match=r"6 of 6 features are absent: 'src_ip', .*, found 'other' instead"):
        detector.score(pa.table({"other": [1, 2, 3]}))
    found = Detector(artifact, allow_absent=True).score(pa.table({"other": [1, 2, 3]})).probabilities
    assert found.shape == (3, 3)
    np.testing.assert_allclose(found, found[[0, 0, 0]], atol=1e-6)


@pytest.mark.parametrize("lacks", ["rows", "rows and chunks", "rows and columns"])
def test_an_empty_table_has_no_scores(detector: Detector, table: pa.Table, lacks: str):
    empty = {
        "rows": table.slice(0, 0),
        "rows and chunks": table.schema.empty_table(),
        "rows and columns": pa.table({}),
    }[lacks]
    scores = detector.score(empty)
    assert scores.probabilities.shape == (0, 3)
    assert scores.class_ids.tolist() == []
    assert scores.attack_score is not None
    assert scores.attack_score.tolist() == []
    assert scores.num_truncated == 0


def test_cut_texts_are_counted(make_artifact: Callable[..., tuple[Artifact, DistilBert]]):
    schema = FlowSchema(name="web", columns=(Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),))
    table = pa.table({"uri": ["/a", "/" + "b4%" * 100, None]})
    artifact, _ = make_artifact(schema, table)
    assert Detector(artifact).score(table).num_truncated == 1


def test_threads_may_share_a_detector(artifact: Artifact, table: pa.Table):
    """The first calls at once: whatever is made on first use is made by two threads."""
    parts = [table.slice(first, 30) for first in (0, 30, 15, 5)] * 5
    expected = [Detector(artifact).score(part).probabilities for part in parts]
    fresh = Detector(
        replace(artifact, tokenizer=type(artifact.tokenizer).from_dict(artifact.tokenizer.to_dict()))
    )
    with ThreadPoolExecutor(2) as pool:
        for found, wanted in zip(pool.map(fresh.score, parts), expected, strict=True):
            np.testing.assert_allclose(found.probabilities, wanted, atol=1e-6)


@pytest.mark.parametrize(("is_there", "auto"), [(False, "cpu"), (True, "cuda")])
def test_auto_takes_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch, is_there: bool, auto: str):
    monkeypatch.setattr(module, "has_gpu_driver", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    assert choose_device("auto") == auto
    assert choose_device("cpu") == "cpu"


@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_a_gpu_that_is_not_there_is_refused(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"--device must be auto or cpu .* got '{name}'"):
        Detector(artifact, device=name)


# Backends, the cache and reasons


@pytest.fixture(scope="module")
def exported(artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder with both exports."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    save_artifact(artifact, folder, card="")
    with pytest.MonkeyPatch.context() as patch:
        lax = Bounds(same=0.9, mean_difference=0.02)  # nobody trained this model to be sure of anything
        patch.setitem(ENGINES, "onnx-int8", replace(ENGINES["onnx-int8"], bounds=lax))
        for name in ("onnx", "onnx-int8"):
            export.export_model(folder, name)
    return folder


@pytest.mark.parametrize("backend", ["torch", "onnx", "onnx-int8"])
def test_every_backend_gives_the_scores_of_torch(
    exported: Path, detector: Detector, table: pa.Table, backend: str
):
    chosen = Detector.load(exported, backend=backend)
    assert chosen.backend == backend
    near = 0.1 if backend == "onnx-int8" else 1e-5
    np.testing.assert_allclose(
        chosen.score(table).probabilities, detector.score(table).probabilities, atol=near
    )


def test_auto_takes_the_fastest_backend_there_is(exported: Path, artifact: Artifact):
    assert Detector.load(exported).backend == "onnx-int8"
    loaded = load_artifact(exported)
    without = replace(loaded, exports={"onnx": loaded.exports["onnx"]})
    assert Detector(without).backend == "onnx"
    assert Detector(artifact).backend == "torch"


def test_auto_passes_over_an_export_that_gives_other_scores_here(
    exported: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("wirebert.inference.onnx_backend.MAX_DRIFT", -1.0)
    found = Detector.load(exported)
    assert found.backend == "torch"
    assert list(found.rejected_backends) == ["onnx-int8", "onnx"]
    assert "gives other scores on this processor" in found.rejected_backends["onnx"]
    with pytest.raises(ArtifactError, match="use --backend torch"):
        Detector.load(exported, backend="onnx")


@pytest.mark.parametrize(
    ("asked", "strict", "used", "passed_over"),
    [
        ("auto", False, "fp16", []),
        ("auto", True, "fp32", ["fp16"]),
        ("fp32", False, "fp32", []),
        ("bf16", True, "bf16", []),
    ],
)
def test_a_gpu_computes_in_half_precision_where_it_agrees(
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
    asked: Literal["auto"] | Precision,
    strict: bool,
    used: str,
    passed_over: list[str],
):
    """Here the processor stands in for it."""

    real = TorchBackend.__init__

    def on_processor(self: TorchBackend, *parts: Any, device: str, **settings: Any) -> None:
        assert device == "cuda"
        real(self, *parts, device="cpu", **settings)

    def choose_gpu(name: str) -> str:
        return name.replace("cpu", "cuda")

    monkeypatch.setattr(module, "choose_device", choose_gpu)
    monkeypatch.setattr(TorchBackend, "__init__", on_processor)
    bounds = Bounds(same=1.1 if strict else 0.99, mean_difference=0.01)
    monkeypatch.setattr("wirebert.inference.torch_backend.HALF_BOUNDS", bounds)
    found = Detector(artifact, precision=asked)
    assert isinstance(found._backend, TorchBackend)  # pyright: ignore[reportPrivateUsage]
    assert found._backend.precision == used  # pyright: ignore[reportPrivateUsage]
    assert list(found.rejected_backends) == passed_over


def test_a_processor_computes_in_single_precision(detector: Detector):
    assert isinstance(detector._backend, TorchBackend)  # pyright: ignore[reportPrivateUsage]
    assert detector._backend.precision == "fp32"  # pyright: ignore[reportPrivateUsage]


def test_a_backend_without_its_export_is_refused(artifact: Artifact):
    with pytest.raises(ConfigError, match=r"--backend onnx-int8: .* `wirebert export MODEL .* --int8`"):
        Detector(artifact, backend="onnx-int8")


def test_equal_rows_are_computed_once_and_remembered(
    artifact: Artifact, table: pa.Table, monkeypatch: pytest.MonkeyPatch
):
    computed: list[int] = []
    real = TorchBackend.logits

    def counted(self: TorchBackend, flows: JaggedRows) -> np.ndarray:
        computed.append(len(flows))
        return real(self, flows)

    monkeypatch.setattr(TorchBackend, "logits", counted)
    fresh, forgetful = Detector(artifact), Detector(artifact, cache_mb=0)
    twice = pa.concat_tables([table, table])
    different = len(np.unique(fresh.score(twice).row_hashes))
    expected = forgetful.score(table).probabilities
    np.testing.assert_allclose(fresh.score(table).probabilities, expected, atol=1e-6)
    forgetful.score(table)
    assert computed == [different, different, different]


def test_encoding_and_scoring_apart_are_scoring(detector: Detector, table: pa.Table):
    found = detector.score(table, detector.encode(table))
    np.testing.assert_array_equal(found.probabilities, detector.score(table).probabilities)


def test_an_explanation_is_that_of_each_row_and_class(detector: Detector, table: pa.Table):
    """Equal rows that are explained for different classes are explained as if alone."""
    twice = pa.concat_tables([table.slice(0, 4)] * 2)
    class_ids = np.array([0, 1, 2, 0, 1, 1, 0, 2])
    found = detector.explain(twice, class_ids)
    for row in range(8):
        alone = detector.explain(twice.slice(row, 1), class_ids[row : row + 1])
        np.testing.assert_allclose(found.contributions[row], alone.contributions[0], atol=1e-5)
        assert found.tokens[row].tolist() == alone.tokens[0].tolist()
    assert detector.explain(table).class_ids.tolist() == detector.score(table).class_ids.tolist()


def test_a_feature_that_carries_a_verdict_can_not_be_taken_away(detector: Detector, table: pa.Table):
    """What is named first lowers the verdict's probability more than a feature drawn at random."""
    found, scores = detector.explain(table), detector.score(table)
    tokenizer, block = detector.artifact.tokenizer, detector.encode(table)
    rows, absent = np.arange(60), tokenizer.slot_special[:, 2].astype(np.int64)

    def left(slots: np.ndarray) -> float:
        without = with_tokens(tokenizer, block, rows, slots, absent[slots])
        return float(detector.score_encoded(without).probabilities[rows, scores.class_ids].mean())

    random = np.random.default_rng(0).integers(0, len(tokenizer.slots), 60)
    assert left(found.strongest(1)[:, 0]) < left(random) - 0.05


def test_after_forgetting_a_row_is_computed_again(
    artifact: Artifact, table: pa.Table, monkeypatch: pytest.MonkeyPatch
):
    detector = Detector(artifact)
    first = detector.score(table).probabilities
    asked: list[int] = []
    backend = detector._backend  # pyright: ignore[reportPrivateUsage]
    logits = backend.logits

    def counted(block: JaggedRows) -> np.ndarray:
        asked.append(len(block))
        return logits(block)

    monkeypatch.setattr(backend, "logits", counted)
    detector.score(table)
    assert sum(asked) == 0
    detector.forget()
    assert (detector.score(table).probabilities == first).all()
    assert sum(asked) > 0


def test_drift_is_measured_on_what_is_scored_once_it_is_watched(artifact: Artifact, table: pa.Table) -> None:
    blocks = TrafficBlocks(artifact.tokenizer)
    plain = Detector(artifact)
    plain.watch_drift()
    assert plain.drift_status() == {}  # there is nothing to compare with
    plain.drift = blocks
    for _ in range(10):
        plain.score(table)
    assert (blocks.num_closed, blocks.num_flows) == (24, 25)
    detector = Detector(replace(artifact, reference=DriftReference.fit(blocks, artifact.tokenizer)))
    detector.score(table)
    assert detector.drift_status() == {}
    detector.watch_drift()
    for _ in range(2):
        detector.score(table)
    status = detector.drift_status()
    assert (status["flows"], status["moved"]) == (100, 0)
    detector.explain(table)
    assert detector.drift_status()["flows"] == 100
