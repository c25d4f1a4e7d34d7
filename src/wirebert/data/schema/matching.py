"""The columns of a file under a schema's names: equal but for case and punctuation, or of one meaning."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from wirebert.data.findings import Finding, format_names
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.schema.spellings import UNIT_SECONDS, bag_of_words, fold, spelling_of
from wirebert.plurals import counted

_BY_NAME_ALONE = (ColumnKind.LABEL, ColumnKind.LABEL_DERIVED, ColumnKind.IDENTIFIER, ColumnKind.CONSTANT)


@dataclass(kw_only=True, slots=True)
class NameMatch:
    """Which columns of a file are columns of a schema under other names."""

    renamed: dict[str, str] = field(default_factory=dict)
    """Column of the schema -> its name in the file, where the two differ."""
    factors: dict[str, float] = field(default_factory=dict)
    """Column of the schema -> what the file's numbers are multiplied by, where units differ."""
    unclear: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Feature that stays absent -> columns of the file that it may be."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was matched, and what was not because a name does not tell enough."""
        found: list[Finding] = []
        if self.renamed:
            pairs = [f"{name!r} as {column!r}{self._scaled(column)}" for column, name in self.renamed.items()]
            found.append(
                Finding(
                    code="names_matched",
                    severity="info",
                    count=len(pairs),
                    example=pairs[0],
                    message=f"{counted(len(pairs), 'column is', 'columns are')} read under the names of the "
                    f"schema: {', '.join(pairs[:5])}{', ...' if len(pairs) > 5 else ''}; rename a column "
                    "that means something else",
                )
            )
        for column, names in self.unclear.items():
            found.append(
                Finding(
                    code="names_unclear",
                    severity="warning",
                    column=column,
                    count=len(names),
                    example=names[0],
                    message=f"feature {column!r} is absent: {format_names(names)} of the file may be it, but "
                    "more than one fits, or unit or what is counted is not certain; if one is it, give it "
                    "that name",
                )
            )
        return tuple(found)

    def _scaled(self, column: str) -> str:
        return f" (times {self.factors[column]:g})" if column in self.factors else ""


def match_names(names: Sequence[str], schema: FlowSchema) -> NameMatch:
    """The columns of the schema that a file with these column names has under other names.

    A name that fits two columns, or two names that fit one, match nothing.

    >>> names = ("Tot Fwd Pkts", "src_bytes")
    >>> columns = tuple(Column(name=name, kind=ColumnKind.COUNT, is_feature=True) for name in names)
    >>> match = match_names(["total_fwd_packets", "IN_BYTES"], FlowSchema(name="cic", columns=columns))
    >>> match.renamed, match.unclear
    ({'Tot Fwd Pkts': 'total_fwd_packets'}, {'src_bytes': ('IN_BYTES',)})
    """
    match = NameMatch()
    own, given = frozenset(schema.names), frozenset(names)
    wanted = [c for c in schema.columns if c.name not in given and not schema.is_context(c.name)]
    unused = [name for name in names if name not in own]
    for key in (fold, _meaning):
        if key is _meaning:
            wanted = [column for column in wanted if column.kind not in _BY_NAME_ALONE]
        by_key = _grouped(unused, key)
        columns_by_key = _grouped([column.name for column in wanted], key)
        for column in wanted:
            candidates = by_key.get(key(column.name), [])
            if len(candidates) == 1 and len(columns_by_key[key(column.name)]) == 1:
                factor = 1.0 if key is fold else _factor(candidates[0], column)
                if factor is not None:
                    match.renamed[column.name] = candidates[0]
                if factor not in (None, 1.0):
                    match.factors[column.name] = factor
        wanted = [column for column in wanted if column.name not in match.renamed]
        unused = [name for name in unused if name not in match.renamed.values()]
    by_family = _grouped(unused, _family)
    for column in wanted:
        if column.is_feature and by_family.get(_family(column.name)):
            match.unclear[column.name] = tuple(by_family[_family(column.name)])
    return match


def _grouped(names: Sequence[str], key: Callable[[str], str]) -> Mapping[str, list[str]]:
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups


def _meaning(name: str) -> str:
    """What columns have in common that may be one; the name itself where its meaning is not clear."""
    spelling = spelling_of(name)
    if spelling is None:
        return bag_of_words(name)
    return spelling.meaning if spelling.is_clear else name


def _family(name: str) -> str:
    spelling = spelling_of(name)
    return bag_of_words(name) if spelling is None else spelling.family


def _factor(name: str, column: Column) -> float | None:
    """What the numbers of a file's column are multiplied by to have the schema's unit; None if a unit is
    unknown."""
    spelling, usual = spelling_of(name), spelling_of(column.name)
    if spelling is None or spelling.role != "duration":
        return 1.0  # times are read by their values, and counts have no unit
    unit = column.unit or (usual.unit if usual else "")
    if not unit or not spelling.unit:
        return None
    return UNIT_SECONDS[spelling.unit] / UNIT_SECONDS[unit]
