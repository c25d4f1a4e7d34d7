"""Descriptions of the service: the model, and an OpenAPI document for this model and these limits."""

from collections.abc import Mapping
from typing import Any, Final, cast

import msgspec

import wirebert
from wirebert.data.findings import CODES, SEVERITIES
from wirebert.inference.detector import Detector
from wirebert.inference.verdicts import SCHEMA_VERSION
from wirebert.serialization import to_builtins
from wirebert.service.bodies import ARROW, CSV, JSON, JSON_LINES, TEXT, body_types
from wirebert.service.examples import Examples, as_csv
from wirebert.service.headers import ANSWERED
from wirebert.service.incidents import MARKS
from wirebert.service.limits import Limits
from wirebert.service.prometheus import CONTENT_TYPE

Json = Mapping[str, object]
WITHOUT_HISTORY: Final = (
    "Flows whose context may lack earlier flows, which the request does not hold; 0 without context features."
)
_ERROR: Final[Json] = {"$ref": "#/components/schemas/Error"}
_SENTENCES: Final = {
    400: "the header Host must name this machine",
    401: "expected the header `Authorization: Bearer KEY` with a valid key",
    403: "expected the header Origin of this service",
    404: "there is no such incident",
    406: f"the answer can be {', '.join(ANSWERED)}, set Accept to one of them",
    408: "the body did not come within 20 s",
    413: "expected a body of at most 8 MB",
    415: f"expected the content type {', '.join((JSON, JSON_LINES, CSV, TEXT, ARROW))}, in UTF-8",
    422: "expected explain=alerts or explain=none",
    503: "too many requests in the queue; retry later",
}
"""An error of each status."""
_REASONS: Final = {
    400: "The request, or its body, is damaged.",
    401: "The key is missing or invalid.",
    403: "The service has no keys, or the request comes from another page.",
    404: "There is no such incident, or none are shown.",
    406: "Accept names no content type that the service writes.",
    408: "The body did not arrive in time.",
    413: "The body exceeds a limit.",
    415: "The content type of the body is not supported, or it is compressed.",
    422: "The body is valid, but does not fit the model.",
    503: "The service is busy; retry after Retry-After seconds.",
}


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

    def failures(*statuses: int) -> dict[str, object]:
        return {
            str(status): {
                "description": _REASONS[status],
                "content": {
                    JSON: {"schema": _ERROR, "example": examples.refusal(status, _SENTENCES[status])}
                },
            }
            for status in statuses
        }

    key: Json = {"security": [{"key": []}]} if needs_key else {}
    refused = failures(400, *([401] if needs_key else []))
    score = _score(limits, examples, answer)
    score_failures = {**refused, **failures(406, 408, 413, 415, 422, 503)}
    paths: dict[str, object] = {
        "/v1/score": {"post": {**score, "responses": {**score["responses"], **score_failures}, **key}},
        "/v1/model": {
            "get": {**_get("Name, columns and classes of the model.", _json("Model"), refused), **key}
        },
        **_incident_paths(refused, failures(403, 404, 408, 413, 422, 503), key),
        "/healthz": {"get": _get("The process answers.", _json("Status"), failures(400))},
        "/readyz": {
            "get": _get("Whether a request would be accepted now.", _json("Status"), failures(400, 503))
        },
        "/metrics": {
            "get": {
                **_get(
                    "Metrics for Prometheus.",
                    {CONTENT_TYPE.partition(";")[0]: {"schema": {"type": "string"}}},
                    refused,
                ),
                **key,
            }
        },
    }
    components: dict[str, object] = {"schemas": _schemas(detector, limits)}
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wirebert",
            "version": wirebert.__version__,
            "description": "Verdicts on network flows.",
        },
        "paths": paths,
        "components": components,
    }


def public_part(document: Json) -> Json:
    """What a stranger without a key may know of the document: how to ask for health and how to send a key."""
    paths, components = (cast(Json, document[name]) for name in ("paths", "components"))
    schemas = cast(Json, components["schemas"])
    return {
        **document,
        "paths": {path: paths[path] for path in ("/healthz", "/readyz")},
        "components": {**components, "schemas": {name: schemas[name] for name in ("Status", "Error")}},
    }


def _score(limits: Limits, examples: Examples, answer: object) -> dict[str, Any]:
    schema = {"type": "string", "maxLength": limits.max_body_bytes}
    as_text = as_csv(examples.flow)
    as_json = msgspec.json.encode(examples.flow).decode() + "\n"
    verdicts: Json = {"schema": {"$ref": "#/components/schemas/Verdicts"}}
    return {
        "summary": "Verdicts on flows, in input order.",
        "description": "The flows of one request form one log. Verdicts equal those of `wirebert predict` on "
        "a file with the same content. The raw log of a sensor (Zeek, Suricata, nfdump, Argus) is recognised "
        f"under every content type of text; {TEXT} is for any text that `wirebert predict` reads. A request "
        "with fewer than half of the features of the model is refused. The header Accept chooses the content "
        "type of the answer.",
        "parameters": [
            {
                "name": "explain",
                "in": "query",
                "description": "`alerts` adds the main evidence for each verdict that is not benign, "
                f"for at most {limits.max_explained} flows.",
                "schema": {"type": "string", "enum": ["alerts", "none"]},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                CSV: {"schema": schema, "example": as_text},
                JSON: {
                    "schema": {"$ref": "#/components/schemas/Flows"},
                    "example": {"flows": [examples.flow]},
                },
                JSON_LINES: {"schema": schema, "example": as_json},
                TEXT: {"schema": schema, "example": as_text},
                ARROW: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": {
                "description": "One verdict per flow.",
                "headers": _headers(),
                "content": {
                    JSON: verdicts if answer is None else {**verdicts, "example": answer},
                    JSON_LINES: {"schema": {"type": "string"}},
                    CSV: {"schema": {"type": "string"}},
                    ARROW: {"schema": {"type": "string", "format": "binary"}},
                },
            },
        },
    }


def _headers() -> Json:
    count: Json = {"type": "integer", "minimum": 0}
    texts: Mapping[str, tuple[str, Json]] = {
        "wirebert-invalid-values": (
            "Values that are not numbers in columns of numbers; they count as missing.",
            count,
        ),
        "wirebert-findings": ("Codes of the findings, as in the JSON answer.", {"type": "string"}),
        "wirebert-flows-without-history": (WITHOUT_HISTORY, count),
    }
    return {
        name: {"description": text, "schema": schema, "required": True}
        for name, (text, schema) in texts.items()
    }


def _incident_paths(refused: Json, unmarked: Json, key: Json) -> dict[str, object]:
    listed: Json = {"type": ["array", "null"], "items": {"type": "object"}}
    answer: Json = {"type": "object", "properties": {"incidents": listed}, "required": ["incidents"]}
    said = {
        "type": "object",
        "properties": {
            "incident_id": {"type": "string"},
            "mark": {"type": "string", "enum": list(MARKS)},
            "class_name": {"type": ["string", "null"]},
        },
        "required": ["incident_id", "mark"],
        "additionalProperties": False,
    }
    return {
        "/v1/incidents": {
            "get": {
                **_get(
                    "Incidents of a monitor; null where none are shown.", {JSON: {"schema": answer}}, refused
                ),
                **key,
            }
        },
        "/v1/marks": {
            "post": {
                **_get("What somebody says of an incident.", _json("Status"), {**refused, **unmarked}),
                "requestBody": {"required": True, "content": {JSON: {"schema": said}}},
                **key,
            }
        },
    }


def _get(summary: str, content: Json, failures: Json) -> dict[str, object]:
    return {"summary": summary, "responses": {"200": {"description": "OK.", "content": content}, **failures}}


def _json(schema: str) -> Json:
    return {JSON: {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _schemas(detector: Detector, limits: Limits) -> dict[str, object]:
    body, _ = body_types(limits)
    _, components = msgspec.json.schema_components([body], ref_template="#/components/schemas/{name}")
    return {
        **components,
        "Verdicts": {
            "type": "object",
            "properties": {
                "flows": {"type": "array", "items": _verdict(detector)},
                "invalid_values": {
                    "type": "object",
                    "description": "Column to number of values that are not numbers; they count as missing.",
                    "additionalProperties": {"type": "integer"},
                },
                "findings": {
                    "type": "array",
                    "description": "How the flows fit the model, and what was read as missing.",
                    "items": _finding(),
                },
                "flows_without_history": {
                    "type": "integer",
                    "minimum": 0,
                    "description": WITHOUT_HISTORY,
                },
            },
            "required": ["flows", "invalid_values", "findings", "flows_without_history"],
            "additionalProperties": False,
        },
        "Error": {
            "type": "object",
            "properties": {
                "error": {"type": "string"},
                "example": {"type": "string", "description": "A request that would be answered."},
            },
            "required": ["error"],
        },
        "Status": {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]},
        "Model": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "description": "Folder of the run or model."},
                "saved": {"type": "string", "description": "Date of the model, as in 2026-01-31."},
                "threshold": {"type": ["number", "null"], "description": "Alert score of an alert."},
                "findings": {"type": "array", "items": _finding()},
                "sample": {"type": "object", "description": "A made-up flow of usual values."},
                "classes": {"type": "array", "items": {"type": "string"}},
                "benign": {"type": ["string", "null"]},
                "backend": {"type": "string"},
                "columns": {"type": "array", "items": {"type": "object"}},
            },
            "required": ["name", "saved", "threshold", "classes", "benign", "backend", "columns", "sample"],
        },
    }


def _finding() -> Json:
    text: Json = {"type": "string"}
    properties: dict[str, object] = {
        "code": {"type": "string", "enum": list(CODES)},
        "severity": {"type": "string", "enum": list(SEVERITIES)},
        "column": {"type": ["string", "null"]},
        "count": {"type": "integer", "minimum": 0},
        "example": text,
        "message": text,
        "is_accepted": {"type": "boolean"},
    }
    return {"type": "object", "properties": properties, "required": list(properties)}


def _verdict(detector: Detector) -> Json:
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    properties: dict[str, object] = {
        "row": {"type": "integer", "minimum": 0},
        "predicted_class": {"type": "string", "enum": list(detector.classes)},
        **{f"p_{name}": probability for name in detector.classes},
        "attack_score": probability,
        "novelty": {"type": "number"},
        "alert_score": {"type": "number"},
        "verdict": {"type": "string", "enum": ["alert", "pass", "unknown"]},
        "threshold": {"type": "number"},
        "community_id": {"type": ["string", "null"]},
        "num_absent": {"type": "integer", "minimum": 0},
        "num_unseen": {"type": "integer", "minimum": 0},
        "warnings": {"type": "array", "items": {"type": "string"}},
        "schema_version": {"const": SCHEMA_VERSION},
        "explanation": {"type": ["array", "null"], "items": {"type": "string"}},
    }
    return {
        "type": "object",
        "description": "A verdict record, with the columns that locate the flow in its log: "
        "times, identifiers, addresses, ports.",
        "properties": properties,
        "required": [
            *("row", "predicted_class", *(f"p_{name}" for name in detector.classes)),
            *("community_id", "num_absent", "num_unseen", "warnings", "schema_version"),
        ],
    }
