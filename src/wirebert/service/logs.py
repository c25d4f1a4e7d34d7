"""The log of the service: one JSON object a line, on standard error, never the content of a request."""

import json
import logging
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, final

LOG: Final = logging.getLogger("wirebert.service")
"""Logger of the service; further fields of an event go into `extra={"fields": {...}}`."""


@final
class JsonLines(logging.Formatter):
    """Formats each event as one JSON object; never the content of a request."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        entry: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=True)


@contextmanager
def json_logs() -> Generator[None]:
    """Log the service and uvicorn to standard error, one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    loggers = {LOG: logging.INFO, logging.getLogger("uvicorn"): logging.WARNING}
    before = [(logger, logger.level, logger.propagate) for logger in loggers]
    for logger, level in loggers.items():
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, level, propagates in before:
            logger.removeHandler(handler)
            logger.setLevel(level)
            logger.propagate = propagates
