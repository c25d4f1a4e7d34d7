"""Does this traffic fit this model: which features it has, which it lacks, and how many values are new.

`FeatureCoverage` answers from the names of the columns, before anything is scored. `UnseenValues` counts
while rows are scored. `TrafficFit` is the whole question about one data set, and its answer are findings.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import pyarrow as pa

from wirebert.data.checks.unread import unread
from wirebert.data.context.context import has_context
from wirebert.data.context.endpoints import CONTEXT_REQUIRED
from wirebert.data.findings import Finding, format_names, format_row_count
from wirebert.data.flows import Flows
from wirebert.data.formats import joined_columns
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import FlowSchema
from wirebert.encoding.matched_values import note_matched_values
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.encoding.vocabulary import ABSENT, UNSEEN
from wirebert.errors import SchemaError
from wirebert.shapes import Bool, Int64

UNSEEN_LIMIT: Final = 0.5
"""Above this fraction of rows with a value that training lacked, a column is reported."""
_MOST_NAMES: Final = 40


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureCoverage:
    """The features of a model that traffic has and lacks; a joined log, and the context, count as one."""

    where: str
    present: tuple[str, ...]
    absent: tuple[str, ...]
    """Features, `the dns log` for all columns of a side log, and the context."""
    ignored: tuple[str, ...]
    """Columns that the model does not know."""

    @property
    def is_enough(self) -> bool:
        """Whether at least half of the features are present."""
        return len(self.present) >= len(self.absent)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """A warning that names what is absent, if anything is."""
        if not self.absent:
            return ()
        message = f"{self._counted()}; their part of the evidence is missing, so add them if they are known"
        return (
            Finding(
                code="absent_features",
                severity="warning",
                count=len(self.absent),
                example=self.absent[0],
                message=message,
            ),
        )

    def require(self, *, allow_absent: bool = False) -> None:
        """Raise a SchemaError if fewer than half of the features are present, unless that is allowed."""
        if self.is_enough or allow_absent:
            return
        others = f", found {format_names(self.ignored)} instead" if self.ignored else ""
        raise SchemaError(
            f"{self.where}: expected at least half of the features of the model, but {self._counted()}"
            f"{others}; give traffic with the columns of the training data, or allow it with --allow-absent"
        )

    def _counted(self) -> str:
        num_absent, total = len(self.absent), len(self.absent) + len(self.present)
        verb = "feature is" if total == 1 else "features is" if num_absent == 1 else "features are"
        return f"{num_absent} of {total} {verb} absent: {format_names(self.absent, _MOST_NAMES)}"


def feature_coverage(schema: FlowSchema, names: Collection[str], where: str) -> FeatureCoverage:
    """Coverage by a table with these columns; its context may still have to be computed."""
    found, known = set(names), set(schema.names)
    if has_context(found):
        found |= {column.name for column in schema.features if schema.is_context(column.name)}
    units = _units(schema)
    present = tuple(unit for unit, columns in units.items() if not found.isdisjoint(columns))
    return FeatureCoverage(
        where=where,
        present=present,
        absent=tuple(unit for unit in units if unit not in present),
        ignored=tuple(name for name in names if name not in known),
    )


def _units(schema: FlowSchema) -> dict[str, tuple[str, ...]]:
    """What counts as one feature -> its columns."""
    joined = joined_columns(schema.name)
    kind = "the {} events" if schema.name == "suricata" else "the {} log"
    context = f"the context (from {', '.join(CONTEXT_REQUIRED)})"
    units: dict[str, list[str]] = {}
    for column in schema.features:
        name = column.name
        log = kind.format(joined[name]) if name in joined else name
        units.setdefault(context if schema.is_context(name) else log, []).append(name)
    return {unit: tuple(columns) for unit, columns in units.items()}


def coverage_of(flows: Flows, schema: FlowSchema) -> FeatureCoverage:
    """Coverage by files that were opened under the schema of a model.

    Raises:
        SchemaError: they have fewer than half of the features, and `data.allow_absent` is not set.
    """
    unnamed = flows.parts[0].unnamed
    names = [name for name in flows.parts[0].names if name not in unnamed]
    coverage = feature_coverage(schema, names, flows.parts[0].where)
    coverage.require(allow_absent=flows.config.allow_absent)
    return coverage


def codes_of_all(opened: Iterable[Finding]) -> tuple[str, ...]:
    """Codes of what every verdict lacks: features that are absent, or whose columns are not certain."""
    told = ("absent_features", "names_unclear")
    return tuple(dict.fromkeys(finding.code for finding in opened if finding.code in told))


@final
class UnseenValues:
    """Counts, per feature, the rows with a value that training lacked, or above the training maximum."""

    def __init__(self, tokenizer: FlowTokenizer) -> None:
        self.num_rows = 0
        self._is_unseen = marked_tokens(tokenizer)[1]
        self._slot_of = tokenizer.token_slots
        self._columns = [
            tokenizer.encoders[at].column for at in tokenizer.slot_columns[: _num_coded(tokenizer)]
        ]
        self._is_feature = {column.name for column in tokenizer.schema.features}
        self._counts = np.zeros(len(tokenizer.slots), np.int64)

    def add(self, block: JaggedRows) -> None:
        """Count the rows of a block."""
        ids = block.ids[block.offsets[0] : block.offsets[-1]]
        slots = self._slot_of[ids[self._is_unseen[ids]]]
        self._counts += np.bincount(slots, minlength=len(self._counts))
        self.num_rows += len(block)

    def to_dict(self) -> dict[str, Any]:
        """The counts as plain data."""
        return {"num_rows": self.num_rows, "counts": self._counts.tolist()}

    def merge(self, counted: Mapping[str, Any]) -> None:
        """Add what `to_dict` gave for other rows."""
        self.num_rows += counted["num_rows"]
        self._counts += np.array(counted["counts"], np.int64)

    @property
    def counts(self) -> Mapping[str, int]:
        """Rows with such a value, per column; of a column of flags, those of the flag with most of them."""
        counts: dict[str, int] = {}
        for column, count in zip(self._columns, self._counts.tolist(), strict=False):
            if count and column in self._is_feature:  # pairs of columns are new whenever one of them is
                counts[column] = max(count, counts.get(column, 0))
        return counts

    @property
    def findings(self) -> Iterator[Finding]:
        """A warning for each column with more new values than `UNSEEN_LIMIT`."""
        for column, count in self.counts.items():
            if count > UNSEEN_LIMIT * self.num_rows:
                yield Finding(
                    code="unseen_values",
                    severity="warning",
                    column=column,
                    count=count,
                    message=f"column {column!r} holds values that the model has never seen, or above all it "
                    f"saw, in {format_row_count(count, self.num_rows)}; check their spelling and unit, or "
                    "train on such traffic",
                )


@final
class TrafficFit:
    """Whether traffic fits a model: asked when it is opened, answered in full when its rows are scored."""

    def __init__(
        self, tokenizer: FlowTokenizer, coverage: FeatureCoverage, opened: Sequence[Finding] = ()
    ) -> None:
        self.coverage = coverage
        self.opened = (*coverage.findings, *opened)
        """Findings that are known before any row is scored."""
        self.unseen = UnseenValues(tokenizer)
        self._encoders = tokenizer.encoders
        self.invalid_values = InvalidValues()

    @classmethod
    def of(cls, tokenizer: FlowTokenizer, flows: Flows) -> "TrafficFit":
        """The question about opened files.

        Raises:
            SchemaError: they have fewer than half of the features, and `data.allow_absent` is not set.
        """
        coverage = coverage_of(flows, tokenizer.schema)
        return cls(tokenizer, coverage, flows.findings)

    def add(self, table: pa.Table, block: JaggedRows) -> None:
        """Count the rows of a typed table that are scored, and of its encoding."""
        self.unseen.add(block)
        note_matched_values(self._encoders, table, self.invalid_values)

    def to_dict(self) -> dict[str, Any]:
        """What was counted so far, as plain data."""
        return {"unseen": self.unseen.to_dict(), "invalid_values": self.invalid_values.to_dict()}

    @property
    def codes(self) -> tuple[str, ...]:
        """Warning codes of every verdict."""
        return codes_of_all(self.opened)

    @property
    def scored(self) -> tuple[Finding, ...]:
        """Findings from the rows that were scored so far."""
        return (*unread(self.invalid_values), *self.unseen.findings)

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The whole answer."""
        return (*self.opened, *self.scored)


def marked_tokens(
    tokenizer: FlowTokenizer,
) -> tuple[Bool[np.ndarray, " tokens"], Bool[np.ndarray, " tokens"]]:
    """Which tokens mark an absent column, and which mark a value that training lacked."""
    is_absent, is_unseen = np.zeros((2, tokenizer.num_tokens), np.bool_)
    is_absent[tokenizer.slot_special[:, ABSENT]] = True
    has_unseen = [slot.special_states[UNSEEN] in ("<unseen>", "<above>") for slot in tokenizer.slots]
    is_unseen[tokenizer.slot_special[has_unseen, UNSEEN]] = True
    return is_absent, is_unseen


def count_marked(is_marked: Bool[np.ndarray, " tokens"], block: JaggedRows) -> Int64[np.ndarray, " flows"]:
    """Number of marked tokens of each flow. Omitted values are the most frequent ones, never marked."""
    before = np.zeros(len(block.ids) + 1, np.int64)
    np.cumsum(is_marked[block.ids], out=before[1:])
    return np.diff(before[block.offsets])


def _num_coded(tokenizer: FlowTokenizer) -> int:
    """Number of slots other than texts, which are last."""
    return len(tokenizer.slots) - len(tokenizer.text_columns)
