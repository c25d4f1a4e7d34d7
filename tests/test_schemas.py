"""The JSON Schemas of docs/schemas are those of the types, and real files satisfy them."""

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, cast

import jsonschema
import jsonschema_rs
import msgspec
import pytest
from pyarrow import parquet

from wirebert.cli.main import main
from wirebert.data.accounting import RejectedRow
from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import open_flows
from wirebert.data.split_manifest import SplitManifest, hash_rows
from wirebert.decision.operating_point import OperatingPoint
from wirebert.inference.verdicts import SCHEMA_VERSION, VerdictRecord
from wirebert.report.report import Report
from wirebert.run_folder import RunFolder
from wirebert.serialization import field_texts, to_builtins
from wirebert.telemetry.events import KINDS, VERSION

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]


def of_type(kind: type) -> Schema:
    """The schema of a dataclass, with the text under each field as its description."""
    whole = msgspec.json.schema(kind, schema_hook=lambda _: {"title": "any value"})
    described = {found.__name__: field_texts(found) for found in dataclasses_of(kind)}
    for name, part in whole["$defs"].items():
        for field, below in part.get("properties", {}).items():
            below.pop("default", None)
            if text := described.get(name, {}).get(field):
                below["description"] = " ".join(text.split())
        # What a file of this version always has: every field is written, but for the two of `to_json`.
        part["description"] = " ".join(part.get("description", "").split())
    return whole


def dataclasses_of(kind: Any) -> Iterator[type]:
    """The dataclass and all that its fields name."""
    seen: list[Any] = []
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        waiting += getattr(one, "__args__", ())
        if isinstance(one, type) and is_dataclass(one) and one not in seen:
            seen.append(one)
            waiting += [field.type for field in fields(one)]
    return iter(seen)


def titled(name: str, description: str, body: Schema) -> Schema:
    return {"$schema": DRAFT, "title": name, "description": description, **body}


def metrics_line() -> Schema:
    """One line of metrics.jsonl: an event; a number that is not finite or unknown is null."""
    kinds: list[Schema] = []
    for name, kind in KINDS.items():
        (part,) = of_type(kind)["$defs"].values()
        for below in part["properties"].values():
            if below.get("type") == "number":
                below["type"] = ["number", "null"]
        head = {"v": {"const": VERSION}, "event": {"const": name}, "time": {"type": "number"}}
        part["properties"] = head | part["properties"]
        part["required"] = [*head, *part["required"]]
        kinds.append(part)
    return titled("metrics.jsonl", "One line: an event of a training.", {"oneOf": kinds})


def verdict() -> Schema:
    """One verdict: the fields of `VerdictRecord`, those of the log under their own names."""
    whole, number, text = {"type": "integer"}, {"type": "number"}, {"type": "string"}
    types: dict[str, Schema] = {
        "row": whole,
        "community_id": {"type": ["string", "null"]},
        "predicted_class": text,
        "attack_score": number,
        "novelty": number,
        "alert_score": number,
        "verdict": {"enum": ["alert", "pass", "unknown"]},
        "threshold": number,
        "num_absent": whole,
        "num_unseen": whole,
        "warnings": {"type": "array", "items": text},
        "schema_version": {"const": SCHEMA_VERSION},
    }
    texts = field_texts(VerdictRecord)
    assert set(types) | {"position", "located", "probabilities"} == {
        field.name for field in fields(VerdictRecord)
    }
    properties = {
        name: kind | ({"description": " ".join(texts[name].split())} if name in texts else {})
        for name, kind in types.items()
    }
    properties |= {"file": text, "line": whole}
    properties["explanation"] = {"type": ["array", "null"], "items": text}
    always = ("row", "predicted_class", "community_id", "warnings", "schema_version")
    body = {
        "type": "object",
        "properties": properties,
        "patternProperties": {"^p_": number | {"description": "Probability of a class."}},
        "additionalProperties": {
            "type": ["string", "number", "null"],
            "description": "Time, identifiers, addresses and ports of the flow, as the log names them.",
        },
        "required": [name for name in types if name in always],
    }
    return titled(
        "verdict", "One verdict: a line of a .jsonl file, a row of a .parquet or Arrow table.", body
    )


def manifest() -> Schema:
    """The manifest of a model folder."""
    point = of_type(OperatingPoint)
    sha256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    digest = {
        "type": "object",
        "properties": {"sha256": sha256, "size_bytes": {"type": "integer"}},
        "required": ["sha256", "size_bytes"],
    }
    texts = {"type": "array", "items": {"type": "string"}}
    classes = {
        "type": "object",
        "description": "Classes, label to class, and the class that means no attack.",
        "properties": {
            "classes": texts,
            "label_map": {"type": "object", "additionalProperties": {"type": "string"}},
            "benign": {"type": ["string", "null"]},
        },
        "required": ["classes", "label_map", "benign"],
    }
    tokenizer = {
        "type": "object",
        "description": "Columns, settings and fitted encoders; private to this version of wirebert.",
        "required": ["schema", "config", "encoders", "subwords"],
    }
    properties: Schema = {
        "sha256": sha256 | {"description": "Of the rest of this file."},
        "format": {"const": 2},
        "classes": classes,
        "tokenizer": tokenizer,
        "origin": {"type": "object", "description": "Versions, settings, sha256 of the training data."},
        "operating_point": {"$ref": point["$ref"]},
        "novelty": {"type": "object", "description": "How novelty.safetensors is read."},
        "files": {
            "type": "object",
            "description": "Every other file of the folder but the model card.",
            "additionalProperties": digest,
        },
        "exports": {"type": "object", "description": "Inference engine -> its export."},
    }
    body = {
        "type": "object",
        "properties": properties,
        "required": ["sha256", "format", "classes", "tokenizer", "origin", "files"],
        "$defs": point["$defs"],
    }
    return titled("wirebert.json", "The manifest of a model folder.", body)


SCHEMAS = {
    "report": lambda: titled("report.json", "The report of a run.", of_type(Report)),
    "split_manifest": lambda: titled(
        "split_manifest.json", "Hashes of the rows of every split of a run.", of_type(SplitManifest)
    ),
    "metrics": metrics_line,
    "verdict": verdict,
    "wirebert": manifest,
    "rejected": lambda: titled("rejected rows", "A line of FILE.rejected.jsonl.", of_type(RejectedRow)),
}
"""Name of the file in docs/schemas -> what makes it."""


@pytest.mark.parametrize("name", SCHEMAS)
def test_schemas_are_those_of_the_types(name: str, request: pytest.FixtureRequest):
    path = FOLDER / f"{name}.schema.json"
    text = json.dumps(SCHEMAS[name](), indent=1, sort_keys=False) + "\n"
    if request.config.getoption("--update-docs"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path.name} is not current; run `make reference`"
    jsonschema.Draft202012Validator.check_schema(json.loads(text))


def strict(name: str) -> Any:
    """A validator that also refuses what the schema does not name, as the files are to hold nothing else."""

    def closed(part: Any) -> Any:
        if isinstance(part, list):
            return [closed(one) for one in cast(list[Any], part)]
        if not isinstance(part, dict):
            return part
        own = {key: closed(value) for key, value in cast(Schema, part).items()}
        return own if "properties" not in own or "title" not in own else {"additionalProperties": False} | own

    schema = json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))
    return jsonschema_rs.Draft202012Validator(closed(schema))


def check(name: str, records: list[Any]) -> None:
    validator = strict(name)
    assert records
    for record in records:
        errors = [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(record)]
        assert not errors, errors[:3]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_files_of_a_run_satisfy_their_schemas(trained: Path):
    for name in ("report", "split_manifest"):
        check(name, [json.loads((trained / f"{name}.json").read_text(encoding="utf-8"))])
    check("metrics", lines(trained / "metrics.jsonl"))
    check("wirebert", [json.loads((trained / "model" / "wirebert.json").read_text(encoding="utf-8"))])


@pytest.mark.parametrize(
    ("name", "file", "damage"),
    [
        ("report", "report.json", {"seed": "one"}),
        ("report", "report.json", {"unknown": 1}),
        ("split_manifest", "split_manifest.json", {"features": 3}),
        ("wirebert", "model/wirebert.json", {"format": 1}),
    ],
)
def test_another_file_does_not(trained: Path, name: str, file: str, damage: Mapping[str, Any]):
    content = json.loads((trained / file).read_text(encoding="utf-8"))
    assert not strict(name).is_valid({**content, **damage})


def test_verdicts_and_rejected_rows_satisfy_their_schemas(trained: Path, traffic: Path, tmp_path: Path):
    log = tmp_path / "log.csv"
    text = (traffic / "test.csv").read_text(encoding="utf-8").splitlines()[:60]
    log.write_text("\n".join([*text, "not,a,row"]) + "\n", encoding="utf-8")
    for suffix in ("jsonl", "parquet", "csv"):
        out = tmp_path / f"out.{suffix}"
        assert main(["predict", str(trained), str(log), "--out", str(out), "--explain", "alerts"]) == 0
    records = lines(tmp_path / "out.jsonl")
    check("verdict", records)
    check("verdict", parquet.read_table(tmp_path / "out.parquet").to_pylist())
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        assert next(csv.reader(file)) == list(records[0])
    check("rejected", lines(tmp_path / "out.jsonl.rejected.jsonl"))


def test_a_manifest_has_the_rows_of_the_report(trained: Path, traffic: Path):
    """Recomputed for the test file, from the file."""
    splits = json.loads((trained / "split_manifest.json").read_text(encoding="utf-8"))["splits"]
    report = json.loads((trained / "report.json").read_text(encoding="utf-8"))
    assert list(splits) == ["train", *report["splits"]]
    for name in report["splits"]:
        assert splits[name]["num_rows"] == report["splits"][name]["num_flows"]
        assert splits[name]["data_sha256"] == report["data"]["test_usage"][name]["sha256"]
    assert splits["train"]["num_rows"] + splits["valid"]["num_rows"] == 1500
    assert splits["train"]["content"] != splits["valid"]["content"]
    from wirebert.api.detector import load

    flows = open_flows(traffic / "test.csv", schema=load(trained).artifact.schema)
    again = hash_rows(profile_table(flows), None, flows.fingerprint())
    assert to_builtins(again) == splits["test"]
    assert RunFolder(trained).split_manifest.stat().st_size < 3000
