"""Learning without labels, from files to a detector, and a training that starts from it; whole runs."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from wirebert.cli.main import main
from wirebert.data.flows import open_flows
from wirebert.data.synthetic import generate
from wirebert.data.synthetic.conn_log import write_conn_log
from wirebert.encoding.store import EncodedFlows
from wirebert.evaluation.test_ledger import read_ledger
from wirebert.inference.artifact import load_artifact
from wirebert.report.learning import read_learning
from wirebert.training.config import TrainConfig
from wirebert.training.masking import Masking
from wirebert.workflows.learn import MAX_EPOCHS, mask_once, stage_settings


def settings(tiny: list[str]) -> list[str]:
    """Those of `tiny` that learning has."""
    pairs = zip(tiny[::2], tiny[1::2], strict=True)
    return [word for pair in pairs if not pair[1].startswith("evaluation.") for word in pair]


@pytest.fixture(scope="session")
def learned(tmp_path_factory: pytest.TempPathFactory, traffic: Path, tiny: list[str]) -> Path:
    """The folder of a run on labelled and unlabelled rows. Tests look, and do not write there."""
    out = tmp_path_factory.mktemp("learned") / "run"
    rows = [str(traffic / "train.csv"), str(unlabelled(out.parent / "more.csv", traffic))]
    assert main(["learn", *rows, "--out", str(out), *settings(tiny)]) == 0
    return out


def unlabelled(path: Path, traffic: Path) -> Path:
    """Rows of other traffic without the column `label`, which is the last."""
    lines = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.rpartition(",")[0] for line in lines) + "\n", encoding="utf-8")
    return path


def report_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
def test_the_report_says_what_is_normal_and_lists_later_flows_with_reasons(learned: Path):
    report = read_learning(learned / "report.json")
    assert report is not None
    assert report.num_train + report.num_later == report.normal.num_flows == 1800
    assert report.num_left_out == int(0.005 * report.num_train)
    assert "label" not in report.columns
    assert -1 <= report.correlation <= 1
    assert "latest" in report.split
    services = next(one for one in report.normal.columns if one.column == "service")
    assert sum(services.counts.values()) <= 1800
    assert len(report.unusual) == 25
    scores = [flow.score for flow in report.unusual]
    assert scores == sorted(scores, reverse=True)
    assert all(flow.reasons for flow in report.unusual)
    page = (learned / "report.html").read_text(encoding="utf-8")
    assert "Most unusual later flows" in page
    assert not (learned / "encoded").exists()
    assert not (learned / "pretraining" / "checkpoints").exists()


@pytest.mark.slow
def test_thresholds_hold_on_the_later_flows_and_no_address_is_in_the_model(
    learned: Path, traffic: Path, tmp_path: Path
):
    report, artifact = read_learning(learned / "report.json"), load_artifact(learned / "model")
    assert report is not None
    assert artifact.operating_point is not None
    assert artifact.classes.classes == ("normal", "unusual")
    for at in artifact.operating_point.thresholds:
        assert at.num_false_positives <= at.target_fpr * report.num_later
    out = tmp_path / "verdicts.csv"
    assert main(["predict", str(learned), str(traffic / "test.csv"), "--out", str(out)]) == 0
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["verdict"] for row in rows} <= {"alert", "pass"}
    sources = next(one for one in report.normal.columns if one.column == "source")
    inside = b"".join(path.read_bytes() for path in (learned / "model").iterdir())
    assert not any(address.encode() in inside for address in sources.counts)
    assert "onnx" in artifact.exports


@pytest.mark.slow
def test_every_file_is_counted_in_the_ledger(learned: Path):
    reads = read_ledger(learned.parent / "test_reads.jsonl")
    assert [Path(read.data).name for read in reads] == ["train.csv", "more.csv"]
    assert reads[1].sha256 == open_flows(learned.parent / "more.csv").fingerprint()


@pytest.mark.slow
def test_labels_change_no_weight(learned: Path, tmp_path: Path, traffic: Path, tiny: list[str]):
    lines = (traffic / "train.csv").read_text(encoding="utf-8").splitlines()
    names = ["benign", "made-up"]
    other = [lines[0], *(f"{line.rpartition(',')[0]},{names[n % 2]}" for n, line in enumerate(lines[1:]))]
    (tmp_path / "train.csv").write_text("\n".join(other) + "\n", encoding="utf-8")
    rows = [str(tmp_path / "train.csv"), str(unlabelled(tmp_path / "more.csv", traffic))]
    assert main(["learn", *rows, "--out", str(tmp_path / "run"), *settings(tiny)]) == 0
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (tmp_path / "run", learned))
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.slow
def test_a_detector_keeps_tokenizer_and_schema_and_starts_from_the_weights(
    learned: Path, tmp_path: Path, traffic: Path
):
    start, out = learned / "model", tmp_path / "run"
    settings = ["training.epochs=1", "training.learning_rate=1e-12", "evaluation.num_resamples=100"]
    words = [word for setting in (*settings, "evaluation.baseline=false") for word in ("--set", setting)]
    assert main(["train", str(traffic / "train.csv"), "--from", str(start), "--out", str(out), *words]) == 0
    before, after = load_artifact(start), load_artifact(out / "model")
    assert after.tokenizer.to_dict() == before.tokenizer.to_dict()
    words_name = "distilbert.embeddings.word_embeddings.weight"
    np.testing.assert_allclose(after.weights[words_name], before.weights[words_name], atol=1e-6)
    assert len(after.weights["classifier.bias"]) == len(after.classes.classes) > 2
    assert (
        main(["predict", str(out / "model"), str(traffic / "test.csv"), "--out", str(tmp_path / "v.csv")])
        == 0
    )


@pytest.mark.slow
def test_a_finished_run_is_shown_and_not_gone_on_with(learned: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", str(learned)]) == 0
    shown = capsys.readouterr().out
    assert "normal here:" in shown
    assert "rank correlation" in shown
    assert main(["learn", "--resume", str(learned)]) == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--resume", "{run}"], "a run of `wirebert learn`"),
        (["train", "{data}", "--from", "{run}", "--set", "encoding.num_bins=7"], "brings its tokenizer"),
        (["train", "{data}", "--from", "{run}", "--drop", "port"], "difference at 'dst_port'"),
        (["train", "{data}", "--from", "{run}", "--set", "model.dim=64"], "model.dim is 32"),
        (["learn", "{data}", "--set", "model.init_from={run}/model"], "model.init_from must not be"),
    ],
)
def test_what_does_not_go_with_a_learned_model_is_told_in_one_sentence(
    learned: Path,
    traffic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    said: str,
):
    words = [word.format(run=learned, data=traffic / "train.csv") for word in arguments]
    out = [] if "--resume" in arguments else ["--out", str(tmp_path / "new")]
    assert main([*words, *out]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_run_stopped_in_either_training_goes_on_to_the_same_weights(
    learned: Path, tmp_path: Path, traffic: Path, tiny: list[str], monkeypatch: pytest.MonkeyPatch
):
    rows = [str(traffic / "train.csv"), str(unlabelled(tmp_path / "more.csv", traffic))]
    out = tmp_path / "run"
    for stage in ("pretrain", "train_scorer"):

        def stopped(*_args: object, **_named: object) -> None:
            raise KeyboardInterrupt

        resume = ["--resume", str(out)] if out.exists() else [*rows, "--out", str(out), *settings(tiny)]
        with monkeypatch.context() as patch:
            patch.setattr(f"wirebert.workflows.learn.{stage}", stopped)
            with pytest.raises(KeyboardInterrupt):
                train(["learn", *resume])
    assert main(["learn", "--resume", str(out)]) == 0
    ours, theirs = (load_file(run / "model" / "model.safetensors") for run in (out, learned))
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def train(arguments: Sequence[str]) -> None:
    """The command without the exit code that an interruption becomes."""
    from wirebert.cli.commands import run_command
    from wirebert.cli.main import build_parser

    run_command(build_parser().parse_args(arguments))


@pytest.mark.slow
def test_an_unlabelled_log_gets_a_detector_that_ranks_as_leave_one_out_does(tmp_path: Path, tiny: list[str]):
    log, out = tmp_path / "conn.log", tmp_path / "run"
    write_conn_log(log, generate(2000, 3, stealthy=True), 3)
    wider = ["--set", "training.epochs=4", "--set", "training.learning_rate=0.003"]
    assert main(["learn", str(log), "--out", str(out), *settings(tiny), *wider]) == 0
    report: dict[str, Any] = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert report["normal"]["flows_by_hour"]
    assert report["correlation"] > 0.5
    assert (
        main(["calibrate", str(out), str(log), "--alerts-per-10000", "20", "--out", str(tmp_path / "c")]) == 0
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no traffic: pass files, folders or patterns to `wirebert learn`"),
        (["-"], "cannot be `-`"),
        (["nothing-here.csv"], "nothing-here.csv"),
        (
            ["{data}", "--set", "masking.mask_fraction=1.5"],
            "masking.mask_fraction must be in (0, 1), got 1.5",
        ),
        (["{data}", "--set", "training.class_weights=sqrt"], "must be none without labels"),
        (["{data}", "--set", "data.split=leave_attack_out", "--set", "data.left_out_class=x"], "left out"),
        (["{data}", "--set", "decision.prior={{normal=0.9}}"], "decision.prior must be left out"),
        (["{data}", "{other}"], "expected the features of"),
    ],
)
def test_bad_input_is_told_in_one_sentence(
    arguments: list[str], said: str, traffic: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = tmp_path / "other.csv"
    lines = (traffic / "train.csv").read_text(encoding="utf-8").splitlines()
    other.write_text("\n".join(line.partition(",")[2].partition(",")[2].partition(",")[2] for line in lines))
    words = [word.format(data=traffic / "train.csv", other=other) for word in arguments]
    assert main(["learn", *words, "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("num_flows", "epochs"), [(1_000, MAX_EPOCHS), (50_000, 3), (10_000_000, 2)])
def test_small_traffic_is_seen_more_often(num_flows: int, epochs: int):
    assert stage_settings(TrainConfig(), num_flows, 128, 1.0).epochs == epochs
    assert stage_settings(TrainConfig(epochs=7), num_flows, 128, 1.0).epochs == 7


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
