from pathlib import Path

from wirebert.data.flows import DataConfig, open_flows
from wirebert.data.schema.library import known_schemas
from wirebert.data.schema.proposals import suggest_combinations, with_suggested_combinations
from wirebert.data.schema.schema import FlowSchema


def test_sensor_columns_lend_themselves_to_all_kinds():
    names = {combination.name for combination in suggest_combinations(known_schemas()["canonical"])}
    assert {
        "src_ip_bytes_per_src_packets",
        "dst_payload_bytes_per_dst_packets",
        "share_of_src_ip_bytes",
        "share_of_src_packets",
        "src_packets_per_duration_s",
        "service_with_conn_state",
        "protocol_with_service",
    } <= names


def test_nsl_kdd_has_no_packets_and_a_flag():
    names = [combination.name for combination in suggest_combinations(known_schemas()["nsl_kdd"])]
    assert names == [
        "share_of_src_bytes",
        "src_bytes_per_duration",
        "dst_bytes_per_duration",
        "service_with_flag",
        "protocol_type_with_service",
    ]


def test_a_schema_that_lists_its_own_keeps_them():
    schema = with_suggested_combinations(known_schemas()["nsl_kdd"])
    assert with_suggested_combinations(schema) is schema
    assert FlowSchema.from_dict(schema.to_dict()) == schema


def test_they_are_added_on_request(data_dir: Path):
    log = data_dir / "sensors" / "netflow"
    assert open_flows(log).schema.combinations == ()
    assert open_flows(log, DataConfig(feature_combinations=True)).schema.combinations
