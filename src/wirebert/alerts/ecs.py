"""Verdict records and incidents as events of the Elastic Common Schema, one JSON object each."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportCallIssue=false
# pyright: reportArgumentType=false
# (Arrow arrays are generic in the type stubs alone, and they know no text literals as arguments.)

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, Final, cast

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.attack_techniques import AttackTechnique, AttackTechniques
from wirebert.alerts.community_id import is_address
from wirebert.alerts.flow_columns import FlowColumns, flow_columns
from wirebert.alerts.incident_records import alert_classes
from wirebert.alerts.incidents import IncidentEvent
from wirebert.alerts.json_text import join_present, json_object, json_text
from wirebert.data.arrow_columns import change_texts, dictionary_encode, to_texts
from wirebert.data.schema.spellings import protocol_spellings
from wirebert.data.times import seconds_of
from wirebert.serialization import to_builtins
from wirebert.shapes import Bool, Float64

ECS_VERSION: Final = "9.4.0"
"""The version of the Elastic Common Schema that events follow; its fields are in `ecs_fields.json`."""
_OWN = (
    *("row", "file", "line", "verdict", "threshold", "attack_score", "alert_score", "novelty"),
    *("num_absent", "num_unseen", "warnings", "schema_version"),
)
"""Columns of the record that are fields of our own namespace under the same names."""
_REFERENCE = "https://attack.mitre.org/techniques/"


@dataclass(frozen=True, kw_only=True, slots=True)
class EcsContext:
    """What all events of a model share."""

    model_sha256: str
    """Names the model that gave the verdicts."""
    benign: str | None = None
    """The class that means no attack, if there is one."""
    version: str = ""
    """Version of wirebert."""
    techniques: AttackTechniques = field(default_factory=AttackTechniques.built_in)


@np.errstate(over="ignore")  # what overflows is left out
def ecs_events(records: pa.Table, context: EcsContext) -> list[bytes]:
    """One event for each verdict record, in order; without the end of the line.

    Alerts and unknown flows are of kind `alert`, others of kind `event`. A flow without a time has the time
    of its event. A column `event_id` of the records, if there is one, names the events; else their id is made
    of the flow's time, ends and identifier (or row), and of the model.
    """
    return [event for batch in records.combine_chunks().to_batches() for event in _events(batch, context)]


def _events(records: pa.RecordBatch, context: EcsContext) -> list[bytes]:
    num_rows, columns = records.num_rows, flow_columns(records.schema.names)
    is_alert = _is_alert(records, context)
    times = _times(records, columns.time)
    ends = {side: _end(records, columns, side) for side in ("source", "destination")}
    table = pa.Table.from_batches([records])
    names = dictionary_encode(
        pc.if_else(pa.array(is_alert), alert_classes(table, context.benign), table["predicted_class"])
    )
    by_class = [_of_class(name, context) for name in names.dictionary.to_pylist()]
    fields: dict[str, pa.Array | str | None] = {
        "@timestamp": pc.coalesce(times, json_text(pa.array([_iso(time.time())]))[0]),
        "ecs": _json({"version": ECS_VERSION}),
        "event": _event(records, columns, context, times, names, is_alert),
        **{side: json_object(end, num_rows) for side, end in ends.items()},
        "network": _network(records, columns),
        "related": _related(ends["source"]["ip"], ends["destination"]["ip"], num_rows),
        "observer": _json({"product": "wirebert", "type": "ids", "version": context.version or "unknown"}),
        "rule": _only(is_alert, pa.array([one[0] for one in by_class], pa.string()).take(names.indices)),
        "threat": _only(is_alert, pa.array([one[1] for one in by_class], pa.string()).take(names.indices)),
        "wirebert": _own(records, columns, context, num_rows),
    }
    return cast(list[bytes], json_object(fields, num_rows).cast(pa.binary()).to_pylist())


def ecs_incidents(events: Iterable[IncidentEvent], context: EcsContext) -> list[bytes]:
    """One event for each event of an incident; `event.action` tells which, `event.id` is the same after a
    restart."""
    known = list(events)
    are_ips = is_address(pa.array([event.incident.source for event in known], pa.string()))
    return [_incident(event, context, is_ip=bool(is_ip)) for event, is_ip in zip(known, are_ips, strict=True)]


def carried_columns(names: Iterable[str]) -> tuple[str, ...]:
    """The columns that events tell of a flow, for `predict_blocks`: ends, protocol, service and volume."""
    return flow_columns(names).names


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _is_alert(records: pa.RecordBatch, context: EcsContext) -> Bool[np.ndarray, " rows"]:
    """Whether each flow is to be looked at: by its verdict, or without one by its class."""
    if "verdict" in records.schema.names:
        return pc.not_equal(records["verdict"], "pass").to_numpy(zero_copy_only=False)
    if context.benign is None:
        return np.zeros(records.num_rows, np.bool_)
    return pc.not_equal(records["predicted_class"], context.benign).to_numpy(zero_copy_only=False)


def _only(mask: Bool[np.ndarray, " rows"], values: pa.Array) -> pa.Array:
    return pc.if_else(pa.array(mask), values, pa.scalar(None, values.type))


def _column(records: pa.RecordBatch, name: str | None) -> pa.Array | None:
    return None if name is None else json_text(records[name])


def _times(records: pa.RecordBatch, name: str | None) -> pa.Array:
    """The start of each flow as JSON; null where it is not known."""
    if name is None:
        return pa.nulls(records.num_rows, pa.string())
    seconds = seconds_of(records[name])
    is_time = np.abs(seconds) < 2.5e11  # years of four digits; NaN is none
    us = np.round(np.where(is_time, seconds, 0) * 1e6).astype(np.int64)
    texts = pc.strftime(pa.array(us, mask=~is_time).cast(pa.timestamp("us")), format="%Y-%m-%dT%H:%M:%S")
    return pc.binary_join_element_wise('"', texts, 'Z"', "")


def _event(
    records: pa.RecordBatch,
    columns: FlowColumns,
    context: EcsContext,
    times: pa.Array,
    names: pa.DictionaryArray,
    is_alert: Bool[np.ndarray, " rows"],
) -> pa.Array:
    """The fields `event.*`."""
    alerts = pa.array(is_alert)
    severities = [context.techniques.of(name).severity_number for name in names.dictionary.to_pylist()]
    severity = json_text(pa.array(severities, pa.int64())).take(names.indices)
    score, reason = _numbers(records, "attack_score"), None
    if "explanation" in records.schema.names:
        reasons = pc.binary_join(records["explanation"], "; ")
        reason = json_text(pc.if_else(pc.equal(reasons, ""), pa.scalar(None, pa.string()), reasons))
    seconds = _numbers(records, columns.duration)
    fields: dict[str, pa.Array | str | None] = {
        "kind": pc.if_else(alerts, '"alert"', '"event"'),
        "category": pc.if_else(alerts, '["intrusion_detection","network"]', '["network"]'),
        "type": pc.if_else(alerts, '["info","connection"]', '["connection"]'),
        "module": '"wirebert"',
        "dataset": '"wirebert.verdict"',
        "id": _ids(records, columns, context),
        "start": times,
        "duration": None if seconds is None else _whole(seconds * 1e9),
        "risk_score": None if score is None else json_text(pa.array(np.round(100 * score, 4))),
        "severity": _only(is_alert, severity),
        "reason": reason,
    }
    return json_object(fields, records.num_rows)


def _ids(records: pa.RecordBatch, columns: FlowColumns, context: EcsContext) -> pa.Array:
    """An id that the same flow has again when it is scored again by the same model."""
    if "event_id" in records.schema.names:
        return json_text(records["event_id"])
    named = (columns.source, columns.source_port, columns.destination, columns.destination_port)
    keys = [columns.time, columns.uid or "row", *named, *({"file"} & set(records.schema.names))]
    texts = [to_texts(records[name]).fill_null("") for name in keys if name is not None]
    joined = pc.binary_join_element_wise(context.model_sha256, *texts, "\x1f")
    ids = [blake2b(key, digest_size=16).hexdigest() for key in joined.cast(pa.binary()).to_pylist()]
    return json_text(pa.array(ids, pa.string()))


def _numbers(records: pa.RecordBatch, name: str | None) -> Float64[np.ndarray, " rows"] | None:
    """The column as numbers, NaN where there is none; None without such a column of numbers."""
    if name is None or name not in records.schema.names:
        return None
    column = dictionary_encode(records[name])
    if not (pa.types.is_floating(column.dictionary.type) or pa.types.is_integer(column.dictionary.type)):
        return None
    values = np.append(
        column.dictionary.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False), np.nan
    )
    return values[column.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)]


def _whole(values: Float64[np.ndarray, " rows"] | None) -> pa.Array | None:
    """Whole numbers from 0 as JSON; null for others."""
    if values is None:
        return None
    is_count = (values >= 0) & (values < 2.0**53)
    return json_text(pa.array(np.where(is_count, np.round(values), 0).astype(np.int64), mask=~is_count))


def _end(records: pa.RecordBatch, columns: FlowColumns, side: str) -> dict[str, pa.Array | str | None]:
    """The fields of the source or the destination."""
    name = getattr(columns, side)
    address = _column(records, name)
    has_ip = np.empty(0, np.bool_) if name is None else is_address(records[name])
    port = _numbers(records, getattr(columns, f"{side}_port"))
    return {
        "address": address,
        "ip": None if address is None else _only(has_ip, address),
        "port": None if port is None else _whole(np.where(port < 1 << 16, port, np.nan)),
        "bytes": _whole(_numbers(records, getattr(columns, f"{side}_bytes"))),
        "packets": _whole(_numbers(records, getattr(columns, f"{side}_packets"))),
    }


def _network(records: pa.RecordBatch, columns: FlowColumns) -> pa.Array:
    fields: dict[str, pa.Array | str | None] = {"community_id": json_text(records["community_id"])}
    for total in ("bytes", "packets"):
        sides = [_numbers(records, getattr(columns, f"{side}_{total}")) for side in ("source", "destination")]
        known = [side for side in sides if side is not None]
        if known:
            is_known = np.any([~np.isnan(side) for side in known], axis=0)
            both = np.where(is_known, np.sum([np.nan_to_num(side) for side in known], axis=0), np.nan)
            fields[total] = _whole(both)
    is_long = None
    if columns.source is not None:
        source = records[columns.source]
        is_long = pc.match_substring(to_texts(source), ":").fill_null(False)
        kind = pc.if_else(is_long, '"ipv6"', '"ipv4"')
        fields["type"] = _only(is_address(source), kind)
    if columns.protocol is not None:
        names = records[columns.protocol]
        for name, place in (("transport", 1), ("iana_number", 0)):
            texts = change_texts(names, lambda text, place=place: _protocol(text, place))
            if is_long is not None:
                is_icmp = pc.and_(is_long, pc.equal(texts, ("1", "icmp")[place]).fill_null(False))
                texts = pc.if_else(is_icmp, ("58", "ipv6-icmp")[place], texts)
            fields[name] = json_text(texts)
    if columns.service is not None:
        services = change_texts(records[columns.service], lambda text: text.lower().split(";")[0] or None)
        fields["protocol"] = json_text(services)
    return json_object(fields, records.num_rows)


def _protocol(text: str, place: int) -> str | None:
    """Number or name of a protocol; a number that has no name is its own."""
    found = protocol_spellings(text.removesuffix(".0"))
    return found[place] if found else text.lower() if place else None


def _related(source: pa.Array | str | None, destination: pa.Array | str | None, num_rows: int) -> pa.Array:
    ends = [end for end in (source, destination) if isinstance(end, pa.Array)]
    if not ends:
        return pa.nulls(num_rows, pa.string())
    joined, is_empty = join_present(ends, ",")
    listed = pc.binary_join_element_wise('{"ip":[', joined, "]}", "")
    return pc.if_else(is_empty, pa.scalar(None, pa.string()), listed)


def _of_class(name: str, context: EcsContext) -> tuple[str, str | None]:
    """JSON of `rule` and `threat` for alerts of a class."""
    technique = context.techniques.of(name)
    rule = {
        "name": f"wirebert: {name}",
        "category": name,
        "ruleset": "wirebert",
        "version": context.model_sha256[:12] or "unknown",
    }
    threat = _threat(technique)
    return _json(rule), _json(threat) if threat else None


def _threat(technique: AttackTechnique) -> dict[str, object]:
    if not technique.tactic_id:
        return {}
    parent = technique.technique_id.partition(".")[0]
    named: dict[str, object] = {}
    if parent == technique.technique_id and parent:
        named = {"id": [parent], "name": [technique.technique_name], "reference": [f"{_REFERENCE}{parent}/"]}
    elif parent:
        own = {"id": [technique.technique_id], "name": [technique.technique_name]}
        named = {"id": [parent], "subtechnique": own}
    return {
        "framework": "MITRE ATT&CK",
        "tactic": {"id": [technique.tactic_id], "name": [technique.tactic_name]},
        **({"technique": named} if named else {}),
    }


def _own(records: pa.RecordBatch, columns: FlowColumns, context: EcsContext, num_rows: int) -> pa.Array:
    """Our own namespace: what no field of the schema means."""
    probabilities = {
        # A point in a name would be read as an object in an object.
        name[2:].replace(".", "_"): json_text(records[name])
        for name in records.schema.names
        if name.startswith("p_") and pa.types.is_floating(records[name].type)
    }
    fields: dict[str, pa.Array | str | None] = {
        "model_sha256": _json(context.model_sha256),
        "class": json_text(records["predicted_class"]),
        "uid": None if columns.uid is None else json_text(records[columns.uid]),
        **{name: json_text(records[name]) for name in _OWN if name in records.schema.names},
        "probabilities": json_object(probabilities, num_rows),
    }
    return json_object(fields, num_rows)


def _incident(event: IncidentEvent, context: EcsContext, *, is_ip: bool) -> bytes:
    incident = event.incident
    rule, threat = _of_class(incident.class_name, context)
    plain: dict[str, Any] = {
        "@timestamp": _iso(incident.last_s),
        "ecs": {"version": ECS_VERSION},
        "event": {
            "kind": "alert",
            "category": ["intrusion_detection", "network"],
            "type": ["info"],
            "action": f"incident-{event.kind}",
            "module": "wirebert",
            "dataset": "wirebert.incident",
            "id": f"{incident.incident_id}-{event.number}",
            "sequence": event.number,
            "start": _iso(incident.first_s),
            "end": _iso(incident.last_s),
            "severity": incident.severity,
        },
        "observer": {"product": "wirebert", "type": "ids", "version": context.version or "unknown"},
        "rule": msgspec.Raw(rule.encode()),
        "wirebert": {
            "model_sha256": context.model_sha256,
            "class": incident.class_name,
            "incident": _without_nothing(to_builtins(incident))
            | ({"reason": event.reason} if event.reason else {}),
        },
    }
    if incident.peak_score is not None:
        plain["event"]["risk_score"] = round(100 * incident.peak_score, 4)
    if incident.evidence:
        plain["event"]["reason"] = "; ".join(incident.evidence)
    if incident.source:
        plain["source"] = {"address": incident.source} | ({"ip": incident.source} if is_ip else {})
        plain |= {"related": {"ip": [incident.source]}} if is_ip else {}
    if threat is not None:
        plain["threat"] = msgspec.Raw(threat.encode())
    return msgspec.json.encode(plain)


def _without_nothing(values: object) -> dict[str, Any]:
    assert isinstance(values, Mapping)
    return {name: value for name, value in values.items() if value is not None}
