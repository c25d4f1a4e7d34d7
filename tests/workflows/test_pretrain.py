"""Pretraining from files to a model folder, and a detector trained from it; whole runs, so slow ones."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from wirebert.cli.main import main
from wirebert.config import resolve_pretraining
from wirebert.data.flows import open_flows
from wirebert.encoding.store import EncodedFlows
from wirebert.evaluation.test_ledger import read_ledger
from wirebert.inference.artifact import load_artifact
from wirebert.training.masking import Masking
from wirebert.workflows.pretrain import mask_once, open_rows, together, without_labels


def settings(tiny: list[str]) -> list[str]:
    """Those of `tiny` that pretraining has."""
    pairs = zip(tiny[::2], tiny[1::2], strict=True)
    return [word for pair in pairs if not pair[1].startswith("evaluation.") for word in pair]


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory, traffic: Path, tiny: list[str]) -> Path:
    """The folder of a pretraining on labelled and unlabelled rows. Tests look, and do not write there."""
    out = tmp_path_factory.mktemp("pretrained") / "run"
    rows = [str(traffic / "train.csv"), str(unlabelled(out.parent / "more.csv", traffic))]
    assert main(["pretrain", *rows, "--out", str(out), *settings(tiny)]) == 0
    return out


def unlabelled(path: Path, traffic: Path) -> Path:
    """Rows of other traffic without the column `label`, which is the last."""
    lines = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n", encoding="utf-8")
    return path


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_report_has_figures_of_held_out_rows_for_every_column(pretrained: Path):
    report = report_of(pretrained)
    assert report["num_train"] + report["num_valid"] == 1800
    columns = report["columns"]
    assert {"protocol", "service", "src_payload_bytes"} <= set(columns)
    assert "label" not in columns
    assert sum(own["num_masked"] for own in columns.values()) == report["valid"]["num_masked"]
    assert report["valid"]["loss"] < np.log(
        load_artifact(pretrained / "model", pretrained=True).tokenizer.num_tokens
    )
    assert not (pretrained / "encoded").exists()
    assert not (pretrained / "checkpoints").exists()


@pytest.mark.slow
def test_every_file_is_counted_in_the_ledger(pretrained: Path):
    reads = read_ledger(pretrained.parent / "test_reads.jsonl")
    assert [Path(read.data).name for read in reads] == ["train.csv", "more.csv"]
    assert reads[1].sha256 == open_flows(pretrained.parent / "more.csv").fingerprint()


@pytest.mark.slow
def test_labels_change_no_weight(pretrained: Path, tmp_path: Path, traffic: Path, tiny: list[str]):
    lines = (traffic / "train.csv").read_text(encoding="utf-8").splitlines()
    names = ["benign", "made-up"]
    other = [lines[0], *(f"{line.rpartition(',')[0]},{names[n % 2]}" for n, line in enumerate(lines[1:]))]
    (tmp_path / "train.csv").write_text("\n".join(other) + "\n", encoding="utf-8")
    rows = [str(tmp_path / "train.csv"), str(unlabelled(tmp_path / "more.csv", traffic))]
    assert main(["pretrain", *rows, "--out", str(tmp_path / "run"), *settings(tiny)]) == 0
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (tmp_path / "run", pretrained))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_detector_keeps_tokenizer_and_schema_and_starts_from_the_weights(
    pretrained: Path, tmp_path: Path, traffic: Path
):
    start, out = pretrained / "model", tmp_path / "run"
    settings = ["training.epochs=1", "training.learning_rate=1e-12", "evaluation.num_resamples=100"]
    words = [word for setting in (*settings, "evaluation.baseline=false") for word in ("--set", setting)]
    assert (
        main(["train", str(traffic / "train.csv"), "--init-from", str(start), "--out", str(out), *words]) == 0
    )
    before, after = load_artifact(start, pretrained=True), load_artifact(out / "model")
    assert after.tokenizer.to_dict() == before.tokenizer.to_dict()
    words_name = "distilbert.embeddings.word_embeddings.weight"
    np.testing.assert_allclose(after.weights[words_name], before.weights[words_name], atol=1e-6)
    assert "vocab_transform.weight" not in after.weights
    assert (
        main(["predict", str(out / "model"), str(traffic / "test.csv"), "--out", str(tmp_path / "v.csv")])
        == 0
    )


@pytest.mark.slow
def test_a_finished_pretraining_is_shown_and_not_gone_on_with(
    pretrained: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["report", str(pretrained)]) == 0
    assert "masked features of held-out rows: loss" in capsys.readouterr().out
    assert main(["pretrain", "--resume", str(pretrained)]) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--resume", "{run}"], "a run of `wirebert pretrain`"),
        (
            ["predict", "{run}/model", "{data}"],
            "has no classes yet",
        ),
        (
            ["train", "{data}", "--init-from", "{run}/model", "--set", "encoding.num_bins=7"],
            "brings its tokenizer",
        ),
        (["train", "{data}", "--init-from", "{run}/model", "--drop", "port"], "difference at 'dst_port'"),
        (["train", "{data}", "--init-from", "{run}/model", "--set", "model.dim=64"], "model.dim is 32"),
    ],
)
def test_what_does_not_go_with_a_pretrained_model_is_told_in_one_sentence(
    pretrained: Path,
    traffic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
):
    words = [word.format(run=pretrained, data=traffic / "train.csv") for word in arguments]
    out = ["--out", str(tmp_path / "new")] if arguments[0] == "train" and "--resume" not in arguments else []
    assert main([*words, *out]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no training data: pass files, folders or patterns to `wirebert pretrain`"),
        (["-"], "cannot be `-`"),
        (["nothing-here.csv"], "nothing-here.csv"),
        (
            ["{data}", "--set", "masking.mask_fraction=1.5"],
            "masking.mask_fraction must be in (0, 1), got 1.5",
        ),
        (["{data}", "--set", "training.class_weights=sqrt"], "pretraining, which has no classes"),
        (
            ["{data}", "--set", "data.split=leave_attack_out", "--set", "data.left_out_class=x"],
            "must not depend on labels",
        ),
        (["{data}", "{other}"], "found no column 'ts'"),
    ],
)
def test_bad_input_is_told_in_one_sentence(
    arguments: list[str], said: str, traffic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = tmp_path / "other.csv"
    lines = (traffic / "train.csv").read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(line.partition(",")[2].partition(",")[2].partition(",")[2] for line in lines))
    words = [word.format(data=traffic / "train.csv", other=other) for word in arguments]
    assert main(["pretrain", *words, "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    if said != "found no column 'ts'":
        assert said in error
    else:
        assert "expected the features of" in error
    assert not (tmp_path / "run").exists()


def test_rows_of_several_files_follow_each_other_without_labels(traffic: Path, tmp_path: Path):
    rows = (str(traffic / "train.csv"), str(unlabelled(tmp_path / "more.csv", traffic)))
    flows = without_labels(together(open_rows(resolve_pretraining(given={"rows": list(rows)}))))
    tables = list(flows.blocks())
    assert sum(table.num_rows for table in tables) == 1800
    assert all("label" not in table.column_names for table in tables)


def test_held_out_rows_are_masked_once_for_all_evaluations(tmp_path: Path):
    masking = Masking(
        num_tokens=9,
        token_slots=np.array([-1, -1, -1, -1, -1, 0, 0, 1, 1]),
        is_piece=np.zeros(9, bool),
        default_ids=np.array([5, 7]),
        omits_most_frequent=False,
        mask_fraction=0.5,
        max_text_masked=0,
        max_length=8,
    )
    flows = EncodedFlows.from_arrays(
        np.array([2, 5, 7] * 20, np.uint16), np.arange(0, 61, 3), np.zeros(20, np.int64), np.arange(20)
    )
    first = mask_once(flows, masking, tmp_path / "a", seed=3)
    assert np.array_equal(first.ids, mask_once(flows, masking, tmp_path / "b", seed=3).ids)
    assert np.array_equal(first.ids % 9, flows.ids)
    assert (np.add.reduceat(first.ids >= 9, first.offsets[:-1]) == 1).all()
