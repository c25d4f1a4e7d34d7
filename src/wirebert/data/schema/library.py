"""Schemas as TOML files: built-in ones and the user's, read, written, and matched to the columns of a
file."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from wirebert.data.schema.schema import ColumnKind, FlowSchema
from wirebert.errors import SchemaError
from wirebert.files import read_toml_file


def read_schema(path: Path) -> FlowSchema:
    """The schema in a TOML file."""
    try:
        plain = read_toml_file(path)
    except OSError as error:
        raise SchemaError(f"{path}: the schema cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise SchemaError(
            f"{path}: expected a schema in TOML, found invalid TOML ({error}); correct the file"
        ) from error
    return FlowSchema.from_dict(plain, str(path))


def write_schema(schema: FlowSchema, path: Path) -> None:
    """Write the schema as TOML into a new file, for people to edit and for `read_schema`.

    Raises:
        SchemaError: the file exists already (it is not changed), or cannot be written.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            import tomli_w

            file.write(tomli_w.dumps(schema.to_dict()))
    except OSError as error:
        raise SchemaError(
            f"{path}: the schema cannot be written ({error.strerror}); choose another name"
        ) from error


def known_schemas() -> dict[str, FlowSchema]:
    """The schemas that come with wirebert, by name."""
    files = Path(__file__).with_name("known").glob("*.toml")
    read = [
        FlowSchema.from_dict(tomllib.loads(file.read_text(encoding="utf-8")), file.name) for file in files
    ]
    return {schema.name: schema for schema in sorted(read, key=lambda schema: schema.name)}


def match_schema(names: Sequence[str] | None, rows: Sequence[Sequence[str]]) -> FlowSchema | None:
    """The built-in schema that fits these column names or, without names, these rows; None if none does.

    A header must name all columns of the schema (labels may be absent), and no others. Rows must have as many
    fields as the schema has columns, and 95 % of them must have values that the schema's `match` and its
    label map allow.

    >>> match_schema(["dur", "proto"], []) is None
    True
    """
    for schema in known_schemas().values():
        if names is not None:
            labels = {
                c.name for c in schema.columns if c.kind in (ColumnKind.LABEL, ColumnKind.LABEL_DERIVED)
            }
            if set(names) <= set(schema.names) <= set(names) | labels:
                return schema
        elif rows and schema.match and _rows_match(schema, rows):
            return schema
    return None


def _rows_match(schema: FlowSchema, rows: Sequence[Sequence[str]]) -> bool:
    names = schema.positional_names(len(rows[0]))
    if names is None:
        return False
    allowed = {names.index(name): set(values) for name, values in schema.match.items() if name in names}
    if schema.label is not None and schema.label in names and schema.label_map:
        allowed[names.index(schema.label)] = set(schema.label_map)
    whole = [row for row in rows if len(row) == len(names)]
    fitting = [row for row in whole if all(row[at] in values for at, values in allowed.items())]
    return bool(allowed) and len(fitting) >= 0.95 * len(rows)
