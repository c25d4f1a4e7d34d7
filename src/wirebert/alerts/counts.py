"""What a monitor counts, in heartbeats and at /metrics."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from wirebert.alerts.incident_records import alert_classes
from wirebert.shapes import Bool


@dataclass(kw_only=True, slots=True)
class MonitorCounts:
    """Totals since the monitor was started."""

    flows: Counter[str] = field(default_factory=Counter[str])
    """Source -> flows with a verdict."""
    verdicts: Counter[str] = field(default_factory=Counter[str])
    alerts: Counter[str] = field(default_factory=Counter[str])
    """Predicted class -> alerts and unknown flows that no suppression hides."""
    num_suppressed: int = 0
    num_rejected: int = 0
    """Rows without a verdict."""
    num_absent: int = 0
    """Features of all flows whose column their log lacks."""
    num_unseen: int = 0
    """Features of all flows with a value that training lacked."""

    def add(
        self, source: str, records: pa.Table, is_alert: Bool[np.ndarray, " flows"], benign: str | None
    ) -> None:
        """Count verdict records of one source."""
        self.flows[source] += records.num_rows
        if "verdict" in records.column_names:
            self.verdicts.update(_counted(records.column("verdict")))
        if is_alert.any():
            self.alerts.update(_counted(alert_classes(records.filter(pa.array(is_alert)), benign)))
        for name in ("num_absent", "num_unseen"):
            if name in records.column_names:
                total = pc.sum(records.column(name)).as_py() or 0
                setattr(self, name, getattr(self, name) + total)

    def to_dict(self, num_features: int) -> dict[str, object]:
        """The counts of a heartbeat."""
        num_flows = self.flows.total()
        num_values = max(1, num_flows * num_features)
        return {
            "flows": num_flows,
            "flows_by_source": dict(self.flows),
            "verdicts": dict(self.verdicts),
            "alerts": self.alerts.total(),
            "alerts_by_class": dict(self.alerts),
            "alert_share": self.alerts.total() / max(1, num_flows),
            "suppressed": self.num_suppressed,
            "rejected_rows": self.num_rejected,
            "absent_share": self.num_absent / num_values,
            "unseen_share": self.num_unseen / num_values,
        }


def _counted(texts: pa.Array | pa.ChunkedArray) -> Counter[str]:
    return Counter(map(str, texts.to_pylist()))
