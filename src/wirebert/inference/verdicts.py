"""The verdict record: the columns of every verdict file and service response (docs/verdicts.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.community_id import community_ids
from wirebert.alerts.flow_columns import flow_columns
from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.inference.detector import Scores
from wirebert.shapes import Int64

SCHEMA_VERSION: Final = 2
"""Version of the verdict record. Raised when a column changes its name or meaning, not for a new column."""

NO_KNOWN_FEATURES: Final = "no_known_features"
"""Warning code: every feature of the flow is absent or new, so the verdict carries no information."""

_LOCATING = frozenset({ColumnKind.TIME, ColumnKind.IDENTIFIER, ColumnKind.ADDRESS, ColumnKind.PORT})
"""Kinds of columns that locate a flow in the original log."""
_COMMUNITY_ID = "community_id"
_RESERVED = (
    "row",
    "file",
    "line",
    "predicted_class",
    "attack_score",
    "novelty",
    "alert_score",
    "verdict",
    "threshold",
    "num_absent",
    "num_unseen",
    "warnings",
    "schema_version",
    "explanation",
    "event_id",
    "label",
    "true_class",
)
"""Names reserved in every table of verdicts (`label` and `true_class` if true classes are known)."""
_PREFIX = "flow_"
_MAX_EXACT_INTEGER = 2.0**53
"""Below this magnitude float64 represents every integer."""


@dataclass(frozen=True, kw_only=True)
class VerdictRecord:
    """Verdicts of flows, one column per field; None, or no entry: the table has no such column."""

    row: pa.Array
    """Number of the flow among the usable rows of its log, from 0."""
    position: Mapping[str, pa.Array] = field(default_factory=dict)
    """`file` and `line` of the flow, where they are known."""
    located: Mapping[str, pa.ChunkedArray] = field(default_factory=dict)
    """Time, identifiers (flow_id), addresses and ports of the flow, under the names of the log's schema."""
    predicted_class: pa.Array
    probabilities: Mapping[str, pa.Array]
    """`p_CLASS` of each class."""
    attack_score: pa.Array | None = None
    """1 - P(benign)."""
    novelty: pa.Array | None = None
    """Distance to the training flows."""
    alert_score: pa.Array | None = None
    """The score compared with the threshold, if it is not the attack score."""
    verdict: pa.Array | None = None
    """`alert`, `pass` or `unknown`."""
    threshold: pa.Array | None = None
    """Score from which a flow raises an alert."""
    community_id: pa.Array | pa.ChunkedArray
    """Community ID of the flow; null where ends, ports or protocol are not known."""
    num_absent: pa.Array | None = None
    """Number of features whose column the log lacks; each bit of a flags column counts."""
    num_unseen: pa.Array | None = None
    """Number of features with a value that training lacked, or above the training maximum."""
    warnings: pa.Array
    """Warning codes."""
    schema_version: pa.Array

    def to_table(self) -> pa.Table:
        """The record as a table, in the order of the fields."""
        columns: dict[str, pa.Array | pa.ChunkedArray] = {}
        for name in self.__dataclass_fields__:
            value = getattr(self, name)
            if value is not None:
                columns |= value if isinstance(value, Mapping) else {name: value}
        return pa.table(columns)


def verdict_table(
    table: pa.Table,
    scores: Scores,
    schema: FlowSchema,
    rows: Int64[np.ndarray, " flows"],
    position: Mapping[str, pa.Array] | None = None,
    codes: Sequence[str] = (),
    *,
    seed: int = 0,
    carried: Sequence[str] = (),
) -> pa.Table:
    """The verdict record of each flow of a typed table, as a table; `codes` are warning codes of all flows.

    A locating column whose name the record uses is renamed to `flow_NAME`. A port that is not an integer is
    null. The Community ID is that of the log; where it has none, it is computed with this `seed`. `carried`
    columns of the table are in the record too, as the table has them.
    """
    probabilities = {f"p_{name}": scores.probabilities[:, at] for at, name in enumerate(scores.classes)}
    own = {*table.column_names} - {_COMMUNITY_ID}
    present = [column for column in schema.columns if column.name in own]
    located = [c for c in present if c.kind in _LOCATING or c.name in carried]
    names = _names_apart([column.name for column in located], (*_RESERVED, *probabilities))
    values = {
        name: _integers(plain) if column.kind is ColumnKind.PORT else plain
        for name, column in zip(names, located, strict=True)
        for plain in [_plain(table.column(column.name))]
    }
    thresholds = None if scores.threshold is None else pa.repeat(scores.threshold, table.num_rows)
    has_verdict = (verdict := scores.verdict) is not None
    return VerdictRecord(
        row=pa.array(rows),
        position=position or {},
        located=values,
        community_id=_community_ids(table, seed),
        predicted_class=pa.array(scores.classes, pa.string()).take(pa.array(scores.class_ids, pa.int64())),
        probabilities={name: pa.array(values) for name, values in probabilities.items()},
        attack_score=None if scores.attack_score is None else pa.array(scores.attack_score),
        novelty=None if scores.novelty is None else pa.array(scores.novelty),
        alert_score=None
        if scores.combined_alert is None or scores.alert_score is None
        else pa.array(scores.alert_score),
        verdict=pa.array(verdict, pa.string()) if has_verdict else None,
        threshold=thresholds if has_verdict else None,
        num_absent=None if scores.num_absent is None else pa.array(scores.num_absent),
        num_unseen=None if scores.num_unseen is None else pa.array(scores.num_unseen),
        warnings=_warnings(scores, table.num_rows, codes),
        schema_version=pa.repeat(pa.scalar(SCHEMA_VERSION, pa.int8()), table.num_rows),
    ).to_table()


def _community_ids(table: pa.Table, seed: int) -> pa.Array | pa.ChunkedArray:
    """The Community ID of the log, else computed from the ends and the protocol; null where these lack."""
    own = _plain(table.column(_COMMUNITY_ID)) if _COMMUNITY_ID in table.column_names else None
    if own is not None and own.null_count == 0:
        return own
    columns = flow_columns(table.column_names)
    computed = pa.nulls(table.num_rows, pa.string())
    if columns.source and columns.destination and columns.protocol:
        sport, dport = (
            table.column(name) if name else None for name in (columns.source_port, columns.destination_port)
        )
        ends = (table.column(columns.source), table.column(columns.destination))
        computed = community_ids(*ends, sport, dport, table.column(columns.protocol), seed)
    return computed if own is None else pc.coalesce(own, computed)


def _warnings(scores: Scores, num_rows: int, codes: Sequence[str]) -> pa.Array:
    """Warning codes of each flow: those of all flows, then its own."""
    lengths = np.full(num_rows, len(codes), np.int32)
    if scores.num_absent is not None and scores.num_unseen is not None:
        lengths += scores.num_absent + scores.num_unseen >= scores.num_features
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    places = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
    texts = pa.array([*codes, NO_KNOWN_FEATURES], pa.string()).take(pa.array(places, pa.int64()))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), texts)


def _names_apart(names: Sequence[str], reserved: Sequence[str]) -> list[str]:
    """`names` with a prefix on reserved ones, so that no two are equal.

    >>> _names_apart(["row", "ts", "flow_row"], ["row", "predicted_class"])
    ['flow_flow_row', 'ts', 'flow_row']
    """
    taken = {*names, *reserved}
    apart: list[str] = []
    for name in names:
        if name in reserved:
            while name in taken:
                name = _PREFIX + name
        taken.add(name)
        apart.append(name)
    return apart


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _integers(numbers: pa.ChunkedArray) -> pa.ChunkedArray:
    """`numbers` as integers; null where a number is not one."""
    values = numbers.to_numpy(zero_copy_only=False)
    is_integers = (np.abs(values) < _MAX_EXACT_INTEGER) & (values == np.floor(values))
    whole = np.where(is_integers, values, 0).astype(np.int64)
    return pa.chunked_array([pa.array(whole, mask=~is_integers)])
