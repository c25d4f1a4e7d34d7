"""Numbers that are not written as plain numbers: cases/quantities."""

from pathlib import Path

import pyarrow as pa
import pytest

from wirebert.data.flows import Flows, open_flows
from wirebert.data.schema.schema import ColumnKind
from wirebert.workflows.inspect import DataConfig, inspect_data

CASES = Path(__file__).parent / "quantities"


def whole(flows: Flows) -> pa.Table:
    return pa.concat_tables(flows.blocks()).combine_chunks()


@pytest.mark.parametrize(
    ("name", "rows", "largest"), [("units-many.csv", 48, 14_300_000.0), ("units-few.csv", 40, 10_600_000.0)]
)
def test_units_are_read_and_told(name: str, rows: int, largest: float):
    found = inspect_data(str(CASES / name), DataConfig())
    sizes = whole(found.flows)["Bytes"].to_numpy().tolist()
    assert found.flows.schema.column("Bytes").kind is ColumnKind.COUNT
    assert (len(sizes), sum(size != size for size in sizes), max(sizes)) == (rows, 0, largest)
    told = [finding for finding in found.findings if finding.code == "units_read"]
    assert [finding.column for finding in told] == ["Bytes"]
    assert " M" in told[0].example
    if name == "units-many.csv":
        assert sizes[3] == 1_900_000.0  # line 5
        assert sizes[43] == 14_300_000.0  # line 45


@pytest.mark.parametrize("name", ["units-many.csv", "units-few.csv"])
def test_ports_and_identifiers_beside_them_are_known(name: str):
    schema = open_flows(CASES / name).schema
    assert schema.label == "attackType"
    assert not schema.column("attackID").is_feature
    assert schema.column("Src Pt").kind is schema.column("Dst Pt").kind is ColumnKind.PORT


def test_each_notation_has_its_number_and_kind():
    flows = open_flows(CASES / "spellings.csv")
    columns = "bytes_grouped bytes_kb rate_k loss_percent ttl_hex duration_hms".split()
    row = whole(flows).slice(0, 1).to_pydict()
    assert [row[name][0] for name in columns] == [427_500.0, 4_200.0, 34_200.0, 14.5, 46.0, 30.0]
    kinds = [str(flows.schema.column(name).kind) for name in columns]
    assert kinds == ["count", "count", "number", "number", "count", "duration"]


def test_a_file_that_is_scored_later_is_read_in_the_same_way(tmp_path: Path):
    schema = open_flows(CASES / "units-few.csv").schema
    lines = (CASES / "units-few.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    plain = tmp_path / "later.csv"
    plain.write_text("".join([lines[0], *(line for line in lines[1:] if " M" in line)]), encoding="utf-8")
    sizes = whole(open_flows(plain, schema=schema))["Bytes"].to_numpy().tolist()
    assert len(sizes) == 3
    assert max(sizes) == 10_600_000.0
