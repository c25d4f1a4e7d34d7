import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from wirebert.data.labels import ClassMap
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ArtifactError
from wirebert.inference import artifact as artifact_module
from wirebert.inference.artifact import Artifact, load_artifact, save_artifact, write_card
from wirebert.inference.detector import Detector
from wirebert.model.batches import score
from wirebert.model.distilbert import DistilBert

Tiny = Callable[..., tuple[Artifact, DistilBert]]

STOCK_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
CHECKED_FILES = (*STOCK_FILES, "wirebert.json")
UGLY = [
    "[SEP]",
    "[CLS] service:http",
    "   ",
    "\t\n",
    "\0",
    "[PAD]",
    "<missing>",
    "service:http",
    "é\u2028😀%5B",
]
TEXTS = ["/index.html", "/login?user=%27 or 1=1--", "", "/a/b/c.php?id=17&x=0x1F", "[SEP] \0", None]


Reseal = Callable[..., None]
Manifest = dict[str, Any]


@pytest.fixture
def folder(artifact: Artifact, tmp_path: Path) -> Path:
    save_artifact(artifact, tmp_path / "model", card="# A model\n")
    return tmp_path / "model"


def with_texts(schema: FlowSchema, table: pa.Table) -> tuple[FlowSchema, pa.Table]:
    """The same flows with two text columns."""
    names = ("uri", "agent")
    columns = [Column(name=name, kind=ColumnKind.TEXT, is_feature=True) for name in names]
    for name in names:
        texts = pa.array((TEXTS * 10)[: table.num_rows] if name == "uri" else ["curl/8.0 (linux)", None] * 30)
        table = table.append_column(name, texts)
    return replace(schema, columns=(*schema.columns, *columns)), table


def canonical(tokenizer: FlowTokenizer, table: pa.Table) -> tuple[list[str], list[list[int]]]:
    """Canonical text of each row, and its ids."""
    block = tokenizer.encode(table)
    rows = [block.ids[first:last] for first, last in zip(block.offsets, block.offsets[1:], strict=False)]
    return [tokenizer.to_text(row) for row in rows], [row.tolist() for row in rows]


def stock_ids(folder: Path, texts: list[str]) -> list[list[int]]:
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    return tokenizer(texts)["input_ids"]


def stock_probabilities(folder: Path, texts: list[str]) -> np.ndarray:
    """What a script of `transformers` alone says, all rows in one padded batch."""
    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    model: Any = AutoModelForSequenceClassification.from_pretrained(str(folder), local_files_only=True)
    assert model.config.id2label == {0: "normal", 1: "dos", 2: "probe"}
    with torch.inference_mode():
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        return model(**batch).logits.double().softmax(dim=1).numpy()


@pytest.mark.parametrize(
    ("texts", "vocabulary", "leave_out"),
    [
        (False, "compact", True),
        (False, "compact", False),
        (True, "compact", False),
        (True, "compact", True),
        (True, "extend", False),
    ],
)
def test_stock_transformers_gives_the_probabilities_of_the_detector(
    schema: FlowSchema,
    table: pa.Table,
    make_artifact: Tiny,
    wordpieces: str,
    tmp_path: Path,
    texts: bool,
    vocabulary: Any,
    leave_out: bool,
):
    if texts:
        schema, table = with_texts(schema, table)
    config = EncodingConfig(
        vocabulary=vocabulary,
        omit_most_frequent=leave_out,
        wordpieces=wordpieces if vocabulary == "extend" else None,
        subword_vocab_size=300,
    )
    artifact, model = make_artifact(schema, table, config)
    save_artifact(artifact, tmp_path / "model", card="")
    detector = Detector.load(tmp_path / "model")
    found = detector.score(table).probabilities
    written, ids = canonical(artifact.tokenizer, table)
    assert len({len(row) for row in ids}) > 1 or not (texts or leave_out), "padding is not tested"
    assert stock_ids(tmp_path / "model", written) == ids
    np.testing.assert_allclose(found, stock_probabilities(tmp_path / "model", written), atol=1e-5)
    assert found.std(axis=0).min() > 0.01, "a model that says the same of all flows shows nothing"
    # What was in memory before saving had its column embeddings apart.
    columns = model.embeddings.column_embeddings
    assert columns is not None
    assert columns.weight[0].abs().max() > 0.1
    logits = score(model, artifact.tokenizer.encode(table))
    np.testing.assert_allclose(found, torch.from_numpy(logits).double().softmax(dim=1), atol=1e-5)


@pytest.mark.parametrize("is_known", [True, False])
def test_no_category_changes_another_token(
    schema: FlowSchema, table: pa.Table, make_artifact: Tiny, tmp_path: Path, is_known: bool
):
    rows = table.slice(0, 1).take([0] * (1 + len(UGLY)))
    at = table.column_names.index("service")
    rows = rows.set_column(at, "service", pa.array(["http", *UGLY]))
    seen = pa.concat_tables([table, rows]) if is_known else table
    artifact, _ = make_artifact(schema, seen, EncodingConfig(omit_most_frequent=False))
    save_artifact(artifact, tmp_path / "model", card="")
    written, ids = canonical(artifact.tokenizer, rows)
    assert stock_ids(tmp_path / "model", written) == ids
    slot = artifact.tokenizer.slot_names.index("service")
    for row in ids[1:]:
        assert [
            place for place, (one, other) in enumerate(zip(ids[0], row, strict=True)) if one != other
        ] == [1 + slot]
    assert len({row[1 + slot] for row in ids}) == (1 + len(UGLY) if is_known else 2)


def test_no_text_changes_another_token(
    schema: FlowSchema, table: pa.Table, make_artifact: Tiny, tmp_path: Path
):
    schema, table = with_texts(schema, table)
    artifact, _ = make_artifact(schema, table, EncodingConfig(subword_vocab_size=300))
    save_artifact(artifact, tmp_path / "model", card="")
    rows = table.slice(0, 1).take([0] * (1 + len(UGLY)))
    rows = rows.set_column(table.column_names.index("uri"), "uri", pa.array(["/", *UGLY]))
    written, ids = canonical(artifact.tokenizer, rows)
    assert stock_ids(tmp_path / "model", written) == ids
    tokenizer = artifact.tokenizer
    starts = [tokenizer.vocabulary.index(f"{name}:") for name in ("uri", "agent")]
    before, after = ([row.index(start) for row in ids] for start in starts)
    assert {tuple(row[:end]) for row, end in zip(ids, before, strict=True)} == {tuple(ids[0][: before[0]])}
    assert {tuple(row[start:]) for row, start in zip(ids, after, strict=True)} == {tuple(ids[0][after[0] :])}
    special = {tokenizer.vocabulary.index(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")}
    assert not any(special & set(row[1:]) for row in ids)


def test_what_is_loaded_is_what_was_saved(artifact: Artifact, folder: Path):
    loaded = load_artifact(folder)
    assert loaded.architecture == replace(artifact.architecture, positions=True, num_columns=0)  # folded in
    assert loaded.classes == artifact.classes
    assert loaded.origin == artifact.origin
    assert loaded.schema == artifact.schema
    assert json.dumps(loaded.tokenizer.to_dict()) == json.dumps(artifact.tokenizer.to_dict())
    assert set(loaded.weights) == set(artifact.weights)
    for name, weight in artifact.weights.items():
        assert np.array_equal(loaded.weights[name], weight), name
    assert sorted(path.name for path in folder.iterdir()) == sorted(["README.md", *CHECKED_FILES])
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_class_names_may_be_of_any_script(artifact: Artifact, tmp_path: Path):
    classes = ClassMap(classes=("正常", 'SQL "injection"', "é\u2028"), label_map={}, benign=None)
    save_artifact(replace(artifact, classes=classes), tmp_path / "model", card="")
    assert load_artifact(tmp_path / "model").classes == classes


# Damage


def load_and_read(folder: Path) -> None:
    """Load an artifact and read its weights, which are not looked at before."""
    dict(load_artifact(folder).weights)


@pytest.mark.parametrize("name", CHECKED_FILES)
@pytest.mark.parametrize("place", [0, 0.5, 1])
def test_a_changed_byte_is_refused_by_name(folder: Path, name: str, place: float):
    content = bytearray((folder / name).read_bytes())
    content[int(place * (len(content) - 1))] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        load_and_read(folder)


@pytest.mark.parametrize("name", CHECKED_FILES)
@pytest.mark.parametrize("length", [0, -1, None])
def test_a_file_of_another_length_is_refused_by_name(folder: Path, name: str, length: int | None):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content + b" " if length is None else content[:length])
    with pytest.raises(ArtifactError, match=name):
        load_and_read(folder)


@pytest.mark.parametrize("name", CHECKED_FILES)
@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_missing_file_is_refused_by_name(folder: Path, name: str, is_replaced: bool):
    (folder / name).unlink()
    if is_replaced:
        (folder / name).mkdir()
    with pytest.raises(ArtifactError, match=name):
        load_and_read(folder)


def test_no_byte_of_the_manifest_can_change(folder: Path):
    path = folder / "wirebert.json"
    content = path.read_bytes()
    blanks = [at for at, byte in enumerate(content) if byte in b" \n"]
    for at in [*range(0, len(content), 97), *blanks[::40]]:
        for other in (content[at] ^ 4, ord("\n") if content[at] == ord(" ") else ord(" ")):
            path.write_bytes(content[:at] + bytes([other]) + content[at + 1 :])
            with pytest.raises(ArtifactError, match=r"wirebert\.json"):
                load_artifact(folder)


def test_files_of_another_model_are_refused(artifact: Artifact, folder: Path, tmp_path: Path):
    weights = {name: weight + 1 for name, weight in artifact.weights.items()}
    save_artifact(replace(artifact, weights=weights), tmp_path / "other", card="")
    shutil.copy(tmp_path / "other" / "model.safetensors", folder)
    with pytest.raises(ArtifactError, match=r"model\.safetensors: the model folder is damaged.*sha256"):
        load_and_read(folder)


def test_people_may_amend_the_card(folder: Path):
    write_card(folder, "# Our model\n")
    load_artifact(folder)
    (folder / "README.md").unlink()
    load_artifact(folder)


@pytest.mark.parametrize("place", ["", "config.json", "nowhere"])
def test_what_is_no_model_folder_is_refused(tmp_path: Path, place: str):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ArtifactError, match=r"expected a model folder, found no wirebert\.json in it"):
        load_artifact(tmp_path / place)


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"3", b"null", b'"format"', b'["sha256"]', b"{}"),
        *(b'{"format": 1}', b'{"format": 1, "classes": {}, "tokenizer": {}, "origin": {}, "files": []}'),
        *(b'{"format": 1, "classes": {}, "tokenizer": {}, "origin": {}, "files": {}}', b'{"format": null}'),
    ],
)
def test_a_manifest_that_says_too_little_is_refused_in_a_sentence(folder: Path, content: bytes):
    (folder / "wirebert.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"wirebert\.json: ") as caught:
        load_artifact(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", [0, 1, "2"])
def test_another_format_version_is_refused(folder: Path, version: object):
    path = folder / "wirebert.json"
    path.write_text(path.read_text().replace('"format": 2', f'"format": {json.dumps(version)}'))
    with pytest.raises(
        ArtifactError, match=rf"expected format version 2, found {version!r}; use the wirebert"
    ):
        load_artifact(folder)


def drop_benign(manifest: dict[str, Any]) -> None:
    del manifest["classes"]["benign"]


def add_setting(manifest: dict[str, Any]) -> None:
    manifest["tokenizer"]["config"]["soft_bins"] = True


def add_kind(manifest: dict[str, Any]) -> None:
    manifest["tokenizer"]["schema"]["columns"][0]["kind"] = "country"


def drop_encoders(manifest: dict[str, Any]) -> None:
    manifest["tokenizer"]["encoders"] = [{}]


def drop_file(manifest: dict[str, Any]) -> None:
    del manifest["files"]["config.json"]


def drop_size(manifest: dict[str, Any]) -> None:
    del manifest["files"]["config.json"]["size_bytes"]


@pytest.mark.parametrize("change", [drop_benign, add_setting, add_kind, drop_encoders, drop_file, drop_size])
def test_a_whole_manifest_with_strange_content_is_refused_in_a_sentence(
    folder: Path, change: Callable[[dict[str, Any]], None], reseal: Reseal
):
    reseal(folder)
    load_artifact(folder)
    reseal(folder, change)
    with pytest.raises(ArtifactError, match="json: "):
        load_artifact(folder)


def test_weights_that_are_none_are_refused_in_a_sentence_even_with_a_fitting_sha256(
    folder: Path, reseal: Reseal
):
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"model\.safetensors: expected safetensors"):
        load_and_read(folder)


# Saving


def test_saving_replaces_the_model_that_is_there(artifact: Artifact, folder: Path):
    (folder / "left.over").write_text("of before")
    save_artifact(replace(artifact, origin={"seed": 2}), folder, card="# New\n")
    assert load_artifact(folder).origin == {"seed": 2}
    assert (folder / "README.md").read_text() == "# New\n"
    assert not (folder / "left.over").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left")])
@pytest.mark.parametrize("step", ["save_arrays", "write_card"])
def test_a_model_that_can_not_be_written_leaves_the_one_before(
    artifact: Artifact, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, step: str
):
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    monkeypatch.setattr(artifact_module, step, fail)
    with pytest.raises(ArtifactError, match=r"model: the model cannot be written \(No space left"):
        save_artifact(replace(artifact, origin={"seed": 2}), folder, card="")
    assert load_artifact(folder).origin == artifact.origin
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("step", range(20))
def test_a_model_can_be_loaded_and_saved_over_whenever_saving_is_killed(
    artifact: Artifact, folder: Path, monkeypatch: pytest.MonkeyPatch, step: int
):
    """Every write, move and removal is a moment at which the process may end; nothing is put right
    afterwards.
    """
    steps = iter(range(20))

    def or_die(do: Callable[..., Any]) -> Callable[..., Any]:
        def act(*args: Any, **kwargs: Any) -> Any:
            if next(steps, 20) >= step:
                raise Killed
            return do(*args, **kwargs)

        return act

    def half_removed(path: Path, ignore_errors: bool = False) -> None:
        for at, file in enumerate(sorted(path.glob("*"))):
            if at == 2:
                act()
            file.unlink()
        if path.exists():
            path.rmdir()

    act = or_die(lambda: None)
    with monkeypatch.context() as patch:
        for method in ("write_text", "mkdir", "replace"):
            patch.setattr(Path, method, or_die(getattr(Path, method)))
        patch.setattr(shutil, "rmtree", or_die(half_removed))
        patch.setattr(artifact_module, "save_arrays", or_die(artifact_module.save_arrays))
        with suppress(Killed):
            save_artifact(replace(artifact, origin={"seed": 2}), folder, card="")
    assert load_artifact(folder).origin in (artifact.origin, {"seed": 2})
    save_artifact(replace(artifact, origin={"seed": 3}), folder, card="")
    assert [path.name for path in folder.parent.iterdir()] == ["model"]
    assert load_artifact(folder).origin == {"seed": 3}


def test_a_folder_of_other_things_is_never_replaced(artifact: Artifact, tmp_path: Path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    with pytest.raises(ArtifactError, match="expected a new folder or a model folder to replace"):
        save_artifact(artifact, tmp_path / "home", card="")
    assert (tmp_path / "home" / "letters.txt").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    save_artifact(artifact, tmp_path / "empty", card="")
    load_artifact(tmp_path / "empty")


def test_files_have_the_permissions_that_the_umask_leaves(artifact: Artifact, tmp_path: Path):
    """Not those of a temporary file, which nobody else may read."""
    before = os.umask(0o027)
    try:
        save_artifact(replace(artifact, origin={}), tmp_path / "model", card="")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "model").iterdir()}
    assert modes == dict.fromkeys(modes, 0o640)
    assert "model.safetensors" in modes


# A hostile folder: sealed by someone who knows how.


def add_file(name: str) -> Callable[[Manifest], None]:
    """Lists an empty file."""

    def change(manifest: Manifest) -> None:
        manifest["files"][name] = {"sha256": "", "size_bytes": 0}

    return change


@pytest.mark.parametrize(
    "changed",
    [
        {"dim": 10**9, "hidden_dim": 4 * 10**9, "n_heads": 1},
        {"n_layers": 10**9},
        {"vocab_size": 10**12},
        {"max_position_embeddings": 10**15},
        {"vocab_size": 10**6},
    ],
)
def test_a_configuration_of_other_sizes_than_the_weights_is_refused_before_memory_is_taken(
    folder: Path, changed: dict[str, int], reseal: Reseal
):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"config\.json"):
        load_artifact(folder)


@pytest.mark.parametrize("name", ["config.json", "wirebert.json"])
def test_deep_json_is_refused_in_a_sentence(folder: Path, name: str, reseal: Reseal):
    (folder / name).write_text('{"a":' + "[" * 100_000 + "]" * 100_000 + "}")
    if name != "wirebert.json":
        reseal(folder)
    with pytest.raises(ArtifactError):
        load_artifact(folder)


@pytest.mark.parametrize("name", ["a\0b", "", ".", "..", "../a", "a/b", "/etc/passwd", "é", "-rf", ".hidden"])
def test_a_name_that_is_no_plain_file_name_is_refused(folder: Path, name: str, reseal: Reseal):
    reseal(folder, add_file(name))
    with pytest.raises(ArtifactError, match="not a file name"):
        load_artifact(folder)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/stdin", "secret", "nowhere", "."])
@pytest.mark.parametrize("name", ["extra", "model.safetensors", "config.json", "wirebert.json"])
def test_a_link_or_a_device_is_refused_and_nothing_is_told_of_it(
    folder: Path, name: str, target: str, reseal: Reseal
):
    (folder.parent / "secret").write_bytes(b"x" * 631)
    if name == "extra":
        reseal(folder, add_file("extra"))
    else:
        (folder / name).unlink()
    (folder / name).symlink_to(folder.parent / target)
    with pytest.raises(ArtifactError, match="plain file") as caught:
        load_artifact(folder)
    assert "631" not in str(caught.value)


def test_a_pipe_in_the_folder_is_not_waited_for(folder: Path):
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    with pytest.raises(ArtifactError, match="plain file"):
        load_artifact(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused_when_they_are_read(
    artifact: Artifact, folder: Path, value: float, reseal: Reseal
):
    weights = {name: array.copy() for name, array in artifact.weights.items()}
    weights["classifier.bias"][0] = value
    save_file(weights, folder / "model.safetensors")
    reseal(folder)
    with pytest.raises(ArtifactError, match=r"finite.*classifier\.bias"):
        Detector.load(folder)


def test_a_large_manifest_is_not_parsed(folder: Path):
    with (folder / "wirebert.json").open("r+b") as file:
        file.truncate(1 << 40)  # sparse: it takes no space
    with pytest.raises(ArtifactError, match="larger than"):
        load_artifact(folder)
