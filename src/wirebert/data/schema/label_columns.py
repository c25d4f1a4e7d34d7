"""Which columns of an unknown table are labels, and what a second label column tells of the first."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.data.schema.column_names import LABELS, WEAK_LABELS, plain_name
from wirebert.data.schema.label_names import (
    ANY_LABEL,
    benign_names,
    fold_label,
    is_placeholder,
    means_benign,
)

MAX_LABELS = 500

_ABOUT_ATTACKS = re.compile(
    r"attack|threat|malware|malicious|tool|label|class|categor|type|tactic|technique|family|campaign|cve"
    r"|signature|alert|scenario|severity"
)
"""Words in the names of columns that describe attacks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelMeaning:
    """What is known of the labels of a table, beyond their names."""

    benign_labels: frozenset[str] = frozenset()
    """Labels of rows without an attack."""
    benign: str | None = None
    """The benign class, where its name does not say so."""
    label_map: Mapping[str, str] = field(default_factory=dict[str, str])
    """Label -> class, for labels that count as the benign class although their names do not say so."""

    def null_values(self, usual: tuple[str, ...]) -> tuple[str, ...]:
        """Texts that mean "no label": the usual ones, but for those that mean "no attack" here."""
        return tuple(text for text in usual if text not in self.benign_labels)


def label_candidates(distinct: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """Columns that may be the label -> 1 if the name alone implies it, 0 if the values are needed too.

    Args:
        distinct: Column -> its distinct values.
    """
    candidates: dict[str, int] = {}
    for name, texts in distinct.items():
        if not 1 <= len(texts) <= MAX_LABELS:
            continue
        has_benign = any(means_benign(text) or fold_label(text) == "background" for text in texts)
        if plain_name(name) in LABELS:
            candidates[name] = 1
        elif has_benign or (plain_name(name) in WEAK_LABELS and name in list(distinct)[-3:]):
            candidates[name] = 0
    return candidates


def is_second_label(name: str, texts: pa.Array, label: pa.Array, benign: frozenset[str]) -> bool:
    """Whether a column that may be a label says the same of the rows as the label.

    Either one determines the other; or all benign rows, and no others, have one value that stands for "no
    attack": a benign name, or in a column about attacks a placeholder or nothing.

    >>> label = pa.array(["benign", "dos", "dos", "scan"])
    >>> tool = pa.array(["none", "hping", "slowloris", "hping"])
    >>> is_second_label("attack_tool", tool, label, frozenset({"benign"}))
    True
    """
    is_about_attacks = _ABOUT_ATTACKS.search(plain_name(name)) is not None
    in_benign: dict[str | None, bool] = {}
    pairs = pa.table({"other": texts, "label": label}).group_by(["other", "label"]).aggregate([])
    others: list[str | None] = pairs["other"].to_pylist()
    for other, own in zip(others, pairs["label"].to_pylist(), strict=True):
        is_benign = own in benign
        if in_benign.setdefault(other, is_benign) is not is_benign:
            return False
    quiet = [text for text, is_benign in in_benign.items() if is_benign]
    if len(quiet) != 1 or len(in_benign) == 1:
        return False
    text = quiet[0]
    return is_about_attacks if text is None or is_placeholder(text) else means_benign(text)


def determines(other: pa.Array, label: pa.Array) -> bool:
    """Whether one column is a function of the other, in either direction."""
    table = pa.table({"other": other, "label": label})
    num_pairs = table.group_by(["other", "label"]).aggregate([]).num_rows
    return num_pairs in (
        pc.count_distinct(other, mode="all").as_py(),
        pc.count_distinct(label, mode="all").as_py(),
    )


def label_meaning(label: pa.Array, siblings: Sequence[pa.Array]) -> LabelMeaning:
    """The labels that mean "no attack": by their names, and by the other label columns of the same rows.

    >>> sibling = pa.array(["0", "0", "1"])
    >>> label_meaning(pa.array(["Benign", "Background", "scan"]), [sibling]).label_map
    {'*': '*', 'Background': 'Benign'}
    """
    texts = [str(text) for text in pc.unique(label).drop_null().to_pylist()]
    named = benign_names(text for text in texts if not is_placeholder(text))
    marked = benign_by_sibling(label, siblings)
    benign = next((text for text in (*named, *marked) if text), "benign" if marked else None)
    others = [text for text in marked if text != benign and not means_benign(text)]
    return LabelMeaning(
        benign_labels=frozenset((*named, *marked)),
        benign=None if named else benign,
        label_map={ANY_LABEL: ANY_LABEL, **dict.fromkeys(others, benign or "")} if others else {},
    )


def benign_by_sibling(label: pa.Array, siblings: Sequence[pa.Array]) -> tuple[str, ...]:
    """Labels whose rows are all benign by another label column, the most frequent first.

    None if no other column knows what is benign, or if all labels would be.

    >>> sibling = pa.array(["normal", "attacker", "normal"])
    >>> benign_by_sibling(pa.array(["---", "scan", "---"]), [sibling])
    ('---',)
    """
    for sibling in siblings:
        words = benign_names(str(text) for text in pc.unique(sibling).drop_null().to_pylist())
        is_benign = pc.is_in(sibling, value_set=pa.array(words, pa.string()))
        rows = pa.table(
            {"label": label, "benign": is_benign.cast(pa.int8()), "row": is_benign.cast(pa.int8())}
        )
        grouped = rows.group_by("label").aggregate([("benign", "min"), ("row", "count")]).to_pylist()
        found = [row for row in grouped if row["label"] is not None and row["benign_min"]]
        if words and 0 < len(found) < len([row for row in grouped if row["label"] is not None]):
            ordered = sorted(found, key=lambda row: (-row["row_count"], row["label"]))
            return tuple(str(row["label"]) for row in ordered)
    return ()
