from wirebert.data.sensors.formats import SENSOR_FORMATS


def test_joined_names_are_columns_of_other_logs_or_computed_from_them():
    assert "num_alerts" in SENSOR_FORMATS["suricata"].joined_names
    assert "dns_query" in SENSOR_FORMATS["zeek"].joined_names
    assert "src_ip" not in SENSOR_FORMATS["zeek"].joined_names
    assert not SENSOR_FORMATS["argus"].joined_names
