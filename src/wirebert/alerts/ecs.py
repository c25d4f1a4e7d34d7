"""Verdict records and incidents as events of the Elastic Common Schema, one JSON object each."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

import pyarrow as pa

from wirebert.alerts.attack_techniques import AttackTechniques
from wirebert.alerts.incidents import IncidentEvent

ECS_VERSION: Final = "9.4.0"
"""The version of the Elastic Common Schema that events follow; its fields are in `ecs_fields.json`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EcsContext:
    """What all events of a model share."""

    model_sha256: str
    """Names the model that gave the verdicts."""
    benign: str | None = None
    """The class that means no attack, if there is one."""
    version: str = ""
    """Version of wirebert."""
    techniques: AttackTechniques = field(default_factory=AttackTechniques.built_in)


def ecs_events(records: pa.Table, context: EcsContext) -> list[bytes]:
    """One event for each verdict record, in order; without the end of the line.

    Alerts are of kind `alert`, others of kind `event`. A column `event_id` of the records, if there
    is one, names the events; else their id is made of the flow's time, identifier, ends and row, and of the
    model.
    """
    return []


def ecs_incidents(events: Iterable[IncidentEvent], context: EcsContext) -> list[bytes]:
    """One event for each event of an incident; `event.action` tells which."""
    return []
