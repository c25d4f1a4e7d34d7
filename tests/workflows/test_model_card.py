import ast
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard, ModelCardData

from wirebert.inference.artifact import load_artifact
from wirebert.report.report import Report, read_json
from wirebert.workflows.model_card import base_model, distillation_facts, model_card

pytestmark = pytest.mark.slow


@pytest.fixture
def report(trained: Path) -> Report:
    return read_json(trained / "report.json")


@pytest.fixture
def card(trained: Path) -> ModelCard:
    """As `wirebert train` left it, read by the hub's own parser."""
    return ModelCard.load(trained / "model" / "README.md")


def metadata(card: ModelCard) -> ModelCardData:
    assert isinstance(card.data, ModelCardData)
    return card.data


def test_the_hub_reads_its_metadata(card: ModelCard) -> None:
    data = metadata(card)
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-classification"
    assert {"intrusion-detection", "wirebert"} <= set(data.tags or [])
    assert data.datasets == ["synthetic"]
    assert data.metrics == ["accuracy", "f1"]
    assert data.base_model is None  # trained from scratch


def test_its_results_are_those_of_the_report(card: ModelCard, report: Report) -> None:
    found = {
        (result.dataset_split, result.metric_name): result.metric_value
        for result in metadata(card).eval_results or []
    }
    for name, split in report.splits.items():
        assert found[name, "accuracy"] == pytest.approx(split.accuracy, abs=1e-6)
        assert found[name, "macro F1"] == pytest.approx(split.macro_f1, abs=1e-6)
    assert {split for split, _ in found} == {"valid", "test"}


def test_it_says_what_a_reader_has_to_know(card: ModelCard, report: Report) -> None:
    for heading in ("Use", "Intended use", "Limits", "Training data", "Evaluation", "How it was made"):
        assert f"## {heading}" in card.text
    low, high = report.splits["test"].intervals.rows["macro_f1"]  # pyright: ignore[reportOptionalMemberAccess]
    assert f"[{low:.3f}, {high:.3f}]" in card.text
    assert "novel" in card.text.split("## Limits")[1].split("## ")[0]  # a class that training lacks
    assert "with 1 set of settings" in card.text
    assert "boosted trees" in card.text


@pytest.mark.soak
def test_its_code_runs(card: ModelCard, trained: Path) -> None:
    code = card.text.split("```python\n")[1].split("```")[0].replace("MODEL", str(trained / "model"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "benign" in done.stdout


def test_a_model_without_a_report_has_a_card_without_figures(trained: Path) -> None:
    card = ModelCard(model_card(load_artifact(trained / "model")))
    assert metadata(card).eval_results is None
    assert "## Evaluation" not in card.text


@pytest.mark.parametrize(
    ("start", "expected"),
    [("scratch", None), ("distilbert-base-uncased", "distilbert-base-uncased"), ("/tmp", "tmp")],
)
def test_the_base_model_is_where_training_began(start: str, expected: Any) -> None:
    assert base_model({"settings": {"model": {"init_from": start}}}) == expected


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({}, ""),
        ({"teacher": "", "augmentation_factor": 0.0}, ""),
        (
            {"teacher": "gbdt", "augmentation_factor": 0.0},
            " It is distilled from boosted trees, fitted on the same flows.",
        ),
        (
            {"teacher": "text_svm", "augmentation_factor": 4.0},
            " It is distilled from a linear SVM on character n-grams, fitted on the same flows, with 4 "
            "synthetic flows of mixed text per training flow.",
        ),
        (
            {"teacher": "gbdt", "augmentation_factor": 2.0},
            " It is distilled from boosted trees, fitted on the same flows, with 2 synthetic flows of mixed "
            "columns per training flow.",
        ),
    ],
)
def test_it_says_what_a_fitted_teacher_taught(how: dict[str, object], expected: str) -> None:
    assert distillation_facts({"settings": {"distillation": how}}) == expected


def test_no_name_ends_its_code_block_or_its_python_text(trained: Path, report: Report) -> None:
    artifact = load_artifact(trained / "model")
    name = 'a"b\\\n```\n<b>`x'
    first, *others = artifact.schema.columns
    features = (replace(first, name=name, is_feature=True), *others)
    hostile = replace(artifact, schema=replace(artifact.schema, name=name, columns=features))
    files = ("in\n```\n`<b>.csv",)
    text = model_card(
        hostile, replace(report, command="wirebert x '\n```\n<b>'", data=replace(report.data, files=files))
    )
    code = text.split("```python\n")[1].split("\n```")[0]
    texts = [node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)]
    assert any(str(one).startswith(f"{name}:0") for one in texts)
    assert "````bash\nwirebert x '\n```\n<b>'\n````\n" in text
    assert "``in ``` `<b>.csv" not in text  # as many backticks as stand in it would end it
    assert "````in ``` `<b>.csv````" in text
