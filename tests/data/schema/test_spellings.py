import pytest

from wirebert.data.schema.spellings import bag_of_words, fold, protocol_spellings, spelling_of


@pytest.mark.parametrize(
    ("name", "meaning", "unit"),
    [
        ("Flow Duration", "duration", "us"),
        ("FLOW_DURATION_MILLISECONDS", "duration", "ms"),
        ("duration", "duration", ""),
        ("durationSeconds", "duration", "s"),
        ("Total Fwd Packets", "src_packets.all", ""),
        ("Tot Fwd Pkts", "src_packets.all", ""),
        ("src2dst_packets", "src_packets.all", ""),
        ("packetDeltaCount", "src_packets.all", ""),
        ("IN_BYTES", "src_bytes.ip", ""),
        ("TotLen Bwd Pkts", "dst_bytes.payload", ""),
        ("source.bytes", "src_bytes.", ""),
        ("jsonPayload.connection.src_port", "source_port", ""),
    ],
)
def test_a_name_has_its_meaning_and_unit(name: str, meaning: str, unit: str):
    spelling = spelling_of(name)
    assert spelling is not None
    assert (spelling.meaning, spelling.unit) == (meaning, unit)


@pytest.mark.parametrize("name", ["Flow Byts/s", "protocol_version", "tcp_rtt", "ip_ttl", "", "_"])
def test_a_name_that_is_none_of_them_has_no_meaning(name: str):
    assert spelling_of(name) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Flow Byts/s", "Flow Bytes/s"),
        ("SYN Flag Cnt", "SYN Flag Count"),
        ("Init_Win_bytes_forward", "Init Fwd Win Byts"),
        ("Fwd Avg Bytes/Bulk", "Fwd Byts/b Avg"),
        ("min_seg_size_forward", "Fwd Seg Size Min"),
        ("Average Packet Size", "Pkt Size Avg"),
        ("act_data_pkt_fwd", "Fwd Act Data Pkts"),
        ("Packet Length Variance", "Pkt Len Var"),
    ],
)
def test_generations_of_cicflowmeter_have_the_same_words(one: str, other: str):
    assert bag_of_words(one) == bag_of_words(other)


def test_directions_are_never_one():
    for name in ("{} Pkts/s", "Tot {} Pkts", "{} IAT Mean"):
        assert bag_of_words(name.format("Fwd")) != bag_of_words(name.format("Bwd"))
    assert fold("src_bytes") != fold("dst_bytes")


def test_names_in_other_scripts_keep_their_letters():
    assert fold("Länge_1") == "länge1"


def test_a_protocol_has_one_group_of_spellings():
    assert protocol_spellings("6") == protocol_spellings("TCP") == ("6", "tcp")
    assert protocol_spellings("tcp/ip") == ()


def test_a_long_name_of_known_words_means_nothing_and_takes_no_depth():
    assert spelling_of("tcp_" * 2_000 + "srcport") is None
    assert spelling_of("tcp_" * 40 + "srcport") == spelling_of("srcport")


def test_names_are_not_remembered_for_ever():
    for number in range(10_000):
        spelling_of(f"name{number}")
    assert spelling_of.cache_info().currsize < 10_000
