import pyarrow as pa
import pytest

from wirebert.data.schema.kinds import infer_column, summarize


def column_of(name: str, *values: str):
    return infer_column(name, summarize(pa.array(values)))


def test_a_column_is_read_with_units_only_as_a_whole():
    units = summarize(pa.array(["1.5 k", "2", "3 M"]))
    assert (units.num_numeric, units.written, sorted(units.numbers)) == (3, "amounts", [2.0, 1_500.0, 3e6])
    words = summarize(pa.array(["1.5 k", "2", "three"]))
    assert (words.num_numeric, words.written) == (1, "plain")


@pytest.mark.parametrize("values", [("00:00:30", "00:01:00"), ("30s", "1.5 min")])
def test_numbers_that_are_times_make_a_duration(values: tuple[str, str]):
    assert str(column_of("anything", *values).kind) == "duration"


@pytest.mark.parametrize(
    "values", [("fe80::1", "::1"), ("2001:db8:0:0:0:0:0:1", "::ffff:10.0.0.1"), ("fe80::1%eth0", "::")]
)
def test_addresses_of_ipv6_are_addresses(values: tuple[str, str]):
    assert str(column_of("peer", *values).kind) == "address"


def test_versions_are_no_dates():
    assert str(column_of("release", "1.2.3", "1.2.10", "1.2.3").kind) == "category"


def test_the_unit_of_a_known_name_is_kept():
    assert column_of("Flow Duration", "5", "7").unit == "us"
    assert column_of("sTime", "1700000000123", "1700000000999").unit == "ms"
