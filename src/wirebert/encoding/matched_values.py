"""Notes categories of traffic that are read as values of training, which spells them in another way."""

from collections.abc import Iterable

import pyarrow as pa

from wirebert.data.schema.conversion import InvalidValues
from wirebert.encoding.categorical import CategoryEncoder
from wirebert.encoding.columns import ColumnEncoder, distinct


def note_matched_values(
    encoders: Iterable[ColumnEncoder], table: pa.Table, invalid_values: InvalidValues
) -> None:
    """Count the rows of a typed table whose categories are matched; see `CategoryEncoder.matched`."""
    for encoder in encoders:
        if not isinstance(encoder, CategoryEncoder) or encoder.column not in table.column_names:
            continue
        for part in distinct(table[encoder.column]):
            values = part.values.to_pylist()
            matched = encoder.matched(value for value in values if value is not None)
            for value, known in matched.items():
                count = part.num_rows_of(values.index(value))
                invalid_values.note("values_matched", encoder.column, count, f"{value!r} as {known!r}")
