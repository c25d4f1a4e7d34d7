from wirebert.data.sensors.formats import SENSOR_FORMATS


def test_joined_columns_are_columns_of_other_logs_or_computed_from_them():
    assert "num_alerts" in SENSOR_FORMATS["suricata"].joined_columns
    assert "dns_query" in SENSOR_FORMATS["zeek"].joined_columns
    assert "src_ip" not in SENSOR_FORMATS["zeek"].joined_columns
    assert not SENSOR_FORMATS["argus"].joined_columns


def test_a_joined_column_names_its_first_log():
    assert SENSOR_FORMATS["zeek"].joined_columns["ssl_server_name"] == "ssl"
    assert SENSOR_FORMATS["suricata"].joined_columns["num_alerts"] == "alert"
