"""What a column is, by its name: cases/roles-by-name, and the headers of many exporters."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.flows import open_flows
from wirebert.data.schema.inference import infer_schema
from wirebert.data.schema.schema import FlowSchema
from wirebert.data.times import seconds_of

CASES = Path(__file__).parent / "roles-by-name"


def kinds_of(schema: FlowSchema) -> dict[str, tuple[str, bool]]:
    return {column.name: (str(column.kind), column.is_feature) for column in schema.columns}


def first_row(name: str) -> dict[str, object]:
    table = next(open_flows(CASES / name).blocks())
    return {column: values[0] for column, values in table.slice(0, 1).to_pydict().items()}


TIME, IDENTIFIER, SOURCE_PORT = ("time", False), ("identifier", False), ("port", False)
PORT, ADDRESS, CATEGORY, COUNT = ("port", True), ("address", True), ("category", True), ("count", True)


def test_netflow_v9_has_eight_features_and_times_in_milliseconds():
    schema = open_flows(CASES / "netflow-v9.csv").schema
    found = kinds_of(schema)
    assert found["FLOW_START_MILLISECONDS"] == found["FLOW_END_MILLISECONDS"] == TIME
    assert found["DNS_QUERY_ID"] == IDENTIFIER
    assert len(schema.features) == 8
    times = pa.array([str(first_row("netflow-v9.csv")["FLOW_START_MILLISECONDS"])])
    assert seconds_of(times).tolist() == [1_700_000_013.0]


def test_tshark_fields_have_five_features():
    schema = open_flows(CASES / "tshark.csv").schema
    found = kinds_of(schema)
    assert found["frame.time_epoch"] == TIME
    assert found["tcp.srcport"] == found["udp.srcport"] == SOURCE_PORT
    assert found["tcp.dstport"] == found["udp.dstport"] == PORT
    assert found["tcp.stream"] == IDENTIFIER
    assert len(schema.features) == 5


def test_spellings_have_the_roles_that_they_name():
    found = kinds_of(open_flows(CASES / "spellings.csv").schema)
    times = "start first_switched flowStartMilliseconds time_start_us sTime".split()
    sources = ["Src Pt", "orig_p", "originp", "client_port", "sourceTransportPort"]
    assert {found[name] for name in times} == {TIME}
    assert {found[name] for name in sources} == {SOURCE_PORT}
    assert found["Dst Pt"] == found["responp"] == PORT
    assert (found["src_ip"], found["flow_id"], found["pro"], found["bytes"]) == (
        ADDRESS, IDENTIFIER, CATEGORY, COUNT,
    )  # fmt: skip
    row = first_row("spellings.csv")
    assert row["src_ip"] == "192.168.3.11"
    seconds = seconds_of(pa.array([str(row[name]) for name in times]))
    assert ((seconds >= 1_700_000_013) & (seconds <= 1_700_000_014)).all()


# fmt: off
HEADERS = {
    "CICFlowMeter 2017":
        "Flow ID:id, Source IP:ip, Source Port:sp, Destination IP:ip, Destination Port:dp, "
        "Protocol:pr, Timestamp:dmy, Flow Duration:us, Total Fwd Packets:n, Total Length of Fwd "
        "Packets:n",
    "CICFlowMeter 2018": "Dst Port:dp, Protocol:pr, Timestamp:dmy, Flow Duration:us, Tot Fwd Pkts:n",
    "CICFlowMeter 4":
        "Flow ID:id, Src IP:ip, Src Port:sp, Dst IP:ip, Dst Port:dp, Timestamp:12h, Total Fwd "
        "Packet:n",
    "cicflowmeter for Python":
        "src_ip:ip, dst_ip:ip, src_port:sp, dst_port:dp, protocol:pr, timestamp:iso, "
        "flow_duration:us, tot_fwd_pkts:n",
    "nfstream":
        "id:id, src_ip:ip, src_port:sp, dst_ip:ip, dst_port:dp, protocol:pr, "
        "bidirectional_first_seen_ms:ms_, bidirectional_last_seen_ms:ms_, src2dst_first_seen_ms:ms_, "
        "dst2src_last_seen_ms:ms_, bidirectional_duration_ms:us, src2dst_packets:n",
    "NetFlow v9":
        "IPV4_SRC_ADDR:ip, L4_SRC_PORT:sp, IPV4_DST_ADDR:ip, L4_DST_PORT:dp, PROTOCOL:pr, "
        "FIRST_SWITCHED:s_, LAST_SWITCHED:s_, IN_BYTES:n, OUT_PKTS:n, TCP_FLAGS:fl",
    "nProbe":
        "FLOW_START_SEC:s_, FLOW_END_SEC:s_, FLOW_START_MICROSECONDS:us_, IPV4_SRC_ADDR:ip, "
        "L4_SRC_PORT:sp, L4_DST_PORT:dp, FLOW_DURATION_MILLISECONDS:us",
    "IPFIX":
        "flowStartMilliseconds:ms_, flowEndNanoseconds:ns_, sourceIPv4Address:ip, "
        "sourceTransportPort:sp, destinationTransportPort:dp, protocolIdentifier:pr, "
        "octetDeltaCount:n, packetDeltaCount:n",
    "IPFIX, both ways":
        "flowStartSeconds:s_, destinationIPv4Address:ip, reverseOctetDeltaCount:n, flowId:id",
    "tshark":
        "frame.time:text, frame.number:id, ip.src:ip, ip.dst:ip, ip.proto:pr, udp.srcport:sp, "
        "udp.dstport:dp, udp.stream:id, frame.len:n",
    "tshark, relative": "frame.time_relative:d_, tcp.srcport:sp, tcp.dstport:dp, ip.id:id",
    "Argus":
        "StartTime:s_, LastTime:s_, Dur:d, Proto:prn, SrcAddr:ip, Sport:sp, DstAddr:ip, Dport:dp, "
        "SrcBytes:n",
    "Argus, short": "stime:s_, ltime:s_, saddr:ip, sport:sp, daddr:ip, dport:dp, spkts:n, dpkts:n",
    "SiLK":
        "sIP:ip, dIP:ip, sPort:sp, dPort:dp, pro:pr, packets:n, bytes:n, sTime:iso, duration:d, "
        "eTime:iso",
    "SiLK, epochs": "sIP:int_ip, dIP:int_ip, sPort:sp, dPort:dp, sTime:s_, eTime:s_",
    "YAF": "start-time:iso, end-time:iso, duration:d, proto:pr, sip:ip, sp:sp, dip:ip, dp:dp, oct:n",
    "AWS VPC":
        "srcaddr:ip, dstaddr:ip, srcport:sp, dstport:dp, protocol:pr, packets:n, bytes:n, start:s_, "
        "end:s_",
    "Azure NSG": "time:iso, src_ip:ip, dest_ip:ip, src_port:sp, dest_port:dp",
    "GCP":
        "jsonPayload.connection.src_ip:ip, jsonPayload.connection.src_port:sp, "
        "jsonPayload.connection.dest_port:dp, jsonPayload.connection.protocol:pr, "
        "jsonPayload.start_time:iso, jsonPayload.end_time:iso, jsonPayload.bytes_sent:n, insertId:id",
    "Kentik":
        "timestamp:s_, ctimestamp:s_, src_addr:ip, dst_addr:ip, l4_src_port:sp, l4_dst_port:dp, "
        "protocol:pr, in_bytes:n, in_pkts:n",
    "softflowd through nfdump":
        "ts:iso, te:iso, td:d, sa:ip, da:ip, sp:sp, dp:dp, pr:prn, ipkt:n, ibyt:n",
    "nfdump, titles":
        "Date first seen:iso, Duration:d, Proto:prn, Src IP Addr:ip, Src Pt:sp, Dst IP Addr:ip, Dst "
        "Pt:dp, Packets:n",
    "Zeek":
        "ts:s_, uid:uid, id.orig_h:ip, id.orig_p:sp, id.resp_h:ip, id.resp_p:dp, proto:prn, "
        "duration:d",
    "Zeek in a table": "ts:ms_, id_orig_h:ip, id_orig_p:sp, id_resp_p:dp, orig_bytes:n, resp_pkts:n",
    "Suricata in a table":
        "timestamp:iso, flow_id:id, src_ip:ip, src_port:sp, dest_ip:ip, dest_port:dp, proto:prn, "
        "flow.start:iso, flow.end:iso, flow.bytes_toserver:n",
    "Packetbeat":
        "event.start:iso, event.end:iso, source.ip:ip, source.port:sp, destination.ip:ip, "
        "destination.port:dp, network.transport:prn, source.bytes:n, network.community_id:id",
    "GoFlow":
        "TimeReceived:s_, TimeFlowStart:s_, SrcAddr:ip, DstAddr:ip, SrcPort:sp, DstPort:dp, Proto:pr, "
        "Bytes:n",
    "GoFlow2":
        "time_received_ns:ns_, time_flow_start_ns:ns_, src_addr:ip, src_port:sp, dst_port:dp, "
        "proto:prn",
    "pmacct":
        "SRC_IP:ip, DST_IP:ip, SRC_PORT:sp, DST_PORT:dp, PROTOCOL:prn, TIMESTAMP_START:iso, PACKETS:n",
    "UNSW-NB15":
        "srcip:ip, sport:sp, dstip:ip, dsport:dp, proto:prn, dur:d, sbytes:n, Stime:s_, Ltime:s_",
    "Kyoto": "duration:d, service:prn, source_bytes:n, src_port:sp, dst_port:dp, start_time:clock",
    "CEF": "start:ms_, end:ms_, src:ip, spt:sp, dst:ip, dpt:dp, proto:prn",
    "Cisco ASA":
        "client_ip:ip, client_port:sp, server_ip:ip, server_port:dp, session_id:id, bytes_sent:n",
    "columns of one's own":
        "beginning:ms_, my_clock:rising, from_port:n, transaction_id:id, policy_id:n",
}
# fmt: on
EXPECTED = {
    **dict.fromkeys(("s_", "ms_", "us_", "ns_", "iso", "dmy", "12h", "text", "d_", "rising", "clock"), TIME),
    **dict.fromkeys(("ip", "int_ip"), ADDRESS),
    **dict.fromkeys(("id", "uid"), IDENTIFIER),
    **dict.fromkeys(("pr", "prn"), CATEGORY),
    **dict.fromkeys(("d", "us"), ("duration", True)),
    "sp": SOURCE_PORT,
    "dp": PORT,
    "n": COUNT,
    "fl": ("flags", True),
}
ROWS = np.arange(60)
NOISE = ROWS * 7919 % 101
SHUFFLED = 1_700_000_000 + NOISE * 61
"""Times that do not rise, so that the name or the values have to tell."""
VALUES = {
    "s_": SHUFFLED,
    "ms_": SHUFFLED * 1_000 + 123,
    "us_": SHUFFLED * 1_000_000 + 7,
    "ns_": SHUFFLED * 1_000_000_000 + 7,
    "rising": 1_700_000_000_000 + ROWS // 2 * 1_501,
    "iso": [f"2023-11-14T{n % 24:02d}:13:20.5Z" for n in NOISE],
    "dmy": [f"{n % 28 + 1}/7/2017 {n % 24}:08" for n in NOISE],
    "12h": [f"{n % 28 + 1:02d}/07/2017 {n % 12 + 1:02d}:08:09 PM" for n in NOISE],
    "text": [f"Nov {n % 28 + 1}, 2023 22:13:20.123456789 UTC" for n in NOISE],
    "clock": [f"{n % 24:02d}:11:03" for n in NOISE],
    "d_": NOISE / 8,
    "ip": [f"10.0.{n}.7" for n in NOISE],
    "int_ip": 3_232_236_299 + NOISE,
    "id": NOISE // 3,
    "uid": [f"C{n}x{row}" for row, n in enumerate(NOISE)],
    "pr": np.where(NOISE % 2, 6, 17),
    "prn": np.where(NOISE % 2, "tcp", "udp"),
    "d": NOISE / 8,
    "us": NOISE * 1_000,
    "sp": 1_024 + NOISE * 601,
    "dp": np.where(NOISE % 2, 80, 443),
    "n": NOISE % 13,
    "fl": NOISE % 32,
}


@pytest.mark.parametrize("exporter", HEADERS)
def test_the_columns_of_an_exporter_have_their_roles(exporter: str):
    roles = dict(column.rsplit(":", 1) for column in HEADERS[exporter].split(", "))
    table = pa.table({name: [str(value) for value in VALUES[role]] for name, role in roles.items()})
    assert kinds_of(infer_schema(table, name="flows")) == {n: EXPECTED[role] for n, role in roles.items()}


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("bytes", [str(10**9 + n * 10**7) for n in NOISE]),  # no order and no word of time
        ("seq", [str(3_000_000_000 + n) for n in range(60)][::-1]),
        ("start_bytes", [str(n) for n in NOISE]),
    ],
)
def test_large_numbers_alone_are_no_times(name: str, values: list[str]):
    assert kinds_of(infer_schema(pa.table({name: values}), name="flows"))[name] == COUNT
