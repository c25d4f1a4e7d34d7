"""How far a log has been scored, saved beside its verdicts."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from wirebert.data.context.context import FlowContext
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError, UserError
from wirebert.files import atomic_file, decode_json, open_plain_file
from wirebert.inference.tail import Position
from wirebert.serialization import from_builtins

_METADATA = b"wirebert.follow"


@dataclass(frozen=True, kw_only=True)
class FollowProgress:
    """How far the log has been scored, and the context of its hosts; saved atomically."""

    position: Position | None = None
    """Position in the log; None: nothing has been read."""
    num_flows: int = 0
    num_out_bytes: int = 0
    """Bytes of verdicts on the flows so far; later bytes of the file will be overwritten."""
    num_rejected_bytes: int = 0
    """The same of the file of rejected rows."""
    encoding: str | None = None
    """Of the log, as it was first detected."""
    header: str = ""
    """The lines that name the columns of the log, byte by byte; empty where rows or nothing names them."""
    context: FlowContext | None = None


def state_path(out: Path) -> Path:
    """The file with the progress of a file of verdicts."""
    return out.with_name(out.name + ".state")


def read_progress(out: Path | None, schema: FlowSchema) -> FollowProgress:
    """The saved progress; that of a new start if there is none.

    Raises:
        DataError: the state is damaged, is of a model with another context, or its verdicts are missing.
    """
    fresh = FollowProgress(context=None if schema.context is None else FlowContext(schema.context))
    if out is None or not state_path(out).exists():
        return fresh
    path = state_path(out)
    try:
        with open_plain_file(path) as file:
            table = pa.ipc.open_file(file).read_all()
        table.validate(full=True)
        plain = cast(dict[str, Any], decode_json((table.schema.metadata or {})[_METADATA]))
        context = FlowContext.from_table(table) if plain["has_context"] else None
        progress = replace(from_builtins(FollowProgress, {**plain, "context": None}), context=context)
        counts = [progress.num_flows, progress.num_out_bytes, progress.num_rejected_bytes]
        if progress.position is not None:
            counts += [progress.position.offset, progress.position.num_lines]
        if min(counts) < 0:
            raise ValueError("a negative count")
    except (
        *(pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
        UserError,
    ) as error:
        raise DataError(
            f"{path}: expected the state that --follow keeps, found something else ({error}); remove it and "
            f"{out.name} to start over"
        ) from error
    if (None if context is None else context.windows) != schema.context:
        raise DataError(
            f"{path}: expected the state of a model with the same context windows, found another; choose "
            "another --out"
        )
    if out.stat().st_size < progress.num_out_bytes:
        raise DataError(
            f"--out {out}: expected at least the {progress.num_out_bytes:,} bytes of verdicts recorded in "
            f"{path.name}, found {out.stat().st_size:,}; choose another --out"
        )
    return progress


def write_progress(out: Path, progress: FollowProgress) -> None:
    """Save progress beside the verdicts, atomically."""
    table = pa.table({}) if progress.context is None else progress.context.to_table()
    plain = {
        "position": None if progress.position is None else progress.position.to_dict(),
        "num_flows": progress.num_flows,
        "num_out_bytes": progress.num_out_bytes,
        "num_rejected_bytes": progress.num_rejected_bytes,
        "encoding": progress.encoding,
        "header": progress.header,
        "has_context": progress.context is not None,
    }
    metadata = {**(table.schema.metadata or {}), _METADATA: json.dumps(plain).encode()}
    table = table.replace_schema_metadata(metadata)
    path = state_path(out)
    with atomic_file(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)
