"""Column names that sensors and public data sets use, by meaning."""

import re

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


TIME_WORDS = frozenset(
    "ts time times timestamp date datetime epoch start end begin stop first last seen switched expired "
    "created received stamp".split()
)
"""Words in names of times."""
NOT_IDENTIFIED = frozenset(
    "vlan type class protocol proto app application zone policy rule interface if signature sensor device "
    "engine template exporter domain as category service label vrf vxlan vni tunnel region country".split()
)
"""What an id names that many flows share: with it, a column is no identifier of flows."""
RATE_WORDS = frozenset("rate speed load throughput percent ratio share".split())
"""Words in names of what is measured rather than counted."""
SCORE_WORDS = frozenset(
    "score severity confidence difficulty level risk probability priority certainty rank weight".split()
)
"""Words in names of what somebody says about a flow afterwards."""


def plain_name(name: str) -> str:
    """The name in lower case, its words joined by underscores.

    >>> plain_name("Src Port"), plain_name("src-port"), plain_name("srcPort")
    ('src_port', 'src_port', 'src_port')
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")
