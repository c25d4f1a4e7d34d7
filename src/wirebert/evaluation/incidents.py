"""Alerts on labelled rows, taken together as incidents, as `wirebert.alerts` does it on traffic."""

from typing import final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.flow_columns import flow_columns
from wirebert.alerts.grouping import group_keys, incident_ids
from wirebert.alerts.incident_records import IncidentSettings, alert_classes
from wirebert.data.arrow_columns import combine_chunks, to_texts
from wirebert.data.times import seconds_of
from wirebert.metrics.incidents import IncidentMetrics, incident_metrics


@final
class LabelledIncidents:
    """Collects the verdict records of labelled flows, block by block; unlabelled flows are left out."""

    def __init__(self, benign: str | None, settings: IncidentSettings | None = None) -> None:
        self._benign, self._settings = benign, settings or IncidentSettings()
        self._blocks: list[pa.Table] = []

    def add(self, records: pa.Table) -> None:
        """Add records with their column `true_class`."""
        columns = flow_columns(records.column_names)
        if self._benign is None or columns.time is None or columns.source is None:
            return
        if "verdict" in records.column_names:
            self._blocks.append(
                pa.table(
                    {
                        "source": to_texts(records[columns.source]),
                        "time_s": pa.array(seconds_of(records[columns.time])),
                        "alerted_as": alert_classes(records, self._benign),
                        "is_alert": pc.equal(records["verdict"], pa.scalar("alert")),
                        "score": records["attack_score"],
                        "true_class": to_texts(records["true_class"]),
                    }
                )
            )

    def metrics(self) -> IncidentMetrics | None:
        """Metrics of the incidents; None where there are no verdicts, sources, times or labels."""
        if not self._blocks:
            return None
        assert self._benign is not None
        flows = pa.concat_tables(self._blocks).combine_chunks()
        flows = flows.filter(pc.is_valid(flows["true_class"]))
        time_s = flows["time_s"].to_numpy()
        if not flows.num_rows or np.isnan(time_s).all():
            return None
        true_class = combine_chunks(flows["true_class"])
        is_attack = pc.not_equal(true_class, pa.scalar(self._benign)).to_numpy(zero_copy_only=False)
        settings, scores, is_alert = self._settings, flows["score"].to_numpy(), flows["is_alert"].to_numpy()
        raised = incident_ids(
            group_keys(flows["source"], combine_chunks(flows["alerted_as"]), settings.group_by),
            time_s,
            is_alert,
            settings.gap_s,
            scores,
            settings.min_score,
        )
        keys = group_keys(flows["source"], true_class, settings.group_by)
        true = incident_ids(keys, time_s, is_attack, settings.gap_s)
        return incident_metrics(raised, true, time_s, is_alert)
