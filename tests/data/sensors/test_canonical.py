import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirebert.data.arrow_columns import change_texts, epoch_texts, epoch_us, to_integers
from wirebert.data.schema.schema import ColumnKind
from wirebert.data.sensors.canonical import (
    canonical_columns,
    flow_schema,
    ip_bytes,
    link_header_bytes,
    protocol_names,
    sensor_table,
    service_names,
)
from wirebert.data.sensors.formats import SENSOR_FORMATS


@pytest.mark.parametrize("sensor", SENSOR_FORMATS)
def test_a_sensor_speaks_of_canonical_columns_and_its_own_alone(sensor: str):
    table = sensor_table(sensor)
    known = {
        *canonical_columns(),
        *(column.name for column in table.own_columns),
        "both_bytes",
        "both_packets",
    }
    joined = {name for columns in table.joined.values() for name in columns}
    assert {*table.columns, *joined, *table.frames, *table.labels, *table.values, *table.only_where} <= known


def test_identities_times_and_other_detectors_verdicts_are_no_features():
    columns = canonical_columns()
    for name in "ts uid src_port history dns_query ssl_server_name http_host alert_signature label".split():
        assert not columns[name].is_feature, name
    assert columns["detailed_label"].kind is ColumnKind.LABEL_DERIVED


def test_columns_of_a_schema_stand_in_canonical_order_and_own_ones_replace_them():
    own = sensor_table("ton_iot").own_columns
    schema = flow_schema("flows", ["type", "uri", "ts", "label"], own)
    assert schema.names == ("ts", "uri", "label", "type")
    assert schema.column("uri").kind is ColumnKind.CATEGORY
    assert schema.label == "type"


@given(
    st.datetimes(min_value=datetime.datetime(1970, 1, 2), max_value=datetime.datetime(2100, 1, 1)),
    st.integers(-14 * 60, 14 * 60),
)
def test_times_agree_with_datetime(time: datetime.datetime, offset_min: int):
    zone = datetime.timezone(datetime.timedelta(minutes=offset_min))
    aware = time.replace(tzinfo=zone)
    exact = aware - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    us = exact // datetime.timedelta(microseconds=1)
    texts = pa.array([aware.strftime("%Y-%m-%dT%H:%M:%S.%f%z"), None])
    assert epoch_us(texts).to_pylist() == [us, None]
    if us >= 0:
        assert epoch_texts(pa.array([us])).to_pylist() == [f"{us // 10**6}.{us % 10**6:06d}"]


def test_times_of_all_sensors_are_read():
    texts = ["2018-01-12 15:37:30", "2019/04/04 16:23:00.325010", "2021-06-06T16:38:55.855844+0200"]
    # Seconds since 1970, worked out with `date -u -d ... +%s`.
    assert epoch_texts(epoch_us(pa.array(texts))).to_pylist() == [
        "1515771450.000000",
        "1554394980.325010",
        "1622990335.855844",
    ]


def test_what_is_no_time_or_number_is_null():
    assert epoch_us(pa.array(["", "12:00", "2018-13-01"[:4]])).null_count == 3
    assert to_integers(pa.array(["1", " 2", "-", "1.5", "-1", None])).to_pylist() == [
        1,
        2,
        None,
        None,
        None,
        None,
    ]
    assert to_integers(pa.array(["7", "7", "x"]).dictionary_encode()).to_pylist() == [7, 7, None]


def test_chunks_with_dictionaries_of_their_own_are_one_column():
    parts = [pa.array(["TCP"]).dictionary_encode(), pa.array(["6", "UDP"]).dictionary_encode()]
    assert protocol_names(pa.chunked_array(parts)).to_pylist() == ["tcp", "tcp", "udp"]


def test_services_are_zeeks_words_in_one_order():
    zeek = sensor_table("zeek")
    assert service_names(pa.array(["ssl,http", "http,ssl", "-ssl,http", None]), zeek).to_pylist() == [
        "http;ssl",
        "http;ssl",
        "http",
        None,
    ]


def test_a_change_may_make_a_value_missing():
    assert change_texts(pa.array(["a", "b"]), lambda text: None if text == "a" else text).to_pylist() == [
        None,
        "b",
    ]


def test_link_headers_are_taken_off_where_there_are_any():
    tcp = pa.array(["tcp", "udp"])
    ethernet = link_header_bytes(tcp, pa.array([54, 60]), pa.array([1, 1]))
    tunnel = link_header_bytes(tcp, pa.array([52, 60]), pa.array([1, 1]))
    assert (ethernet, tunnel) == (14, 0)
    assert ip_bytes(pa.array([60, 5, None]), pa.array([1, 1, 1]), 14).to_pylist() == [46, 0, None]


def test_days_and_hours_that_do_not_exist_are_no_times():
    texts = [
        "2021-06-56T15:57:31",
        "2021-02-30T00:00:00",
        "2021-02-28T24:01:00",
        "2021-02-28T23:59:59",
        "2021-02-28 23:59:59.5",
    ]
    assert epoch_us(pa.array(texts)).to_pylist() == [
        None,
        None,
        None,
        1_614_556_799_000_000,
        1_614_556_799_500_000,
    ]
