"""Limits on requests, per client and in total."""

# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false
# (Arrow arrays are generic in the type stubs alone: the classes take no arguments at run time.)

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from wirebert.errors import ConfigError, UserError


class RequestError(UserError):
    """A request that cannot be answered; the client can fix it, or retry later."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        """Status of the HTTP response."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Bounds on requests. What is beyond them is refused with a sentence, and nothing grows without end."""

    max_body_mb: int = 8
    """Size of one request's body, in [1, 1024] MB."""

    max_rows: int = 10_000
    """Flows of one request, at least 1."""

    max_columns: int = 512
    """Columns of one request, those that the model does not know included."""

    max_field_characters: int = 8_192
    """Length of one value. The model reads less of it."""

    max_explained: int = 256
    """Flows of one request that are explained, by alert score; each costs as much as many verdicts."""

    max_queue: int = 128
    """Requests that wait for the scoring thread, at least 1; more get 503."""

    max_held_bodies: int = 8
    """Bodies of the largest size whose memory all bodies and answers share, at least 2."""

    max_connections: int = 512
    """Open connections."""

    batch_wait_ms: float = 2.0
    """How long a request waits for others that are scored along with it."""

    head_s: float = 10.0
    """Seconds in which the head of a request has to come, and in which an idle connection is kept."""

    body_s: float = 20.0
    """Seconds in which the body of a request has to come."""

    write_s: float = 20.0
    """Seconds in which a client has to read the next 64 KB of an answer."""

    answer_s: float = 30.0
    """Seconds after which a request that still waits gets 503."""

    def __post_init__(self) -> None:
        if not 1 <= self.max_body_mb <= 1024:
            raise ConfigError(f"--max-body-mb must be in [1, 1024], got {self.max_body_mb}")
        for name in ("max_rows", "max_queue"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")

    @property
    def max_body_bytes(self) -> int:
        """`max_body_mb` in bytes."""
        return self.max_body_mb << 20

    @property
    def max_held_bytes(self) -> int:
        """Memory for all bodies together."""
        return self.max_held_bodies * self.max_body_bytes

    def require_rows(self, num_rows: int) -> None:
        """Refuse a request with more flows."""
        if num_rows > self.max_rows:
            raise RequestError(
                413, f"expected at most {self.max_rows:,} flows, found more; send them in several"
            )

    def require_columns(self, num_columns: int) -> None:
        """Refuse a request with more columns."""
        if num_columns > self.max_columns:
            raise RequestError(413, f"expected at most {self.max_columns:,} columns, found {num_columns:,}")

    def require_short(self, name: str, texts: pa.StringArray | pa.ChunkedArray) -> None:
        """Refuse a column with longer values."""
        longest = pc.max(pc.binary_length(texts)).as_py() or 0
        if longest > self.max_field_characters:
            raise RequestError(
                413,
                f"column {name!r}: expected values of at most {self.max_field_characters:,} bytes, found one "
                f"of {longest:,}",
            )
