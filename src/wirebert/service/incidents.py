"""Incidents that a monitor wrote, for the page, and the marks that people give them."""

import json
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal, final

import msgspec

from wirebert.errors import ConfigError
from wirebert.files import try_lock

Mark = Literal["benign", "bad", "unsure"]
MARKS: Final[tuple[Mark, ...]] = ("benign", "bad", "unsure")
MAX_KEPT: Final = 2_000
"""Incidents that are kept, the latest."""
_PIECE_BYTES: Final = 4 << 20


class MarkRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of `POST /v1/marks`."""

    incident_id: str
    mark: Mark
    class_name: str | None = None
    """The class that it is, if somebody knows."""


@final
class Incidents:
    """The latest state of each incident in a file of `wirebert monitor --to FILE,write=incidents`.

    Args:
        path: file of events, which grows and is rotated.
        feedback: file that marks are appended to.

    Raises:
        ConfigError: the feedback cannot be written, or another service writes it.
    """

    def __init__(self, path: Path, feedback: Path | None = None) -> None:
        self._path, self._lock = path, Lock()
        self._feedback_path = feedback or path.with_name(f"{path.name}.feedback.jsonl")
        self._incidents: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._marks: dict[str, str] = {}
        self._place = (0, 0)
        """Inode of the file, and bytes of it that are read."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            self._feedback = os.fdopen(os.open(self._feedback_path, flags, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise ConfigError(
                f"--feedback {self._feedback_path}: cannot be written ({error.strerror}); choose another path"
            ) from error
        if not try_lock(self._feedback):
            self._feedback.close()
            raise ConfigError(f"--feedback {self._feedback_path}: another service writes it; choose another")
        for line in self._feedback.readall().splitlines():
            self._remember_mark(line)

    def latest(self) -> Sequence[Mapping[str, Any]]:
        """The incidents as they are now, each with its mark, the most severe first."""
        with self._lock:
            self._read_on()
            found = [{**one, "mark": self._marks.get(name)} for name, one in self._incidents.items()]
        return sorted(found, key=lambda one: (-one["severity"], -one["last_s"]))

    def mark(self, request: MarkRequest, by: str) -> bool:
        """Write a mark for each example flow of an incident; False if there is no such incident."""
        with self._lock:
            self._read_on()
            incident = self._incidents.get(request.incident_id)
            if incident is None:
                return False
            said = {
                "mark": request.mark,
                "class": request.class_name,
                "by": by,
                "time": datetime.now(UTC).isoformat(timespec="seconds"),
                "incident_id": request.incident_id,
            }
            lines = [json.dumps({"flow": flow, **said}) + "\n" for flow in incident["examples"] or [{}]]
            self._feedback.write("".join(lines).encode())
            os.fsync(self._feedback.fileno())
            self._marks[request.incident_id] = request.mark
        return True

    def close(self) -> None:
        """Close the feedback."""
        self._feedback.close()

    def _remember_mark(self, line: bytes) -> None:
        try:
            said = msgspec.json.decode(line)
            self._marks[said["incident_id"]] = said["mark"]
        except (msgspec.DecodeError, LookupError, TypeError):
            return  # written by somebody else, or half a line after a power failure

    def _read_on(self) -> None:
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                inode, offset = self._place
                if inode != status.st_ino or offset > status.st_size:
                    offset = 0
                file.seek(offset)
                while (chunk := file.read(_PIECE_BYTES)) and (end := chunk.rfind(b"\n") + 1):
                    for line in chunk[:end].splitlines():
                        self._take(line)
                    offset += end
                    file.seek(offset)
                self._place = status.st_ino, offset
        except OSError:
            return  # not there yet, or just being rotated

    def _take(self, line: bytes) -> None:
        try:
            event = msgspec.json.decode(line)
            kind, name = event["event"], event["incident_id"]
        except (msgspec.DecodeError, LookupError, TypeError):
            return  # of another kind
        event["state"] = "closed" if kind == "incident_closed" else "open"
        self._incidents[name] = event
        self._incidents.move_to_end(name)
        while len(self._incidents) > MAX_KEPT:
            self._incidents.popitem(last=False)
