import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from wirebert.inference.detector import Detector
from wirebert.service.api_keys import ApiKeys
from wirebert.service.handlers import RequestHandler
from wirebert.service.limits import Limits
from wirebert.service.openapi import about_model, document

if TYPE_CHECKING:
    from collections.abc import Callable

    from wirebert.inference.artifact import Artifact


def test_the_document_lists_every_path_but_those_of_the_page(artifact: "Artifact"):
    from wirebert.service.app import create_app
    from wirebert.service.web_page import resources

    app = create_app(RequestHandler(Detector(artifact), Limits()), Limits(), ApiKeys())
    listed = document(Detector(artifact), Limits(), needs_key=False)["paths"]
    assert set(listed) == app.paths - set(resources()) - {"/openapi.json"}  # pyright: ignore[reportArgumentType]


def test_the_body_is_documented_by_the_types_that_read_it(artifact: "Artifact"):
    limits = Limits(max_rows=7)
    components: Any = document(Detector(artifact), limits, needs_key=False)["components"]
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
    assert "securitySchemes" not in str(document(Detector(artifact), Limits(), needs_key=False))
    with_key = document(Detector(artifact), Limits(), needs_key=True)
    assert str(with_key).count("'security': [{'key': []}]") == 3  # verdicts, the model, the counts


def test_the_model_is_described_without_a_path(artifact: "Artifact"):
    told = about_model(Detector(artifact))
    assert told["classes"] == ["normal", "dos", "probe"]
    assert not re.search(r"/(tmp|home|root|work)/", str(told))


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
