"""The API page says what the document says."""

import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

from wirebert.inference.detector import Detector
from wirebert.service.api_page import api_page
from wirebert.service.examples import Examples
from wirebert.service.limits import Limits
from wirebert.service.openapi import document, public_part

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact


class Words(HTMLParser):
    """The text of a page, and its tags."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.text, self.tags = "", set[str]()
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") or name == "style" for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def described(artifact: "Artifact") -> Any:
    examples = Examples.of(artifact.tokenizer, Limits())
    return document(Detector(artifact), Limits(), examples, needs_key=True, answer={"flows": []})


def test_the_page_shows_every_path_status_and_example_and_needs_no_script(artifact: "Artifact"):
    told = described(artifact)
    words = Words(api_page(told))
    for path, methods in told["paths"].items():
        for method, operation in methods.items():
            assert f"{method.upper()} {path}" in words.text
            for status, response in operation["responses"].items():
                assert f"{status}: {response['description']}" in words.text
    for name in told["components"]["schemas"]["Verdicts"]["properties"]["flows"]["items"]["properties"]:
        assert name in words.text
    assert "192.0.2.10" in words.text
    assert not words.tags & {"script", "style", "img"}


def test_every_refusal_has_an_example(artifact: "Artifact"):
    told = described(artifact)
    for methods in told["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status.startswith("4"):
                    assert set(response["content"]["application/json"]["example"]) == {"error", "example"}


def test_names_of_columns_are_text_and_no_markup(artifact: "Artifact"):
    told = described(artifact)
    told["paths"]["/v1/score"]["post"]["summary"] = "<script>alert(1)</script>"
    assert b"<script" not in api_page(told)


def test_a_stranger_sees_only_what_the_public_document_holds(artifact: "Artifact"):
    page = api_page(public_part(described(artifact)))
    assert not re.search(rb"normal|probe|dst_port|POST /v1/score", page)
