from dataclasses import replace

import pytest

from wirebert.data.schema.matching import match_names
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema


def schema_of(**kinds: str) -> FlowSchema:
    columns = [
        Column(name=n, kind=ColumnKind(k), is_feature=ColumnKind(k).can_be_feature) for n, k in kinds.items()
    ]
    return FlowSchema(name="flows", columns=tuple(columns))


def test_columns_of_the_same_name_stay():
    match = match_names(["bytes", "Bytes"], schema_of(bytes="count"))
    assert (match.renamed, match.findings) == ({}, ())


def test_case_and_punctuation_do_not_matter_for_labels_too():
    match = match_names(["dst-port", "LABEL"], schema_of(dst_port="port", Label="label"))
    assert match.renamed == {"dst_port": "dst-port", "Label": "LABEL"}
    (told,) = match.findings
    assert (told.code, told.severity, told.count) == ("names_matched", "info", 2)
    assert "'dst-port' as 'dst_port'" in told.message


@pytest.mark.parametrize(
    ("ours", "kind", "theirs"),
    [
        ("Dst Port", "port", "L4_DST_PORT"),
        ("L4_DST_PORT", "port", "destinationTransportPort"),
        ("proto", "category", "protocolIdentifier"),
        ("orig_ip_bytes", "count", "IN_BYTES"),
        ("spkts", "count", "src2dst_packets"),
        ("Tot Bwd Pkts", "count", "Total Backward Packets"),
        ("ts", "time", "flowStartMilliseconds"),
        ("src_ip", "address", "IPV4_SRC_ADDR"),
    ],
)
def test_names_of_one_meaning_match(ours: str, kind: str, theirs: str):
    match = match_names([theirs, "other"], schema_of(**{ours: kind}))
    assert (match.renamed, match.factors) == ({ours: theirs}, {})


def test_a_known_unit_is_converted():
    match = match_names(["FLOW_DURATION_MILLISECONDS"], schema_of(duration_s="duration"))
    assert match.renamed == {"duration_s": "FLOW_DURATION_MILLISECONDS"}
    assert match.factors["duration_s"] == pytest.approx(1e-3)
    assert "(times 0.001)" in match.findings[0].message


def test_a_unit_that_the_schema_names_counts():
    schema = schema_of(duration="duration")
    column = replace(schema.columns[0], unit="ms")
    match = match_names(["Flow Duration"], replace(schema, columns=(column,)))
    assert match.factors["duration"] == pytest.approx(1e-3)


@pytest.mark.parametrize(
    ("ours", "kind", "theirs"),
    [
        ("duration", "duration", ["Flow Duration"]),  # unit unknown
        ("src_bytes", "count", ["IN_BYTES"]),  # counted how?
        ("orig_bytes", "count", ["orig_ip_bytes"]),  # payload is not what IP counts
        ("Dst Port", "port", ["dport", "L4_DST_PORT"]),  # two fit
    ],
)
def test_a_name_that_may_fit_stays_absent_and_is_told(ours: str, kind: str, theirs: list[str]):
    match = match_names(theirs, schema_of(**{ours: kind}))
    assert match.renamed == {}
    (told,) = match.findings
    assert (told.code, told.severity, told.column) == ("names_unclear", "warning", ours)
    assert all(name in told.message for name in theirs)


def test_two_columns_that_differ_in_case_alone_match_nothing():
    match = match_names(["DST_PORT", "Dst-Port"], schema_of(dst_port="port"))
    assert match.renamed == {}
    assert match.unclear == {"dst_port": ("DST_PORT", "Dst-Port")}


def test_the_other_direction_is_another_column():
    match = match_names(["OUT_PKTS", "dport"], schema_of(IN_PKTS="count", sport="port"))
    assert (match.renamed, match.findings) == ({}, ())
