"""The test ledger: which runs read which test file, one line per read, appended and never changed.

A test file on which many settings were tried has become a validation file. `test_reads.jsonl` is in the
folder of the run folders, so that reads of several runs add up; reports print the count.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from wirebert.errors import RunError
from wirebert.files import decode_json, read_plain_file
from wirebert.report.report import FileUsage

FILE_NAME = "test_reads.jsonl"

_NOT_A_CHOICE = ("train", "test", "seed")
"""Settings for paths and random seeds, which do not change the method."""
_NO_CHOICE_OF_DATA = ("cache", "split_seed")
"""The same within the section `data`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileRead:
    """One command that opened one test file."""

    time: str
    """UTC, to the second."""
    data: str
    """The path as given on the command line."""
    sha256: str
    """Fingerprint of the content, from `Flows.fingerprint`."""
    command: str
    run: str
    """Name of the run folder."""
    settings_sha256: str
    """Hash of the model's settings without data paths and seed; "" if unknown."""
    recipe_sha256: str
    """Sha256 of the recipe file; "" without one."""


def ledger_beside(run: Path) -> Path:
    """The ledger in the parent folder of the run."""
    return run.absolute().parent / FILE_NAME


def record_test_read(
    run: Path,
    *,
    data: str,
    sha256: str,
    command: str,
    settings: Mapping[str, object],
    recipe: Path | None = None,
) -> FileUsage:
    """Add one read to the ledger of the run, and report how often this content was read.

    Several processes may write to one ledger.
    """
    ledger = ledger_beside(run)
    read = FileRead(
        time=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        data=data,
        sha256=sha256,
        command=command,
        run=run.name,
        settings_sha256=settings_hash(settings),
        recipe_sha256=hashlib.sha256(recipe.read_bytes()).hexdigest() if recipe and recipe.exists() else "",
    )
    with ledger.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(asdict(read)) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return FileUsage(sha256, *num_reads(read_ledger(ledger), sha256))


def read_ledger(ledger: Path) -> list[FileRead]:
    """Every read so far; none if there is no ledger.

    Raises:
        RunError: a line is not a read of a test file.
    """
    if not ledger.exists():
        return []
    try:
        lines = read_plain_file(ledger).decode(errors="replace").splitlines()
    except OSError as error:
        raise RunError(
            f"{ledger}: cannot be read ({error.strerror}); check its permissions, or move it away"
        ) from error
    reads: list[FileRead] = []
    for number, line in enumerate(lines, 1):
        try:
            reads.append(FileRead(**cast(dict[str, Any], decode_json(line))))
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{ledger}, line {number}: expected a read of a test file, found {line[:60]!r}; "
                "restore the ledger from a copy, or move it away to start a new one"
            ) from error
    return reads


def num_reads(reads: Sequence[FileRead], sha256: str) -> tuple[int, int]:
    """How often a file with this content was read, and with how many different settings."""
    same = [read for read in reads if read.sha256 == sha256]
    return len(same), len({read.settings_sha256 for read in same})


def settings_hash(settings: Mapping[str, object]) -> str:
    """Sha256 of the settings without seed and data paths; "" for no settings."""
    if not settings:
        return ""
    chosen = {name: value for name, value in settings.items() if name not in _NOT_A_CHOICE}
    data = chosen.get("data")
    if isinstance(data, Mapping):
        section = cast(Mapping[str, object], data)
        chosen["data"] = {name: value for name, value in section.items() if name not in _NO_CHOICE_OF_DATA}
    return hashlib.sha256(json.dumps(chosen, sort_keys=True).encode()).hexdigest()
