"""Names of columns as sensors and data sets have them."""

import pytest

from wirebert.alerts.flow_columns import flow_columns


@pytest.mark.parametrize(
    ("names", "ends"),
    [
        ("ts uid src_ip src_port dst_ip dst_port protocol", "src_ip dst_ip src_port dst_port protocol ts"),
        ("srcip sport dstip dsport proto Stime Ltime", "srcip dstip sport dsport proto Stime"),
        (
            "Source IP,Source Port,Destination IP,Destination Port,Protocol,Timestamp",
            "Source IP,Destination IP,Source Port,Destination Port,Protocol,Timestamp",
        ),
    ],
)
def test_ends_and_time_are_found_by_their_names(names: str, ends: str):
    mark = "," if "," in names else " "
    found = flow_columns(names.split(mark))
    columns = (
        *(found.source, found.destination, found.source_port, found.destination_port),
        *(found.protocol, found.time),
    )
    assert columns == tuple(ends.split(mark))


def test_bytes_of_whole_packets_go_before_those_of_payload():
    assert flow_columns(["src_payload_bytes", "src_ip_bytes"]).source_bytes == "src_ip_bytes"


def test_a_table_without_ends_has_none():
    assert flow_columns(["duration", "src_bytes", "label"]).source is None
    assert flow_columns([]).names == ()
