"""Alerts that are known and wanted to be silent: a TOML file of rules, each with its reason."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.flow_columns import FlowColumns, flow_columns
from wirebert.alerts.toml_tables import read_tables, tables_of
from wirebert.data.arrow_columns import dictionary_encode, to_texts
from wirebert.data.findings import Finding
from wirebert.errors import ConfigError
from wirebert.shapes import Bool

_KEYS = ("source", "destination", "class", "port", "expires", "reason")


@dataclass(frozen=True, kw_only=True, slots=True)
class SuppressionRule:
    """Hides alerts to which all its conditions apply."""

    reason: str
    """Why, for those who come later."""
    source: IPv4Network | IPv6Network | None = None
    destination: IPv4Network | IPv6Network | None = None
    class_name: str | None = None
    port: int | None = None
    """Destination port."""
    expires: datetime | None = None
    """From then on it hides nothing; None: never."""

    def is_expired(self, now_s: float) -> bool:
        """Whether the rule has ended, at `now_s` seconds since 1970."""
        return self.expires is not None and now_s >= self.expires.timestamp()


@final
class Suppressions:
    """The rules of a file.

    >>> Suppressions.parse({"rule": [{"class": "scan"}]}, "quiet.toml")
    Traceback (most recent call last):
    wirebert.errors.ConfigError: quiet.toml, rule 1: expected a reason as text, got None; say why it is silent
    """

    def __init__(self, rules: Sequence[SuppressionRule] = ()) -> None:
        self.rules = tuple(rules)

    @classmethod
    def load(cls, path: Path) -> "Suppressions":
        """The rules of a TOML file.

        Raises:
            ConfigError: the file cannot be read, or a rule is not valid.
        """
        return cls.parse(read_tables(path, "rule"), str(path))

    @classmethod
    def parse(cls, plain: Mapping[str, object], where: str) -> "Suppressions":
        """The rules of a parsed file."""
        rules = tables_of(plain, "rule", where)
        return cls([_rule(rule, f"{where}, rule {number}") for number, rule in enumerate(rules, 1)])

    def hides(self, records: pa.Table, now_s: float | None = None) -> Bool[np.ndarray, " flows"]:
        """Whether a rule hides each of these verdict records."""
        now_s = time.time() if now_s is None else now_s
        columns = flow_columns(records.column_names)
        hidden = np.zeros(records.num_rows, np.bool_)
        for rule in self.rules:
            if not rule.is_expired(now_s):
                hidden |= _applies(rule, records, columns)
        return hidden

    def findings(self, now_s: float | None = None) -> tuple[Finding, ...]:
        """Rules that have expired."""
        now_s = time.time() if now_s is None else now_s
        return tuple(
            Finding(
                code="expired_suppression",
                severity="warning",
                message=f"suppression rule {number} ({rule.reason}) expired on {rule.expires:%Y-%m-%d} and "
                "hides nothing any more; remove it or set a later date",
            )
            for number, rule in enumerate(self.rules, 1)
            if rule.is_expired(now_s)
        )


def _rule(plain: object, where: str) -> SuppressionRule:
    if not isinstance(plain, dict):
        raise ConfigError(f"{where}: expected a table, got {plain!r}; write [[rule]]")
    unknown = next((name for name in plain if name not in _KEYS), None)
    if unknown is not None:
        raise ConfigError(f"{where}: expected keys among {', '.join(_KEYS)}, got {unknown!r}; correct it")
    reason, name, port = plain.get("reason"), plain.get("class"), plain.get("port")
    if not isinstance(reason, str) or not reason.strip():
        raise ConfigError(f"{where}: expected a reason as text, got {reason!r}; say why it is silent")
    if name is not None and not isinstance(name, str):
        raise ConfigError(f"{where}: expected class as text, got {name!r}; name a class of the model")
    if port is not None and (type(port) is not int or not 0 <= port < 1 << 16):
        raise ConfigError(f"{where}: expected port from 0 to 65535, got {port!r}; correct it")
    if not {"source", "destination", "class", "port"} & set(plain):
        raise ConfigError(
            f"{where}: expected source, destination, class or port, found none of them, which "
            "would hide every alert; name one"
        )
    return SuppressionRule(
        reason=reason,
        source=_network(plain.get("source"), "source", where),
        destination=_network(plain.get("destination"), "destination", where),
        class_name=name,
        port=port,
        expires=_moment(plain.get("expires"), where),
    )


def _network(value: object, key: str, where: str) -> IPv4Network | IPv6Network | None:
    if value is None:
        return None
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ConfigError(
            f'{where}: expected {key} as a network such as "10.0.0.0/8", got {value!r}; correct it'
        ) from error


def _moment(value: object, where: str) -> datetime | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC)
    raise ConfigError(f"{where}: expected expires as a date such as 2027-01-31, got {value!r}; correct it")


def _applies(rule: SuppressionRule, records: pa.Table, columns: FlowColumns) -> Bool[np.ndarray, " flows"]:
    """Whether all conditions apply; a condition on a column that the records lack never does."""
    applies = np.ones(records.num_rows, np.bool_)
    for network, name in ((rule.source, columns.source), (rule.destination, columns.destination)):
        if network is not None:
            applies &= _is_within(records, name, network)
    if rule.class_name is not None:
        applies &= _equals(records, "predicted_class", pa.scalar(rule.class_name))
    if rule.port is not None:
        applies &= _equals(records, columns.destination_port, pa.scalar(rule.port))
    return applies


def _equals(records: pa.Table, name: str | None, value: pa.Scalar) -> Bool[np.ndarray, " flows"]:
    if name is None:
        return np.zeros(records.num_rows, np.bool_)
    return pc.equal(records.column(name), value).fill_null(False).to_numpy()


def _is_within(
    records: pa.Table, name: str | None, network: IPv4Network | IPv6Network
) -> Bool[np.ndarray, " flows"]:
    if name is None:
        return np.zeros(records.num_rows, np.bool_)
    encoded = dictionary_encode(records.column(name))
    within = [_contains(network, text) for text in to_texts(encoded.dictionary).to_pylist()]
    return np.array([*within, False])[encoded.indices.fill_null(len(within)).to_numpy(zero_copy_only=False)]


def _contains(network: IPv4Network | IPv6Network, text: str | None) -> bool:
    try:
        return ip_address((text or "").strip()) in network
    except ValueError:
        return False
