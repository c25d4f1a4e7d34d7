"""Equal rows have equal hashes, whatever file they come from; other rows have others."""

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.checks.profile import TableProfile, profile_table
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.split_manifest import GROUP_ROWS, hash_rows

SCHEMA = FlowSchema(
    name="x",
    columns=(
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
        Column(name="service", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="label", kind=ColumnKind.LABEL, is_feature=False),
    ),
)


class Source:
    """A table in blocks."""

    name, schema = "x", SCHEMA

    def __init__(self, table: pa.Table, block_rows: int) -> None:
        self.table, self.block_rows = table, block_rows

    def blocks(self, *_: object):
        for start in range(0, self.table.num_rows, self.block_rows):
            yield self.table.slice(start, self.block_rows)


def profile(table: pa.Table, block_rows: int = 7) -> TableProfile:
    return profile_table(Source(table, block_rows))  # pyright: ignore[reportArgumentType]


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    return pa.table(
        {
            "bytes": rng.integers(0, 9, 40).astype(float),
            "service": rng.choice(["http", "dns"], 40),
            "label": rng.choice(["benign", "dos"], 40),
        }
    )


def test_blocks_and_spellings_of_numbers_do_not_matter(table: pa.Table):
    rows = np.arange(40) % 3 == 0
    other = table.set_column(0, "bytes", pa.array(table["bytes"].to_numpy() * 1.0))
    assert hash_rows(profile(table), rows, "a") == hash_rows(profile(other, 11), rows, "a")


def test_another_order_has_the_same_content_in_other_groups(table: pa.Table):
    one, two = (hash_rows(profile(part), None, "a") for part in (table, table.take(np.arange(40)[::-1])))
    assert one.content == two.content
    assert one.groups != two.groups


@pytest.mark.parametrize("column", ["bytes", "service", "label"])
def test_one_other_value_changes_every_hash(table: pa.Table, column: str):
    values = table[column].to_pylist()
    values[5] = 77.0 if column == "bytes" else "other"
    changed = table.set_column(table.column_names.index(column), column, pa.array(values))
    rows = np.arange(40) < 20
    before, after = (hash_rows(profile(part), rows, "a") for part in (table, changed))
    assert before.content != after.content
    assert before.groups != after.groups
    assert hash_rows(profile(changed), ~rows, "a") == hash_rows(profile(table), ~rows, "a")


def test_groups_are_as_long_as_they_say():
    table = pa.table(
        {
            "bytes": np.arange(GROUP_ROWS + 2) * 1.0,
            "service": ["x"] * (GROUP_ROWS + 2),
            "label": ["a"] * (GROUP_ROWS + 2),
        }
    )
    found = profile(table, GROUP_ROWS)
    rows = np.zeros(GROUP_ROWS + 2, np.bool_)
    none = hash_rows(found, rows, "a").groups
    assert len(none) == 2
    assert none[0] == none[1]
    rows[GROUP_ROWS] = True
    own = hash_rows(found, rows, "a")
    assert (own.num_rows, own.groups[0] == none[0], own.groups[1] == none[1]) == (1, True, False)
