"""How far a monitor has come: in each source, and in each file that it writes. Saved in one step."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

import io
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from wirebert.data.context.context import FlowContext
from wirebert.data.schema.schema import FlowSchema
from wirebert.errors import DataError, UserError
from wirebert.files import atomic_file, decode_json, open_plain_file
from wirebert.serialization import from_builtins

_METADATA = b"wirebert.monitor"


@dataclass(frozen=True, kw_only=True)
class SourceProgress:
    """How far a source has been scored, and the context of its hosts."""

    position: Mapping[str, Any] | None = None
    """Position in it, as its kind writes it; None: nothing has been read."""
    num_flows: int = 0
    identity: str = ""
    """With the number of a flow it names the flow: the same wherever and however often it is scored."""
    encoding: str | None = None
    """Of a log, as it was first detected."""
    header: str = ""
    """The lines that name the columns of a log, byte by byte; empty where rows or nothing names them."""
    context: FlowContext | None = None
    context_then: pa.Table | None = None
    """The state of the context at the position, while the context itself is ahead of it."""

    @classmethod
    def fresh(cls, schema: FlowSchema, identity: str | None = None) -> "SourceProgress":
        """That of a source of which nothing has been read; without an identity, it gets a new one."""
        return cls(
            identity=identity or secrets.token_hex(8),
            context=None if schema.context is None else FlowContext(schema.context),
        )


@dataclass(frozen=True, kw_only=True)
class MonitorState:
    """What a monitor needs to go on as if it had never stopped."""

    sources: Mapping[str, SourceProgress] = field(default_factory=dict)
    outputs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Output -> where what belongs to these flows ends; what is behind it will be written again."""
    incidents: Mapping[str, Any] | None = None
    """The open incidents, as their tracker writes them."""


def read_state(path: Path, schema: FlowSchema) -> MonitorState:
    """The saved state; that of a new start if there is none.

    Raises:
        DataError: the state is damaged, or is of a model with another context.
    """
    if not path.exists():
        return MonitorState()
    try:
        with open_plain_file(path) as file:
            table = pa.ipc.open_file(file).read_all()
        table.validate(full=True)
        plain = cast(dict[str, Any], decode_json((table.schema.metadata or {})[_METADATA]))
        contexts = cast(list[bytes | None], table.column("context").to_pylist())
        sources = {
            name: replace(
                from_builtins(SourceProgress, {**one, "context": None}),
                context=None if context is None else _context_of(context),
            )
            for (name, one), context in zip(plain["sources"].items(), contexts, strict=True)
        }
        state = MonitorState(sources=sources, outputs=plain["outputs"], incidents=plain["incidents"])
        if any(progress.num_flows < 0 for progress in sources.values()):
            raise ValueError("a negative count")
    except (
        *(pa.ArrowException, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError),
        UserError,
    ) as error:
        raise DataError(
            f"{path}: expected the state that `wirebert monitor` keeps, found something else ({error}); "
            "remove its folder, and what was written, to start over"
        ) from error
    for progress in state.sources.values():
        if (None if progress.context is None else progress.context.windows) != schema.context:
            raise DataError(
                f"{path}: expected the state of a model with the same context windows, found another; choose "
                "another --state"
            )
    return state


def write_state(path: Path, state: MonitorState) -> None:
    """Save the state, atomically."""
    plain = {
        "sources": {
            name: {key: value for key, value in vars(progress).items() if "context" not in key}
            for name, progress in state.sources.items()
        },
        "outputs": {name: dict(end) for name, end in state.outputs.items()},
        "incidents": state.incidents,
    }
    contexts = [_context_bytes(progress) for progress in state.sources.values()]
    table = pa.table({"context": pa.array(contexts, pa.large_binary())})
    table = table.replace_schema_metadata({_METADATA: json.dumps(plain).encode()})
    with atomic_file(path) as temporary, pa.ipc.new_file(str(temporary), table.schema) as writer:
        writer.write_table(table)


def _context_bytes(progress: SourceProgress) -> bytes | None:
    if progress.context is None:
        return None
    then, sink = progress.context_then, io.BytesIO()
    table = progress.context.to_table() if then is None else then
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def _context_of(content: bytes) -> FlowContext:
    table = pa.ipc.open_stream(content).read_all()
    table.validate(full=True)
    return FlowContext.from_table(table)
