"""Descriptions of the service: the model, and an OpenAPI document for this model and these limits.

The document is `openapi.json` beside this module. What depends on the model, the limits, the keys and the
types that read a body is filled in here.
"""

import json
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final, cast

import msgspec

import wirebert
from wirebert.data.findings import CODES, SEVERITIES
from wirebert.inference.detector import Detector
from wirebert.inference.verdicts import SCHEMA_VERSION
from wirebert.serialization import to_builtins
from wirebert.service.bodies import CSV, JSON, JSON_LINES, TEXT, body_types
from wirebert.service.examples import Examples, as_csv
from wirebert.service.incidents import MARKS
from wirebert.service.limits import Limits

Json = Mapping[str, object]
_REFUSALS: Final = "x-refusals"
"""In the file: of an operation the statuses of its refusals; of the document their descriptions."""
_OF_EACH_CLASS: Final = "p_CLASS"
"""In the file: the probability of each class."""


def about_model(detector: Detector, examples: Examples) -> dict[str, object]:
    """The answer of `GET /v1/model`: name, date, threshold, classes, columns and a made-up flow."""
    artifact = detector.artifact
    operating = artifact.operating_point
    return {
        "name": artifact.name,
        "saved": artifact.saved,
        "threshold": detector.threshold,
        "findings": to_builtins(operating.findings(detector.fpr)) if operating else [],
        "wirebert": wirebert.__version__,
        "trained_with": str(artifact.origin.get("wirebert", "")),
        "classes": list(detector.classes),
        "benign": artifact.classes.benign,
        "parameters": detector.num_parameters,
        "backend": detector.backend,
        "sample": examples.flow,
        "has_context": artifact.schema.context is not None,
        "columns": [
            {"name": column.name, "kind": str(column.kind), "is_feature": column.is_feature}
            for column in artifact.schema.columns
        ],
    }


def document(
    detector: Detector, limits: Limits, examples: Examples, *, needs_key: bool, answer: object = None
) -> dict[str, object]:
    """The OpenAPI document, version 3.1; `answer` is the answer to the flow of the examples."""
    text = resources.files("wirebert.service").joinpath("openapi.json").read_text(encoding="utf-8")
    plain = json.loads(text.replace("{max_explained}", str(limits.max_explained)))
    plain["info"]["version"] = wirebert.__version__
    refusals = {
        status: _refusal(int(status), told, examples) for status, told in plain.pop(_REFUSALS).items()
    }
    for methods in plain["paths"].values():
        for operation in methods.values():
            statuses = operation.pop(_REFUSALS)
            if not needs_key:
                operation.pop("security", None)
                statuses = [status for status in statuses if status != "401"]
            operation["responses"] |= {status: refusals[status] for status in statuses}
    if not needs_key:
        del plain["components"]["securitySchemes"]
    _describe_bodies(plain["paths"]["/v1/score"]["post"], limits, examples, answer)
    marks = plain["paths"]["/v1/marks"]["post"]["requestBody"]["content"][JSON]["schema"]
    marks["properties"]["mark"]["enum"] = list(MARKS)
    _describe_answers(plain["components"]["schemas"], detector, limits)
    return plain


def public_part(document: Json) -> Json:
    """What a stranger without a key may know of the document: how to ask for health and how to send a key."""
    paths, components = (cast(Json, document[name]) for name in ("paths", "components"))
    schemas = cast(Json, components["schemas"])
    return {
        **document,
        "paths": {path: paths[path] for path in ("/healthz", "/readyz")},
        "components": {**components, "schemas": {name: schemas[name] for name in ("Status", "Error")}},
    }


def _refusal(status: int, told: Mapping[str, str], examples: Examples) -> Json:
    content = {
        "schema": {"$ref": "#/components/schemas/Error"},
        "example": examples.refusal(status, told["error"]),
    }
    return {"description": told["description"], "content": {JSON: content}}


def _describe_bodies(operation: dict[str, Any], limits: Limits, examples: Examples, answer: object) -> None:
    bodies = operation["requestBody"]["content"]
    bodies[JSON]["example"] = {"flows": [examples.flow]}
    as_text, as_line = as_csv(examples.flow), msgspec.json.encode(examples.flow).decode() + "\n"
    for kind, example in {CSV: as_text, JSON_LINES: as_line, TEXT: as_text}.items():
        bodies[kind]["schema"]["maxLength"] = limits.max_body_bytes
        bodies[kind]["example"] = example
    if answer is not None:
        operation["responses"]["200"]["content"][JSON]["example"] = answer


def _describe_answers(schemas: dict[str, Any], detector: Detector, limits: Limits) -> None:
    body, _ = body_types(limits)
    _, flows = msgspec.json.schema_components([body], ref_template="#/components/schemas/{name}")
    schemas |= flows
    verdicts = schemas["Verdicts"]["properties"]
    finding = verdicts["findings"]["items"]
    finding["properties"]["code"]["enum"] = list(CODES)
    finding["properties"]["severity"]["enum"] = list(SEVERITIES)
    schemas["Model"]["properties"]["findings"]["items"] = finding
    verdict = verdicts["flows"]["items"]
    names = [f"p_{name}" for name in detector.classes]
    properties: dict[str, Any] = {}
    for name, described in verdict["properties"].items():
        properties |= dict.fromkeys(names if name == _OF_EACH_CLASS else [name], described)
    properties["predicted_class"]["enum"] = list(detector.classes)
    properties["schema_version"]["const"] = SCHEMA_VERSION
    verdict["properties"] = properties
    at = verdict["required"].index(_OF_EACH_CLASS)
    verdict["required"][at : at + 1] = names
