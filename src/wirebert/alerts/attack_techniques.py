"""Class of a model -> severity, and tactic and technique of MITRE ATT&CK (`attack_techniques.toml`)."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Final, final

from wirebert.alerts.toml_tables import read_tables, tables_of
from wirebert.errors import ConfigError

SEVERITIES: Final[Mapping[str, int]] = {"low": 21, "medium": 47, "high": 73, "critical": 99}
"""Severity -> its number, as Elastic Security counts."""
_TACTIC, _TECHNIQUE = re.compile(r"TA\d{4}"), re.compile(r"T\d{4}(\.\d{3})?")


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackTechnique:
    """What a class of attacks means to those who respond."""

    severity: str = "medium"
    """A key of `SEVERITIES`."""
    tactic_id: str = ""
    tactic_name: str = ""
    technique_id: str = ""
    """Empty where the class fits no single technique."""
    technique_name: str = ""

    @property
    def severity_number(self) -> int:
        """The severity as a number from 0 to 100."""
        return SEVERITIES[self.severity]


@final
class AttackTechniques:
    """Patterns of class names, in order; the first that matches the whole name, in lower case, is taken.

    >>> AttackTechniques.built_in().of("PortScan").technique_id
    'T1046'
    >>> AttackTechniques.built_in().of("something else")
    AttackTechnique(severity='medium', tactic_id='', tactic_name='', technique_id='', technique_name='')
    """

    def __init__(self, entries: Sequence[tuple[str, AttackTechnique]]) -> None:
        self._entries = [(re.compile(pattern), technique) for pattern, technique in entries]

    @classmethod
    @cache
    def built_in(cls) -> "AttackTechniques":
        """The table for the classes of the known data sets."""
        text = resources.files("wirebert.alerts").joinpath("attack_techniques.toml").read_text("utf-8")
        return cls.parse(tomllib.loads(text), "attack_techniques.toml")

    @classmethod
    def load(cls, path: Path | None) -> "AttackTechniques":
        """The table of a user's file, if there is one, before the built-in one.

        Raises:
            ConfigError: the file cannot be read, or an entry is not valid.
        """
        if path is None:
            return cls.built_in()
        own = cls.parse(read_tables(path, "class"), str(path))
        own._entries += cls.built_in()._entries
        return own

    @classmethod
    def parse(cls, plain: Mapping[str, object], where: str) -> "AttackTechniques":
        """The table of a parsed file."""
        tables = tables_of(plain, "class", where)
        return cls([_entry(table, f"{where}, class {number}") for number, table in enumerate(tables, 1)])

    def of(self, class_name: str) -> AttackTechnique:
        """The entry for a class of a model; medium severity and no technique where none matches."""
        folded = class_name.lower()
        return next((found for pattern, found in self._entries if pattern.fullmatch(folded)), _UNKNOWN)


_UNKNOWN = AttackTechnique()


def _entry(table: object, where: str) -> tuple[str, AttackTechnique]:
    known = ("pattern", *AttackTechnique.__dataclass_fields__)
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise ConfigError(f"{where}: expected a table of texts, got {table!r}; correct it")
    unknown = next((name for name in table if name not in known), None)
    if unknown is not None:
        raise ConfigError(f"{where}: expected keys among {', '.join(known)}, got {unknown!r}; correct it")
    words = {name: value for name, value in table.items() if name != "pattern"}
    try:
        re.compile(table["pattern"])
    except (KeyError, re.error) as error:
        raise ConfigError(
            f"{where}: expected pattern as a regular expression, got {table.get('pattern')!r}; correct it"
        ) from error
    technique = AttackTechnique(**words)
    for name, allowed, value in (
        ("severity", re.compile("|".join(SEVERITIES)), technique.severity),
        ("tactic_id", _TACTIC, technique.tactic_id or "TA0000"),
        ("technique_id", _TECHNIQUE, technique.technique_id or "T0000"),
    ):
        if not allowed.fullmatch(value):
            raise ConfigError(f"{where}: expected {name} like {allowed.pattern}, got {value!r}; correct it")
    return table["pattern"], technique
