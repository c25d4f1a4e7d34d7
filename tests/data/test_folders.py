from pathlib import Path

import pytest

from wirebert.data.dialect import Dialect
from wirebert.data.files import FlowFile
from wirebert.data.flows import open_flows
from wirebert.data.folders import (
    FileListing,
    check_vocabularies,
    describe_parts,
    listing_lines,
    skipped_finding,
    with_rows,
)
from wirebert.errors import NoFlowsError, SchemaError


def part(name: str, format_name: str = "delimited") -> FlowFile:
    dialect = Dialect(format=format_name)
    return FlowFile(path=Path(name), where=name, dialect=dialect, names=(), title=format_name)


@pytest.mark.parametrize(
    ("formats", "labels", "is_one"),
    [
        (("zeek", "argus"), ({"Benign"}, {"benign ", "x"}), True),
        (("zeek", "argus"), ({"Benign"}, {"normal"}), False),
        (("argus", "argus"), ({"dos"}, {"scan"}), True),
        (("argus", "argus"), ({"dos", "benign"}, {"scan", "normal"}), False),
        (("zeek", "argus"), (set[str](), {"normal", "x"}), True),
    ],
)
def test_vocabularies_fit_or_are_one_sentence(
    formats: tuple[str, str], labels: tuple[set[str], set[str]], is_one: bool
):
    parts = [part("a", formats[0]), part("b", formats[1])]
    if is_one:
        check_vocabularies(parts, labels)
        return
    with pytest.raises(SchemaError, match="b: expected labels of one vocabulary"):
        check_vocabularies(parts, labels)


def test_a_listing_says_what_became_of_each_file():
    listing = (
        FileListing(path="a", read_as="JSON", is_labelled=True),
        FileListing(path="b", joined_into="a"),
        FileListing(path="c", skipped="it is empty"),
    )
    assert listing_lines(with_rows(listing, {"a": 1_000})) == [
        "a: JSON, 1,000 rows, labelled",
        "b: joined into a",
        "c: skipped, it is empty",
    ]
    assert listing_lines(listing[:1]) == []
    (finding,) = skipped_finding(listing)
    assert (finding.code, finding.count, finding.example) == ("skipped_files", 1, "c")
    assert skipped_finding(listing[:2]) == ()


def test_files_of_two_formats_are_never_called_by_one():
    parts = [part("a", "zeek"), part("b", "argus"), part("c", "zeek")]
    assert describe_parts(parts) == "2 files zeek; 1 file argus"
    assert describe_parts(parts[:1]) == "zeek"


def test_a_folder_without_any_flows_is_one_sentence(tmp_path: Path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    with pytest.raises(NoFlowsError, match=r"a.csv: .*none of the 2 files holds flows"):
        open_flows(tmp_path)
