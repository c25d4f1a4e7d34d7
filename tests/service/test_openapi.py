import datetime
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wirebert.decision.operating_point import NO_OPERATING_POINT
from wirebert.inference.artifact import save_artifact
from wirebert.inference.detector import Detector
from wirebert.metrics.thresholds import Threshold
from wirebert.service.api_keys import ApiKeys
from wirebert.service.examples import Examples
from wirebert.service.handlers import RequestHandler
from wirebert.service.limits import Limits
from wirebert.service.openapi import about_model, document

if TYPE_CHECKING:
    from collections.abc import Callable

    from wirebert.inference.artifact import Artifact


def examples_of(artifact: "Artifact", limits: Limits = Limits()) -> Examples:  # noqa: B008
    return Examples.of(artifact.tokenizer, limits)


def described(artifact: "Artifact", limits: Limits = Limits(), *, needs_key: bool = False) -> Any:  # noqa: B008
    return document(Detector(artifact), limits, examples_of(artifact, limits), needs_key=needs_key)


def test_the_document_lists_every_path_but_those_of_the_page(artifact: "Artifact"):
    from wirebert.service.app import create_app
    from wirebert.service.web_page import resources

    app = create_app(RequestHandler(Detector(artifact), Limits()), Limits(), ApiKeys())
    listed = described(artifact)["paths"]
    assert set(listed) == app.paths - set(resources()) - {"/openapi.json", "/docs"}


def test_the_body_is_documented_by_the_types_that_read_it(artifact: "Artifact"):
    limits = Limits(max_rows=7)
    components: Any = described(artifact, limits)["components"]
    body = components["schemas"]["Flows"]
    assert body["additionalProperties"] is False
    assert body["required"] == ["flows"]
    flows = body["properties"]["flows"]
    assert flows["maxItems"] == 7
    row = flows["items"]
    assert row["maxProperties"] == limits.max_columns
    (text,) = [one for one in row["additionalProperties"]["anyOf"] if one["type"] == "string"]
    assert text["maxLength"] == limits.max_field_characters


def test_a_key_is_spoken_of_where_one_is_needed(artifact: "Artifact"):
    assert "securitySchemes" not in str(described(artifact))
    with_key = described(artifact, needs_key=True)
    assert (
        str(with_key).count("'security': [{'key': []}]") == 5
    )  # verdicts, the model, the counts, incidents, marks


def test_the_model_is_described_without_a_path(artifact: "Artifact"):
    told = about_model(Detector(artifact), examples_of(artifact))
    assert told["classes"] == ["normal", "dos", "probe"]
    assert not re.search(r"/(tmp|home|root|work)/", str(told))


def test_a_model_is_told_with_its_name_its_date_its_threshold_and_what_is_against_it(
    artifact: "Artifact", tmp_path: Path
):
    threshold = Threshold(
        target_fpr=0.001,
        threshold=0.75,
        num_benign=50,
        num_false_positives=0,
        fpr_interval=(0.0, 0.1),
        num_distinct=50,
        is_trusted=False,
    )
    operating = replace(NO_OPERATING_POINT, thresholds=(threshold,))
    save_artifact(replace(artifact, operating_point=operating), tmp_path / "monday" / "model", card="")
    detector = Detector.load(tmp_path / "monday" / "model")
    told = about_model(detector, examples_of(artifact))
    written = (tmp_path / "monday" / "model" / "wirebert.json").stat().st_mtime
    assert (told["name"], told["threshold"]) == ("monday", 0.75)
    assert told["saved"] == datetime.date.fromtimestamp(written).isoformat()
    assert [one["code"] for one in told["findings"]] == ["untrusted_threshold"]  # pyright: ignore


@pytest.mark.soak
def test_the_document_is_true(
    start_service: "Callable[..., tuple[subprocess.Popen[bytes], int]]", tmp_path: Path
):
    """Schemathesis makes requests that follow the document and some that do not, and holds the answers
    against it.
    """
    _, port = start_service("--max-rows", "50")
    command = [
        *(
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"http://127.0.0.1:{port}/openapi.json",
        ),
        *("--max-examples", "25", "--seed", "1", "--phases", "examples,coverage,fuzzing"),
        *("--include-method", "POST", "--include-method", "GET"),
        # A body of text is described as any text, and most text is no table: positive data may be refused.
        *("--exclude-checks", "positive_data_acceptance"),
        *("--generation-database", "none", "--no-color"),
    ]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path)},
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
