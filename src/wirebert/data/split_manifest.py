"""The split manifest: hashes by which two people see whether they trained and tested on the same rows."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa

from wirebert.data.checks.profile import TableProfile
from wirebert.data.hashing import NULL_HASH, mix, text_hashes
from wirebert.shapes import Bool

FORMAT_VERSION: Final = 2
GROUP_ROWS: Final = 65_536


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitRows:
    """The rows of one split."""

    data_sha256: str
    """Of the sizes and contents of the files that the rows come from."""
    num_rows: int
    content: str
    """Hash of features and labels of the rows, in any order."""
    groups: tuple[str, ...]
    """For each 65,536 consecutive rows of the data: hash of the positions, features and labels of the rows
    that are in the split."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitManifest:
    """The rows of every split of a run. Two runs on the same rows have equal manifests."""

    features: tuple[str, ...]
    """The columns that the hashes cover, beside the label."""
    splits: Mapping[str, SplitRows]
    group_rows: int = GROUP_ROWS
    format_version: int = FORMAT_VERSION


def hash_rows(profile: TableProfile, rows: Bool[np.ndarray, " rows"] | None, data_sha256: str) -> SplitRows:
    """The hashes of a split of a profiled table; `rows` None: all of its rows.

    Numbers count by value, and hashes are 64 bits: they prove sameness among people who trust each other.
    """
    is_in = np.ones(profile.num_rows, np.bool_) if rows is None else rows
    labels = np.append(text_hashes(pa.array(profile.label_names, pa.string())), NULL_HASH)
    hashes, num_in = np.empty(int(is_in.sum()), "<u8"), 0
    groups: list[str] = []
    for start in range(0, profile.num_rows, GROUP_ROWS):
        group = slice(start, start + GROUP_ROWS)
        of_group = mix(profile.feature_hashes[group] ^ mix(labels[profile.labels[group]]))
        numbers = np.arange(len(of_group), dtype=np.uint64)
        chosen = np.column_stack([numbers, of_group])[is_in[group]].astype("<u8")
        groups.append(_digest(chosen.data))
        hashes[num_in : num_in + len(chosen)] = chosen[:, 1]
        num_in += len(chosen)
    hashes.sort()
    return SplitRows(
        data_sha256=data_sha256, num_rows=num_in, content=_digest(hashes.data), groups=tuple(groups)
    )


def _digest(content: memoryview) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
