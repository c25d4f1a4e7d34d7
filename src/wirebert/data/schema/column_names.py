"""Column names that sensors and public data sets use, by meaning."""

import re

SOURCE_PORT = frozenset("sport srcport src_port s_port source_port orig_p id_orig_p sp l4_src_port".split())
PORT = frozenset(
    "dport dsport dstport dst_port d_port dest_port destination_port resp_p id_resp_p port server_port dp "
    "l4_dst_port target_port".split()
)
TIMES = frozenset(
    "ts te time timestamp datetime date stime ltime starttime start_time endtime end_time lasttime last_time "
    "first_seen last_seen flow_start flow_end frame_time epoch".split()
)
TEXTS = frozenset(
    "payload uri url user_agent useragent cookie body referrer referer request command content message msg "
    "query_string path addl data".split()
)
HOST_NAMES = frozenset(
    "dns_query query server_name sni host hostname ssl_subject ssl_issuer subject issuer".split()
)
FLAG_NAMES = frozenset("flags tcp_flags tcpflags flg tcp_flg".split())
CODE_NAMES = frozenset(
    "proto protocol tos dscp vlan version status opcode rcode qtype qclass method code type cipher curve "
    "status_msg ja3 ja3s ja4 ja4s hassh alpn".split()
)
LABELS = frozenset(
    "label labels class attack_cat attack_category attack_type attack_label attack_name detailed_label "
    "class_label is_attack is_malicious malicious intrusion traffic_category".split()
)
WEAK_LABELS = frozenset("type category subcategory attack target y threat outcome activity result".split())


def plain_name(name: str) -> str:
    """The name in lower case, its words joined by underscores.

    >>> plain_name("Src Port"), plain_name("src-port"), plain_name("srcPort")
    ('src_port', 'src_port', 'src_port')
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
