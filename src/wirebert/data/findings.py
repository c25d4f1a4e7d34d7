"""A finding: one coded sentence about traffic, and what may be wrong with it. Checks, readers, splits and
models report findings; a finding changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wirebert.shapes import Bool

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")
CODES: tuple[str, ...] = tuple(
    """
    absent_features attack_or_not benign_unknown classes_not_tested conflicting_labels constant_column
    control_characters doubtful_labels drift drift_features drift_lost drift_scores
    drift_unknown duplicate_column duplicate_rows
    duplicates_without_endpoints expired_suppression footer identifier_like imbalance infinite_values
    invalid_values
    label_derived label_leak label_spelling labels_matched lost_lines missing_markers missing_values
    missing_with_a_class mixed_types names_matched names_unclear near_duplicate_texts
    near_duplicate_texts_in_test nearly_boolean_column nearly_constant_column negative_values
    new_classes new_labels no_shared_rows odd_column_name output_changed padded_values rare_class
    rejected_rows reload_refused reloaded replaced_bytes same_hosts set_aside shared_rows sink_down
    sink_up skipped_files sorted_by_label split_lacks_classes split_purged_rows split_shares_context
    split_shares_flows split_shares_rows split_shares_texts spool_full state_unsaved
    time_overlap times_written_differently units_read unlabelled_rows unreadable_times unseen_values
    untrusted_threshold values_matched
    """.split()
)
"""Stable names of everything that checks, splits and models report."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One problem or remark about the data, with its remedy."""

    code: str
    """Stable name of the finding, one of `CODES`."""
    severity: Severity
    column: str | None = None
    """The affected column; None for the whole table."""
    count: int = 0
    """Affected rows."""
    example: str = ""
    """One example, such as a value or a row."""
    message: str
    """The problem and the remedy, in one sentence."""
    is_accepted: bool = False
    """Accepted by the recipe, so it fails no check."""


def row_name(mask: Bool[np.ndarray, " rows"]) -> str:
    """`row 3` for the first row where the mask is true."""
    return f"row {int(np.argmax(mask)) + 1}"


def format_row_count(count: int, total: int) -> str:
    """`3 of 12 rows (25.0 %)`."""
    fraction = 100 * count / max(total, 1)
    return f"{count:,} of {total:,} rows ({fraction:.1f} %)"


def format_names(names: Sequence[str], limit: int = 5) -> str:
    """The first names, quoted, and how many more there are."""
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
