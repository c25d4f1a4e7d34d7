"""A file under a schema that is given: its columns by the schema's names, and what it may leave out."""

from dataclasses import replace

from wirebert.data.files import FlowFile
from wirebert.data.formats import optional_fields
from wirebert.data.readers.json_lines import JsonLines
from wirebert.data.schema.matching import match_names
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.data.schema.spellings import fold
from wirebert.errors import SchemaError


def with_optional(part: FlowFile, schema: FlowSchema) -> FlowFile:
    """The file with the features that its rows or its sensor may leave out: they are missing, not absent.

    So the verdict of a row whose format names the columns in each row does not depend on the other rows.
    """
    lacking = [column.name for column in schema.features if column.name not in part.names]
    lacking = [name for name in lacking if not schema.is_context(name)]
    if part.dialect.format in ("json_lines", "key_values"):
        source = part.source
        if isinstance(source, JsonLines):  # pieces of a growing log may name what its head does not
            source = replace(source, names=(*source.names, *lacking))
        return replace(part, names=(*part.names, *lacking), unnamed=tuple(lacking), source=source)
    own = frozenset[str]() if part.source is None else optional_fields(part.source, part.names)
    return replace(part, names=(*part.names, *(name for name in lacking if name in own)))


def with_community_id(schema: FlowSchema, part: FlowFile) -> FlowSchema:
    """The schema, also with the Community ID where the file has one: verdicts carry it on."""
    if "community_id" in schema.names or "community_id" not in part.names:
        return schema
    column = Column(name="community_id", kind=ColumnKind.IDENTIFIER, is_feature=False)
    return replace(schema, columns=(*schema.columns, column))


def under_schema(part: FlowFile, schema: FlowSchema) -> FlowFile:
    """The file under the schema's names; a SchemaError if it does not fit the schema."""
    if part.has_names:
        match, raw_names = match_names(part.names, schema), part.names
        columns = {name: column for column, name in match.renamed.items()}
        part = replace(part, names=tuple(columns.get(name, name) for name in part.names), match=match)
        features = {column.name for column in schema.features}
        named = {
            *raw_names,
            *(column for column, name in match.renamed.items() if fold(column) == fold(name)),
        }
        if features.isdisjoint(named) and 2 * len(features & set(part.names)) < len(features):
            raise SchemaError(
                f"{part.where}: expected columns of schema {schema.name!r} ({', '.join(schema.names[:8])}, "
                f"...), found {', '.join(raw_names[:8])}, ...; give a file of that layout or, to train or "
                "inspect, another --schema"
            )
        return part
    names = schema.positional_names(len(part.names))
    if names is None:
        raise SchemaError(
            f"{part.where}: expected the {len(schema.columns)} columns of schema {schema.name!r}, found "
            f"{len(part.names)} and no header; add a header line or, to train or inspect, give another "
            "--schema"
        )
    return replace(part, names=names, notes={})
