"""Small tables, told column by column, and what a check says of them."""

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pytest

from wirebert.data.checks.profile import profile_table
from wirebert.data.checks.subject import Subject, subject_of
from wirebert.data.labels import ClassMap
from wirebert.data.schema.conversion import InvalidValues
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema

Cells = Sequence[str | None] | Sequence[float | None]

KINDS = {
    "ts": ColumnKind.TIME,
    "id": ColumnKind.IDENTIFIER,
    "src_ip": ColumnKind.ADDRESS,
    "bytes": ColumnKind.COUNT,
    "rate": ColumnKind.RATE,
    "is_login": ColumnKind.COUNT,
    "service": ColumnKind.CATEGORY,
    "uri": ColumnKind.TEXT,
    "family": ColumnKind.LABEL_DERIVED,
    "label": ColumnKind.LABEL,
}


class Tables:
    """One typed table in memory; a column is of the kind that its name up to a digit says."""

    name = "flows"

    def __init__(self, columns: dict[str, Cells], invalid: InvalidValues | None) -> None:
        kinds = {name: KINDS[name.rstrip("0123456789 ")] for name in columns}
        self.schema = FlowSchema(
            name="flows",
            columns=tuple(
                Column(name=name, kind=kind, is_feature=kind.can_be_feature) for name, kind in kinds.items()
            ),
        )
        self.invalid = invalid
        self.table = pa.table(
            {
                name: pa.array(values, pa.float64() if kinds[name].is_numeric else pa.string())
                for name, values in columns.items()
            }
        )

    def blocks(self, invalid: InvalidValues | None = None) -> Iterator[pa.Table]:
        yield self.table
        if invalid is not None and self.invalid is not None:
            invalid.merge(self.invalid)


def make_subject(invalid: InvalidValues | None = None, /, **columns: Cells) -> Subject:
    tables = Tables(columns, invalid)
    seen = profile_table(tables)
    several = tables.schema.label is not None and len(seen.label_names) > 1
    return subject_of(seen, ClassMap.fit(tables.schema, seen.label_counts) if several else None)


@pytest.fixture
def subject() -> Callable[..., Subject]:
    return make_subject
