"""Which columns of a table hold time, ends, protocol and volume of a flow, told by their names."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from wirebert.data.schema.spellings import spelling_of

_FAMILIES = {
    "time_start": "time",
    "source_address": "source",
    "destination_address": "destination",
    "source_port": "source_port",
    "port": "destination_port",
    "protocol": "protocol",
    "duration": "duration",
    "src_packets": "source_packets",
    "dst_packets": "destination_packets",
    "src_bytes": "source_bytes",
    "dst_bytes": "destination_bytes",
}
"""Family of a spelling -> field of `FlowColumns`."""
_OWN = {"uid": "uid", "flow_id": "uid", "service": "service", "app_proto": "service"}
_COUNTED = ("ip", "frame", "payload", "")
"""Ways to count bytes, the most telling first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowColumns:
    """The name of each column; None where the table has none."""

    time: str | None = None
    """Start of the flow."""
    uid: str | None = None
    """Identifier that the sensor gave the flow."""
    source: str | None = None
    source_port: str | None = None
    destination: str | None = None
    destination_port: str | None = None
    protocol: str | None = None
    service: str | None = None
    duration: str | None = None
    source_packets: str | None = None
    destination_packets: str | None = None
    source_bytes: str | None = None
    destination_bytes: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The columns that the table has."""
        named = (getattr(self, field.name) for field in fields(self))
        return tuple(name for name in named if name is not None)


def flow_columns(names: Iterable[str]) -> FlowColumns:
    """The columns by their meaning; of several for one meaning the first, of bytes those of whole packets.

    >>> found = flow_columns(["srcip", "dsport", "sbytes", "src_payload_bytes", "label"])
    >>> found.source, found.destination_port, found.source_bytes, found.time
    ('srcip', 'dsport', 'sbytes', None)
    """
    found: dict[str, tuple[int, str]] = {}
    for name in names:
        spelling = spelling_of(name)
        role, rank = _OWN.get(name), 0
        if role is None and spelling is not None:
            role = _FAMILIES.get(spelling.family)
            counted = spelling.meaning.partition(".")[2]
            rank = _COUNTED.index(counted) if counted in _COUNTED else 0
        if role is not None and rank < found.get(role, (len(_COUNTED), ""))[0]:
            found[role] = (rank, name)
    return FlowColumns(**{role: name for role, (_, name) in found.items()})
