import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from wirebert.baselines.fitted import TEACHER_SETTINGS, TokenBaseline
from wirebert.cli.main import main
from wirebert.config import RunConfig, resolve_run
from wirebert.data.labels import UNLABELLED
from wirebert.encoding.store import EncodedFlows, row_hashes
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.run_folder import RunFolder
from wirebert.workflows.distill import build_distillation_data
from wirebert.workflows.prepare import PreparedData, encode, fit_tokenizer, prepare, write_typed_rows
from wirebert.workflows.teacher import Teacher

Encoded = tuple[PreparedData, FlowTokenizer, EncodedFlows, EncodedFlows]
NO_TEXT = {"drop": ["uri", "user_agent"]}


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(TEACHER_SETTINGS["gbdt"], "rounds", 5)


@pytest.fixture
def told(traffic: Path) -> Callable[..., RunConfig]:
    def made(seed: int = 1, data: dict[str, Any] = NO_TEXT, **how: object) -> RunConfig:
        given = {"train": str(traffic / "train.csv"), "seed": seed, "data": data, "distillation": how}
        return resolve_run(given=given)

    return made


def encoded(run: RunConfig, folder: Path) -> Encoded:
    data = prepare(run, write_typed_rows(run, RunFolder(folder)))
    tokenizer = fit_tokenizer(run, data, folder)
    return (
        data,
        tokenizer,
        encode(data.train, data, tokenizer, folder),
        encode(data.valid, data, tokenizer, folder),
    )


def test_without_a_teacher_the_training_flows_are_all(told: Callable[..., RunConfig], tmp_path: Path):
    run = told()
    ready = encoded(run, tmp_path)
    lesson = build_distillation_data(run, *ready, tmp_path)
    assert lesson.flows is ready[2]
    assert lesson.soft_targets is None


def test_what_the_trees_say_of_each_flow_is_what_is_learned(told: Callable[..., RunConfig], tmp_path: Path):
    run = told(teacher="gbdt", augmentation_factor=1.5)
    data, tokenizer, train, valid = encoded(run, tmp_path)
    lesson = build_distillation_data(run, data, tokenizer, train, valid, tmp_path)
    flows, soft = lesson.flows, lesson.soft_targets
    assert soft is not None
    block = tokenizer.encode(next(data.train.tables()))
    trees = TokenBaseline.fit(
        "gbdt",
        TEACHER_SETTINGS["gbdt"] | {"class_weight": "balanced"},
        tokenizer,
        block,
        np.asarray(train.class_ids),
        valid,
        num_classes=len(data.classes.classes),
        seed=run.seed,
    )
    expected = trees.predict_encoded(block)
    assert np.exp(soft.log_probabilities[: len(train)]) == pytest.approx(expected, abs=1e-6)
    assert len(soft.log_probabilities) == len(flows)


def test_what_the_machine_says_of_texts_is_what_is_learned(told: Callable[..., RunConfig], tmp_path: Path):
    run = told(data={}, teacher="text_svm", augmentation_factor=1.5)
    data, tokenizer, train, valid = encoded(run, tmp_path)
    lesson = build_distillation_data(run, data, tokenizer, train, valid, tmp_path)
    assert lesson.soft_targets is not None
    assert lesson.fitted_teacher is not None
    machine = TokenBaseline.fit(
        *(
            "text_svm",
            TEACHER_SETTINGS["text_svm"],
            tokenizer,
            train.block,
            np.asarray(train.class_ids),
            valid,
        ),
        num_classes=len(data.classes.classes),
        seed=run.seed,
    )
    expected = machine.predict_encoded(lesson.flows.block)
    assert np.exp(lesson.soft_targets.log_probabilities) == pytest.approx(expected, abs=1e-6)
    assert lesson.fitted_teacher().summary == machine.summary


def test_mixed_flows_follow_the_training_flows_without_a_class(
    told: Callable[..., RunConfig], tmp_path: Path
):
    run = told(teacher="gbdt", augmentation_factor=1.5)
    data, tokenizer, train, valid = encoded(run, tmp_path)
    flows = build_distillation_data(run, data, tokenizer, train, valid, tmp_path).flows
    assert np.array_equal(flows.ids[: len(train.ids)], train.ids)
    assert np.array_equal(flows.class_ids[: len(train)], train.class_ids)
    assert np.array_equal(flows.rows[: len(train)], train.rows)
    assert (np.asarray(flows.class_ids[len(train) :]) == UNLABELLED).all()
    assert 0.9 * 1.5 * len(train) < len(flows) - len(train) <= round(1.5 * len(train))


def test_no_mixed_flow_looks_like_one_that_the_model_is_judged_by(
    told: Callable[..., RunConfig], tmp_path: Path
):
    # Two columns, so that a mixed flow often is like one of validation.
    drop = ["uri", "user_agent", "src_ip", "dst_ip", "duration_s", "src_payload_bytes", "dst_payload_bytes"]
    run = told(
        data={"drop": [*drop, "src_packets", "dst_packets", "dst_port"]},
        teacher="gbdt",
        augmentation_factor=3,
    )
    data, tokenizer, train, valid = encoded(run, tmp_path)
    flows = build_distillation_data(run, data, tokenizer, train, valid, tmp_path).flows
    mixed = row_hashes(flows)[len(train) :]
    assert 0 < len(mixed) < 3 * len(train)
    assert not np.isin(mixed, row_hashes(valid)).any()


def test_another_seed_mixes_other_flows(told: Callable[..., RunConfig], tmp_path: Path):
    ready = encoded(told(), tmp_path)
    one, same, other = (
        build_distillation_data(
            told(seed=seed, teacher="gbdt", augmentation_factor=1), *ready, tmp_path
        ).flows
        for seed in (1, 1, 2)
    )
    assert np.array_equal(one.ids, same.ids)
    assert not np.array_equal(one.ids, other.ids)


def test_answers_are_found_again_and_whatever_decides_them_asks_anew(
    told: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = told(teacher="gbdt")
    ready = encoded(run, tmp_path)
    first = build_distillation_data(run, *ready, tmp_path).soft_targets

    def fail(*_: object, **__: object) -> TokenBaseline:
        raise AssertionError("fitted again")

    monkeypatch.setattr(TokenBaseline, "fit", fail)
    again = build_distillation_data(run, *ready, tmp_path).soft_targets
    assert first is not None
    assert again is not None
    assert np.array_equal(first.log_probabilities, again.log_probabilities)
    for other in ({"seed": 2}, {"gbdt_class_weights": "sqrt"}):
        with pytest.raises(AssertionError, match="fitted again"):
            build_distillation_data(told(teacher="gbdt", **other), *ready, tmp_path)
    monkeypatch.setitem(TEACHER_SETTINGS["gbdt"], "rounds", 6)
    with pytest.raises(AssertionError, match="fitted again"):
        build_distillation_data(run, *ready, tmp_path)


def test_the_answers_of_trees_are_not_taken_for_those_of_a_machine_that_reads_texts(
    told: Callable[..., RunConfig], tmp_path: Path
):
    # Trees are refused where there is text, so only the folder of answers can tell.
    ready = encoded(told(data={}), tmp_path)
    trees, texts = (
        build_distillation_data(told(data={}, **how), *ready, tmp_path).soft_targets
        for how in ({"teacher": "gbdt"}, {"teacher": "text_svm"})
    )
    assert trees is not None
    assert texts is not None
    assert not np.allclose(trees.log_probabilities, texts.log_probabilities)


def test_a_student_learns_what_its_teacher_says_before_its_addends(
    traffic: Path, trained: Path, tmp_path: Path
):
    teacher = Teacher.load(trained / "model")
    name = teacher.artifact.classes.classes[0]
    settings = {
        **cast(dict[str, object], teacher.artifact.origin["settings"]),
        "decision": {"logit_offsets": {name: 3}},
    }
    weights = dict(teacher.artifact.weights)
    weights["classifier.bias"] = (
        weights["classifier.bias"] + 3 * np.eye(len(weights["classifier.bias"]), dtype=np.float32)[0]
    )
    artifact = replace(
        teacher.artifact, weights=weights, origin={**teacher.artifact.origin, "settings": settings}
    )
    given = {"train": str(traffic / "train.csv"), "distillation": {"teacher": str(teacher.folder)}}
    run = resolve_run(given=given, inherited=teacher.settings())
    data, tokenizer, train, valid = encoded(run, tmp_path)
    plain = build_distillation_data(run, data, tokenizer, train, valid, tmp_path).soft_targets
    moved = build_distillation_data(
        run, replace(data, teacher=Teacher(teacher.folder, artifact)), tokenizer, train, valid, tmp_path
    ).soft_targets
    assert plain is not None
    assert moved is not None
    assert moved.path != plain.path
    np.testing.assert_allclose(np.exp(moved.log_probabilities), np.exp(plain.log_probabilities), atol=1e-5)


@pytest.mark.soak
@pytest.mark.parametrize(
    ("teacher", "said", "drop"),
    [
        ("gbdt", "distillation: labels and boosted trees, fitted on the same flows; ", ["uri", "user_agent"]),
        (
            "text_svm",
            "distillation: labels and a linear SVM on character n-grams, fitted on the same flows; ",
            [],
        ),
    ],
)
def test_a_training_with_a_fitted_teacher_ends_in_a_report(
    teacher: str,
    said: str,
    drop: list[str],
    traffic: Path,
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    without = [word for name in drop for word in ("--drop", name)]
    how = ["--set", f"distillation.teacher={teacher}", "--set", "distillation.augmentation_factor=1"]
    out = tmp_path / "run"
    assert main(["train", str(traffic / "train.csv"), "--out", str(out), *without, *tiny, *how]) == 0
    told = capsys.readouterr().out
    assert said in told
    assert "more flows by column mixing" in told
    assert (out / "report.json").exists()
    assert not (out / "encoded").exists()
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert list(report["baselines"]) == ["gbdt", "teacher"]
    assert report["baselines"]["teacher"]["splits"].keys() == report["splits"].keys()
