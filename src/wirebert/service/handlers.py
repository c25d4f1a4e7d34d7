"""Requests -> verdicts: requests with the same columns are typed, encoded and scored as one table."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.context.context import FlowContext
from wirebert.data.schema.conversion import InvalidValues, convert
from wirebert.encoding.token_rows import JaggedRows
from wirebert.inference.detector import Detector, Scores
from wirebert.inference.explanations import explain_rows, needs_explanation
from wirebert.inference.verdicts import verdict_table
from wirebert.service.bodies import JSON, JSON_LINES, BodyReader, RawFlows, arrays
from wirebert.service.limits import Limits, RequestError


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """A request to score flows."""

    content_type: str
    """A value of `bodies.READ`."""
    body: bytes
    answer_type: str
    """Content type of the response: JSON, JSON_LINES or ARROW of `bodies`."""
    explains: bool = False
    """Whether alerts get a column `explanation`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreResponse:
    """Verdicts, ready to be sent."""

    content: bytes
    num_flows: int
    num_invalid: int = 0
    """Number of non-numeric values per numeric column; they count as missing."""
    verdicts: dict[str, int] = field(default_factory=dict)
    """Number of flows per verdict, or per class if the model has no threshold."""


@dataclass(frozen=True, slots=True)
class _Part:
    """The flows of one request among those of a group."""

    position: int
    request: ScoreRequest
    flows: RawFlows
    rows: slice


@final
class RequestHandler:
    """Answers several requests at once with a detector.

    A request is one log: its flows get context from each other, not from other requests. So the verdicts
    equal those of `wirebert predict` for a file with the same rows.
    """

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self.detector, self._limits = detector, limits
        self._reader = BodyReader(detector.schema, limits)

    def warm_up(self) -> None:
        """Score a flow without any feature, so that the first request need not wait."""
        name = next(column.name for column in self.detector.schema.features)
        self._score(pa.table({name: pa.nulls(1, pa.string())}), [slice(0, 1)])

    def handle(self, requests: Sequence[ScoreRequest]) -> list[ScoreResponse | RequestError]:
        """One response each, in order; a RequestError for a request that cannot be answered."""
        responses: dict[int, ScoreResponse | RequestError] = {}
        groups: dict[object, list[tuple[int, ScoreRequest, RawFlows]]] = {}
        for position, request in enumerate(requests):
            try:
                flows = self._reader.read(request.content_type, request.body)
            except RequestError as error:
                responses[position] = error
            else:
                columns = flows.columns
                key = columns.schema if isinstance(columns, pa.Table) else flows.names
                groups.setdefault(key, []).append((position, request, flows))
        for members in groups.values():
            responses |= self._handle_group(members)
        return [responses[position] for position in range(len(requests))]

    def _handle_group(
        self, members: Sequence[tuple[int, ScoreRequest, RawFlows]]
    ) -> dict[int, ScoreResponse]:
        ends = np.cumsum([flows.num_rows for _, _, flows in members]).tolist()
        parts = [
            _Part(position, request, flows, slice(end - flows.num_rows, end))
            for (position, request, flows), end in zip(members, ends, strict=True)
        ]
        raw = self._join([flows for _, _, flows in members])
        invalid_values, table, block, scores = self._score(raw, [part.rows for part in parts])
        rows = np.concatenate([np.arange(part.flows.num_rows) for part in parts]).astype(np.int64)
        verdicts = verdict_table(table, scores, self.detector.schema, rows)
        explanations = self._explanations(parts, table, block, scores)
        responses: dict[int, ScoreResponse] = {}
        for part in parts:
            part_verdicts = verdicts.slice(part.rows.start, part.flows.num_rows)
            if part.request.explains:
                part_verdicts = part_verdicts.append_column("explanation", explanations[part.rows])
            num_invalid = self._count_invalid(raw, part.rows) if invalid_values.total else {}
            responses[part.position] = ScoreResponse(
                content=render(part_verdicts, part.request.answer_type, num_invalid),
                num_flows=part_verdicts.num_rows,
                num_invalid=sum(num_invalid.values()),
                verdicts=_counts(part_verdicts),
            )
        return responses

    def _join(self, flows: Sequence[RawFlows]) -> pa.Table:
        """The flows of all requests, one after the other, as raw columns."""
        raw = [one.columns for one in flows]
        tables = [columns for columns in raw if isinstance(columns, pa.Table)]
        if tables:
            return pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        lists = [columns for columns in raw if not isinstance(columns, pa.Table)]
        joined = {name: [value for columns in lists for value in columns[name]] for name in lists[0]}
        return arrays(joined, self.detector.schema)

    def _score(
        self, raw: pa.Table, parts: Sequence[slice]
    ) -> tuple[InvalidValues, pa.Table, JaggedRows, Scores]:
        schema, invalid_values = self.detector.schema, InvalidValues()
        table = convert(raw, schema, invalid=invalid_values, first_row=0)
        if schema.context is not None:
            cut = [table.slice(part.start, part.stop - part.start) for part in parts]
            table = pa.concat_tables([FlowContext(schema.context).append(one) for one in cut])
        block = self.detector.encode(table)
        return invalid_values, table, block, self.detector.score(table, block)

    def _count_invalid(self, raw: pa.Table, rows: slice) -> dict[str, int]:
        """The number of non-numeric values of one request, per numeric column."""
        invalid_values = InvalidValues()
        convert(
            raw.slice(rows.start, rows.stop - rows.start),
            self.detector.schema,
            invalid=invalid_values,
            first_row=0,
        )
        return invalid_values.counts

    def _explanations(
        self, parts: Sequence[_Part], table: pa.Table, block: JaggedRows, scores: Scores
    ) -> pa.Array:
        """Explanations of alerts and attacks: per request, at most the limit, by falling alert score."""
        asking = [part.rows for part in parts if part.request.explains]
        if not asking:
            return pa.nulls(len(block))
        is_wanted, urgency = needs_explanation(scores), scores.alert_score
        is_explained = np.zeros(len(block), np.bool_)
        for rows in asking:
            wanted = np.flatnonzero(is_wanted[rows]) + rows.start
            if urgency is not None:
                wanted = wanted[np.argsort(-urgency[wanted], kind="stable")]
            is_explained[wanted[: self._limits.max_explained]] = True
        return explain_rows(self.detector, table, block, scores, is_explained)


def render(verdicts: pa.Table, answer_type: str, invalid_values: dict[str, int]) -> bytes:
    """The response body of a verdict table; numbers that are not finite are null in JSON."""
    if answer_type == JSON:
        return msgspec.json.encode({"flows": verdicts.to_pylist(), "invalid_values": invalid_values})
    if answer_type == JSON_LINES:
        return msgspec.json.Encoder().encode_lines(verdicts.to_pylist())
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, verdicts.schema) as writer:
        writer.write_table(verdicts)
    return sink.getvalue()


def _counts(verdicts: pa.Table) -> dict[str, int]:
    name = "verdict" if "verdict" in verdicts.column_names else "predicted_class"
    return {str(one["values"]): int(one["counts"].as_py()) for one in pc.value_counts(verdicts[name])}
