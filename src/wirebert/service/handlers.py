"""Requests -> verdicts: requests with the same columns are typed, encoded and scored as one table."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import io
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.context.context import FlowContext, count_without_history
from wirebert.data.findings import Finding
from wirebert.data.schema.conversion import InvalidValues, convert
from wirebert.encoding.token_rows import JaggedRows
from wirebert.errors import SchemaError
from wirebert.inference.coverage import TrafficFit
from wirebert.inference.detector import Detector, Scores
from wirebert.inference.explanations import explain_rows, needs_explanation
from wirebert.inference.predictions import CsvWriter
from wirebert.inference.verdicts import verdict_table
from wirebert.service.bodies import CSV, JSON, JSON_LINES, BodyReader, arrays
from wirebert.service.examples import Examples
from wirebert.service.limits import Limits, RequestError
from wirebert.service.raw_logs import RawFlows, Value


@dataclass(frozen=True, kw_only=True, slots=True)
class ScoreRequest:
    """A request to score flows."""

    content_type: str
    """A value of `bodies.READ`."""
    body: bytes
    answer_type: str
    """Content type of the response: one of `headers.ANSWERED`."""
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
    findings: tuple[Finding, ...] = ()
    """How the flows fit the model."""
    num_without_history: int = 0
    """Number of flows whose context may lack earlier flows, which this request does not hold."""


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
    equal those of `wirebert predict` for a file with the same content.
    """

    def __init__(self, detector: Detector, limits: Limits) -> None:
        self.detector, self._limits = detector, limits
        self._reader = BodyReader(detector.schema, limits)
        self.examples = Examples.of(detector.artifact.tokenizer, limits)
        self.example_answer: object = None
        """The answer to the flow of the examples, as in JSON; None before `warm_up`."""

    def warm_up(self) -> None:
        """Score the flow of the examples, so that the first request need not wait."""
        body = msgspec.json.encode({"flows": [self.examples.flow]})
        (response,) = self.handle([ScoreRequest(content_type=JSON, body=body, answer_type=JSON)])
        if isinstance(response, ScoreResponse):
            self.example_answer = msgspec.json.decode(response.content)

    def handle(self, requests: Sequence[ScoreRequest]) -> list[ScoreResponse | RequestError]:
        """One response each, in order; a RequestError for a request that cannot be answered."""
        responses: dict[int, ScoreResponse | RequestError] = {}
        groups: dict[object, list[tuple[int, ScoreRequest, RawFlows]]] = {}
        for position, request in enumerate(requests):
            try:
                flows = self._reader.read(request.content_type, request.body)
                if flows.num_rows:
                    flows.coverage.require(allow_absent=self.detector.allow_absent or flows.may_omit)
            except RequestError as error:
                responses[position] = error
            except SchemaError as error:
                responses[position] = RequestError(422, str(error))
            else:
                columns = flows.columns
                names = columns.schema if isinstance(columns, pa.Table) else flows.names
                key = (names, flows.codes)
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
        columns = [flows.columns for _, _, flows in members]
        typed = [one for one in columns if isinstance(one, pa.Table)]
        lists = self._join([one for one in columns if not isinstance(one, pa.Table)])
        table, has_invalid = (pa.concat_tables(typed), False) if typed else self._type(lists)
        table, block, scores = self._score(table, [part.rows for part in parts])
        rows = np.concatenate([np.arange(part.flows.num_rows) for part in parts]).astype(np.int64)
        codes = parts[0].flows.codes
        verdicts = verdict_table(
            table, scores, self.detector.schema, rows, codes=codes, seed=self.detector.community_id_seed
        )
        explanations = self._explanations(parts, table, block, scores)
        responses: dict[int, ScoreResponse] = {}
        for part in parts:
            part_verdicts = verdicts.slice(part.rows.start, part.flows.num_rows)
            if part.request.explains:
                part_verdicts = part_verdicts.append_column("explanation", explanations[part.rows])
            invalid_values = self._invalid_values(part, lists) if has_invalid else part.flows.invalid_values
            responses[part.position] = self._respond(part, part_verdicts, table, block, invalid_values)
        return responses

    def _respond(
        self,
        part: _Part,
        verdicts: pa.Table,
        table: pa.Table,
        block: JaggedRows,
        invalid_values: InvalidValues,
    ) -> ScoreResponse:
        """The response of one request: its verdicts, and how its flows fit the model."""
        fit = TrafficFit(self.detector.artifact.tokenizer, part.flows.coverage, part.flows.findings)
        fit.invalid_values = invalid_values
        rows = table.slice(part.rows.start, part.flows.num_rows)
        fit.add(rows, _rows_of(block, part.rows))
        schema, num_without_history = self.detector.schema, 0
        if schema.context is not None:
            num_without_history = count_without_history(rows, schema.context)
        findings = fit.findings if part.flows.num_rows else ()
        counts = {name: count for name, count in invalid_values.counts.items() if count}
        return ScoreResponse(
            content=render(verdicts, part.request.answer_type, counts, findings, num_without_history),
            num_flows=verdicts.num_rows,
            num_invalid=invalid_values.total,
            verdicts=_counts(verdicts),
            findings=findings,
            num_without_history=num_without_history,
        )

    def _join(self, columns: Sequence[Mapping[str, Sequence[Value]]]) -> Mapping[str, list[Value]]:
        """The flows of all requests, one after the other."""
        names = columns[0] if columns else ()
        return {name: [value for one in columns for value in one[name]] for name in names}

    def _type(self, lists: Mapping[str, Sequence[Value]]) -> tuple[pa.Table, bool]:
        """The typed table of JSON values, and whether some of them are read as missing."""
        invalid_values = InvalidValues()
        raw = arrays(lists, self.detector.schema)
        table = convert(raw, self.detector.schema, invalid=invalid_values, first_row=1)
        return table, invalid_values.total > 0

    def _invalid_values(self, part: _Part, lists: Mapping[str, Sequence[Value]]) -> InvalidValues:
        """The values of one request that are read as missing."""
        invalid_values = InvalidValues()
        raw = arrays({name: values[part.rows] for name, values in lists.items()}, self.detector.schema)
        convert(raw, self.detector.schema, invalid=invalid_values, first_row=1)
        return invalid_values

    def _score(self, table: pa.Table, parts: Sequence[slice]) -> tuple[pa.Table, JaggedRows, Scores]:
        """The table with the context of each part, its tokens, and its scores."""
        windows = self.detector.schema.context
        if windows is not None:
            cut = [table.slice(part.start, part.stop - part.start) for part in parts]
            table = pa.concat_tables([FlowContext(windows).append(one) for one in cut])
        block = self.detector.artifact.tokenizer.encode(table)  # each request was asked for its features
        return table, block, self.detector.score(table, block)

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


def render(
    verdicts: pa.Table,
    answer_type: str,
    invalid_values: Mapping[str, int],
    findings: Sequence[Finding] = (),
    num_without_history: int = 0,
) -> bytes:
    """The response body of a verdict table; numbers that are not finite are null in JSON."""
    if answer_type == JSON:
        return msgspec.json.encode(
            {
                "flows": verdicts.to_pylist(),
                "invalid_values": invalid_values,
                "findings": findings,
                "flows_without_history": num_without_history,
            }
        )
    if answer_type == JSON_LINES:
        return msgspec.json.Encoder().encode_lines(verdicts.to_pylist())
    sink = io.BytesIO()
    if answer_type == CSV:
        with closing(CsvWriter(sink)) as texts:
            texts.write(verdicts)
        return sink.getvalue()
    with pa.ipc.new_stream(sink, verdicts.schema) as writer:
        writer.write_table(verdicts)
    return sink.getvalue()


def _rows_of(block: JaggedRows, rows: slice) -> JaggedRows:
    return JaggedRows(block.ids, block.offsets[rows.start : rows.stop + 1])


def _counts(verdicts: pa.Table) -> dict[str, int]:
    name = "verdict" if "verdict" in verdicts.column_names else "predicted_class"
    return {str(one["values"]): int(one["counts"].as_py()) for one in pc.value_counts(verdicts[name])}
