import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file

from wirebert.cli.main import main
from wirebert.config import RunConfig, resolve_run
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import open_flows
from wirebert.data.labels import UNLABELLED
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.errors import ConfigError, DataError, SchemaError
from wirebert.inference.detector import Detector
from wirebert.run_folder import RunFolder
from wirebert.workflows.teacher import (
    Teacher,
    distillation_inputs,
    find_teacher,
    teacher_log_probs,
    unlabelled_parts,
)

SMALL = ["--set", "model.dim=16", "--set", "model.hidden_dim=16", "--set", "model.num_heads=2"]


@pytest.fixture(scope="module")
def teacher(trained: Path) -> Teacher:
    return Teacher.load(trained / "model")


def student_of(teacher: Teacher, traffic: Path, **sections: dict[str, object]) -> RunConfig:
    own: dict[str, object] = {
        "train": str(traffic / "train.csv"),
        "distillation": {"teacher": str(teacher.folder)} | sections.pop("distillation", {}),
    }
    return resolve_run(given=own | sections, inherited=teacher.settings())


def test_a_student_does_as_its_teacher_but_for_rate_and_length(teacher: Teacher, traffic: Path):
    run = student_of(teacher, traffic)
    assert run.encoding.subword_vocab_size == 300  # as `tiny` says
    assert run.evaluation.num_resamples == 100
    assert (run.training.epochs, run.training.learning_rate) == (None, None)


def test_a_student_is_asked_about_mixed_rows_too_unless_told_otherwise(teacher: Teacher, traffic: Path):
    how = student_of(teacher, traffic).distillation
    assert (how.augmentation_factor, how.temperature, how.teacher_weight) == (2.0, 1.0, 0.9)
    how = student_of(teacher, traffic, distillation={"augmentation_factor": 0.0}).distillation
    assert (how.augmentation_factor, how.teacher_weight) == (0.0, 0.9)


def test_a_student_has_the_split_of_its_teacher_whatever_its_own_seed_is(teacher: Teacher, traffic: Path):
    run = replace(student_of(teacher, traffic), seed=7)
    assert run.data.split_seed == 1
    fingerprint = open_flows(run.train, run.data).fingerprint()
    assert teacher.is_fresh(run, fingerprint)
    assert not teacher.is_fresh(run, "another file")
    assert not teacher.is_fresh(replace(run, data=replace(run.data, split_seed=2)), fingerprint)


def test_a_run_without_a_teacher_has_none():
    assert find_teacher(RunConfig()) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoding": {"num_bins": 7}}, "encoding.num_bins must be 64 as in the training of the teacher"),
        ({"data": {"positive": "xss"}}, "data.positive must be None as in the training of the teacher"),
    ],
)
def test_settings_that_contradict_the_teacher_are_refused(
    teacher: Teacher, traffic: Path, settings: dict[str, Any], message: str
):
    with pytest.raises(ConfigError, match=message):
        find_teacher(student_of(teacher, traffic, **settings))


def test_traffic_of_another_kind_is_refused(teacher: Teacher, tmp_path: Path):
    other = tmp_path / "other.csv"
    name = teacher.schema.features[0].name
    other.write_text(f"{name},speed,label\n1,2,benign\n3,4,xss\n", encoding="utf-8")
    with pytest.raises(SchemaError, match=r"other.csv: expected at least half of the features .* absent"):
        teacher.require_columns(open_flows(other, schema=teacher.schema))


def test_a_class_that_the_teacher_does_not_know_is_refused_with_its_rows(teacher: Teacher, traffic: Path):
    seen = profile_table(open_flows(traffic / "test.csv", schema=teacher.schema))
    with pytest.raises(DataError, match=r"found 'novel' \(20 rows\); leave these rows out"):
        teacher.classes_for(seen, None)
    assert teacher.classes_for(seen, "novel") == teacher.artifact.classes


def test_other_weights_are_another_teacher(teacher: Teacher):
    weights = dict(teacher.artifact.weights)
    weights["classifier.bias"] = weights["classifier.bias"] + 1
    other = Teacher(teacher.folder, replace(teacher.artifact, weights=weights))
    assert other.fingerprint != teacher.fingerprint
    assert Teacher.load(teacher.folder).fingerprint == teacher.fingerprint


def test_rows_without_a_label_and_other_traffic_are_the_teachers_alone(teacher: Teacher, traffic: Path):
    other = str(traffic / "test.csv")
    run = student_of(teacher, traffic, distillation={"unlabelled": [other]})
    flows = open_flows(run.train, run.data, schema=teacher.schema)
    is_unlabelled = np.zeros(1500, bool)
    is_unlabelled[3] = True
    own, more = unlabelled_parts(run, teacher, flows, is_unlabelled)
    assert [rows.tolist() for _, rows in own.blocks()] == [[3]]
    assert sum(len(rows) for _, rows in more.blocks()) == 300
    assert list(distillation_inputs(run, teacher)) == ["teacher", f"unlabelled data {other}"]


def test_the_teacher_says_of_each_training_flow_what_it_says_when_it_predicts(
    teacher: Teacher, traffic: Path, tmp_path: Path
):
    run = student_of(teacher, traffic)
    flows = open_flows(traffic / "test.csv", schema=teacher.schema)
    with StoreWriter(tmp_path / "store", teacher.tokenizer.dtype) as store:
        for table in flows.blocks():
            rows = np.arange(table.num_rows)
            store.append(teacher.tokenizer.encode(table), np.full(len(rows), UNLABELLED), rows)
    stored, detector = EncodedFlows.open(tmp_path / "store"), Detector.load(teacher.folder)
    size = (len(stored), len(detector.classes))
    soft = teacher_log_probs(
        run.distillation, stored, size, "0" * 64, lambda block: detector.score_encoded(block).probabilities
    )
    expected = np.concatenate([detector.score(table).probabilities for table in flows.blocks()])
    assert np.exp(soft.log_probabilities) == pytest.approx(expected, abs=1e-6)
    assert soft.path is not None
    assert soft.path.parent == tmp_path


def distil(teacher: Path, traffic: Path, out: Path, *more: str) -> list[str]:
    data = [str(traffic / "train.csv"), "--test", str(traffic / "test.csv")]
    return ["distill", str(teacher), *data, "--out", str(out), "--set", "training.epochs=1", *SMALL, *more]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--size", "minimal"], "minimal: expected a DistilBERT config.json, or one of the sizes base, mini"),
        (["--unlabelled", "-"], "cannot be `-`"),
        (["--unlabelled", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_what_can_not_be_distilled_is_told_in_one_sentence(
    trained: Path,
    traffic: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
    message: str,
):
    assert main(distil(trained / "model", traffic, tmp_path / "student", *more)) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize("place", ["", "model", "model/student"])
def test_the_teachers_folder_is_not_written_to(
    trained: Path, traffic: Path, capsys: pytest.CaptureFixture[str], place: str
):
    assert main(distil(trained / "model", traffic, trained / place)) == 2
    assert "this is the folder of the teacher" in capsys.readouterr().err


@pytest.fixture(scope="module")
def student(trained: Path, traffic: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished student, taught on some unlabelled traffic too."""
    out = tmp_path_factory.mktemp("students") / "one"
    assert main(distil(trained / "model", traffic, out, "--unlabelled", str(traffic / "test.csv"))) == 0
    return out


@pytest.mark.slow
def test_a_student_is_a_whole_run_with_the_teachers_tokens_and_classes(student: Path, teacher: Teacher):
    own = Teacher.load(student / "model")
    assert own.tokenizer.to_dict() == teacher.tokenizer.to_dict()
    assert own.artifact.classes == teacher.artifact.classes
    assert own.artifact.architecture.dim == 16
    assert own.artifact.origin["teacher_sha256"] == teacher.fingerprint
    assert "Distilled from `model`" in (student / "model" / "README.md").read_text(encoding="utf-8")
    assert "Student and teacher" in (student / "report.html").read_text(encoding="utf-8")
    assert not (student / "encoded").exists()


@pytest.mark.slow
def test_the_report_compares_both_on_the_same_rows(student: Path, trained: Path):
    report = json.loads((student / "report.json").read_text(encoding="utf-8"))
    theirs = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    gap = report["teacher"]
    assert gap["is_fresh"]
    assert 250 < gap["num_unlabelled"] <= 300
    for name in ("valid", "test"):
        macro = gap["splits"][name]["metrics"]["macro_f1"]
        assert macro["student"] == pytest.approx(report["splits"][name]["headline"]["macro_f1"])
        assert macro["teacher"] == pytest.approx(theirs["splits"][name]["headline"]["macro_f1"])
        ours, other = (
            parquet.read_table(run / "predictions" / f"{name}.parquet") for run in (student, trained)
        )
        assert ours.column("row").equals(other.column("row"))
        same = np.array(ours.column("predicted_class")) == np.array(other.column("predicted_class"))
        assert gap["splits"][name]["agreement"] == pytest.approx(same.mean())


@pytest.mark.soak
def test_a_killed_student_goes_on_to_the_same_bits(
    student: Path, trained: Path, traffic: Path, tmp_path: Path
):
    arguments = distil(
        trained / "model", traffic, tmp_path / "cut", "--unlabelled", str(traffic / "test.csv")
    )
    often = ["--set", "training.checkpoint_every=2"]
    command = [sys.executable, "-m", "wirebert"]
    with subprocess.Popen([*command, *arguments, *often]) as process:
        while process.poll() is None and not list((tmp_path / "cut").glob("checkpoints/*")):
            time.sleep(0.01)
        process.kill()
    run = RunFolder(tmp_path / "cut")
    assert not run.is_finished
    assert main(["distill", "--resume", str(tmp_path / "cut")]) == 0
    ours, whole = (load_file(path / "model" / "model.safetensors") for path in (tmp_path / "cut", student))
    assert all(np.array_equal(ours[name], whole[name]) for name in whole)
