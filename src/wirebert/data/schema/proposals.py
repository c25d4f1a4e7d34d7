"""Suggested combinations of a schema's columns, by their names and kinds."""

import re
from dataclasses import replace

from wirebert.data.schema.column_names import plain_name
from wirebert.data.schema.combination import Combination, Operation
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema

SIDES = (("src_", "dst_"), ("orig_", "resp_"), ("s", "d"), ("fwd_", "bwd_"), ("in_", "out_"))
"""Prefixes of the columns of the two sides of a flow."""
SIZES = re.compile(r"^(?P<side>.*?)(?P<what>ip_bytes|payload_bytes|bytes|byts|byt|octets)$")
PACKETS = ("packets", "pkts", "pkt", "ipkts")
COUNTED = re.compile(r"(bytes|byts|byt|octets|packets|pkts|pkt)$")
PAIRS = (
    (("service", "app_proto"), ("conn_state", "state", "flag")),
    (("protocol", "proto", "protocol_type"), ("service", "app_proto")),
)


def suggest_combinations(schema: FlowSchema) -> tuple[Combination, ...]:
    """Bytes per packet, shares of one side, rates over duration, service with state, protocol with service.

    A combination is suggested if both its columns are features.

    >>> names = ("sbytes", "dbytes", "spkts")
    >>> columns = tuple(Column(name=name, kind=ColumnKind.COUNT, is_feature=True) for name in names)
    >>> schema = FlowSchema(name="flows", columns=columns)
    >>> [combination.name for combination in suggest_combinations(schema)]
    ['sbytes_per_spkts', 'share_of_sbytes']
    """
    numbers = {
        plain_name(column.name): column.name
        for column in schema.features
        if column.kind in (ColumnKind.COUNT, ColumnKind.NUMBER)
    }
    suggested = [
        *_per_packet(numbers),
        *_shares(numbers),
        *_rates(numbers, schema.features),
        *_pairs(schema.features),
    ]
    taken = set(schema.names)
    return tuple(combination for combination in suggested if combination.name not in taken)


def with_suggested_combinations(schema: FlowSchema) -> FlowSchema:
    """The schema with the suggested combinations, unless it already lists some."""
    return schema if schema.combinations else replace(schema, combinations=suggest_combinations(schema))


def _per_packet(numbers: dict[str, str]) -> list[Combination]:
    suggested: list[Combination] = []
    for plain, name in numbers.items():
        size = SIZES.match(plain)
        for packets in PACKETS if size else ():
            counted = numbers.get(f"{size['side']}{packets}") if size else None
            if counted is not None:
                suggested.append(_combination("ratio", f"{name}_per_{counted}", name, counted))
    return suggested


def _shares(numbers: dict[str, str]) -> list[Combination]:
    suggested: list[Combination] = []
    for plain, name in numbers.items():
        for one, other in SIDES:
            partner = numbers.get(other + plain.removeprefix(one)) if plain.startswith(one) else None
            if partner is not None and partner != name and COUNTED.search(plain):
                suggested.append(_combination("share", f"share_of_{name}", name, partner))
                break
    return suggested


def _rates(numbers: dict[str, str], features: tuple[Column, ...]) -> list[Combination]:
    duration = next((column.name for column in features if column.kind is ColumnKind.DURATION), None)
    if duration is None:
        return []
    return [
        _combination("ratio", f"{name}_per_{duration}", name, duration)
        for plain, name in numbers.items()
        if COUNTED.search(plain)
    ]


def _pairs(features: tuple[Column, ...]) -> list[Combination]:
    categories = {
        plain_name(column.name): column.name for column in features if column.kind is ColumnKind.CATEGORY
    }
    suggested: list[Combination] = []
    for lefts, rights in PAIRS:
        left = next((categories[name] for name in lefts if name in categories), None)
        right = next((categories[name] for name in rights if name in categories), None)
        if left is not None and right is not None:
            suggested.append(_combination("pair", f"{left}_with_{right}", left, right))
    return suggested


def _combination(operation: Operation, name: str, first: str, second: str) -> Combination:
    return Combination(name=name, operation=operation, columns=(first, second))
