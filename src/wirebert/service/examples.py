"""A made-up flow for a model, and requests that are answered where others are refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import msgspec

from wirebert.data.schema.schema import Column, ColumnKind
from wirebert.encoding.categorical import CategoryEncoder
from wirebert.encoding.columns import ColumnEncoder
from wirebert.encoding.network import NETWORK_STATES, PORT_RANGES, FlagsEncoder, PortEncoder
from wirebert.encoding.numeric import NUMERIC_STATES, NumberEncoder
from wirebert.encoding.ports import SERVICES
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.service.bodies import CSV, JSON
from wirebert.service.limits import Limits

ExampleValue = str | int | float
_URL: Final = "http://localhost:8080/v1/score"
_ADDRESSES: Final = ("192.0.2.10", "198.51.100.20")
"""Of no host: reserved for documentation (RFC 5737)."""
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")
"""What is no address, host or path."""
_CLIENT_PORT: Final = 50_000


def typical_flow(tokenizer: FlowTokenizer) -> dict[str, ExampleValue]:
    """A flow with a usual value of each column, in the order of the schema; addresses and texts are made up.

    A column without a usual value is left out, and so are context and label.
    """
    schema = tokenizer.schema
    encoders = {encoder.column: encoder for encoder in tokenizer.encoders}
    values = {
        column.name: _value(column, encoders.get(column.name), number)
        for number, column in enumerate(schema.columns)
        if not schema.is_context(column.name)
    }
    addresses = [column.name for column in schema.columns if column.kind is ColumnKind.ADDRESS]
    values |= {name: _ADDRESSES[number % 2] for number, name in enumerate(addresses) if name in values}
    return {name: value for name, value in values.items() if value is not None}


def _value(column: Column, encoder: ColumnEncoder | None, number: int) -> ExampleValue | None:
    if isinstance(encoder, NumberEncoder):
        return _number(encoder, is_whole=column.kind is ColumnKind.COUNT)
    if isinstance(encoder, CategoryEncoder):
        return next(filter(_WORD.fullmatch, encoder.known), None)
    if isinstance(encoder, FlagsEncoder):
        is_set = [token == len(NETWORK_STATES) + 1 for token in encoder.defaults]
        return "".join(letter for letter, bit in zip("FSRPAUEC", is_set, strict=True) if bit) or "0"
    if isinstance(encoder, PortEncoder):
        place = encoder.default - len(NETWORK_STATES) - len(PORT_RANGES)
        names = {name: port for port, name in SERVICES.items()}
        return names[encoder.services[place]] if place >= 0 else _CLIENT_PORT + number
    made_up = {ColumnKind.TIME: "2026-01-01T00:00:00Z", ColumnKind.ADDRESS: _ADDRESSES[0]}
    if column.is_feature and column.kind is ColumnKind.TEXT:
        return "GET /index.html"
    return made_up.get(column.kind)


def _number(encoder: NumberEncoder, *, is_whole: bool) -> int | float | None:
    """The most frequent value, or the middle of the range, to two digits."""
    frequent = encoder.default - len(NUMERIC_STATES)
    ordered = sorted((*encoder.starts, *encoder.exact))
    if not ordered:
        return None
    value = encoder.exact[frequent] if frequent >= 0 else ordered[len(ordered) // 2]
    rounded = float(f"{value:.2g}")
    return round(rounded) if is_whole or rounded.is_integer() else rounded


def as_csv(flow: Mapping[str, ExampleValue]) -> str:
    """The flow as a header line and a row."""

    def cell(value: ExampleValue) -> str:
        text = str(value)
        return '"' + text.replace('"', '""') + '"' if re.search(r'[",\r\n]|^\s|\s$', text) else text

    return "".join(",".join(map(cell, line)) + "\n" for line in (flow, flow.values()))


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """A flow, and a request that is answered for each status of a refusal."""

    flow: Mapping[str, ExampleValue]
    requests: Mapping[int, str]
    """Only that for 422, which needs a key, names columns of the model."""

    @classmethod
    def of(cls, tokenizer: FlowTokenizer, limits: Limits) -> "Examples":
        """The examples for a model under these limits."""
        flow = typical_flow(tokenizer)
        post = f"curl -H 'Content-Type: {CSV}' --data-binary @flows.csv"
        body = msgspec.json.encode({"flows": [flow]}).decode().replace("'", "'\\''")
        listed = "curl http://localhost:8080/docs"
        few = f"head -n {limits.max_rows} flows.csv | curl -H 'Content-Type: {CSV}' --data-binary @- {_URL}"
        requests = {
            400: f"{post} {_URL}",
            401: f'{post} -H "Authorization: Bearer $KEY" {_URL}',
            403: "curl -H 'Origin: http://localhost:8080' http://localhost:8080/docs",
            404: listed,
            405: listed,
            406: f"{post} -H 'Accept: {CSV}' {_URL}",
            408: f"{post} {_URL}",
            413: few,
            415: f"{post} {_URL}",
            422: f"curl -H 'Content-Type: {JSON}' -d '{body}' {_URL}",
        }
        return cls(flow=flow, requests=requests)

    def refusal(self, status: int, error: str) -> dict[str, str]:
        """The answer to a request that is refused."""
        example = self.requests.get(status)
        return {"error": error} if example is None else {"error": error, "example": example}
