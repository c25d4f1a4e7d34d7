"""Checkpoints: everything an interrupted training needs to resume bit-identically.

A checkpoint is a folder `checkpoint-00000123` with two files: `tensors.safetensors` (model and optimizer) and
`state.json` (plain values, and the sha256 of both files). It is written under a temporary name, synced to
disk and then renamed, so a folder with the final name is complete. A checkpoint damaged later is detected and
skipped. Only the newest are kept.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wirebert.errors import CheckpointError, RunError
from wirebert.files import fsync_path, open_plain_file, read_json_file

VERSION: Final = 4
TENSORS: Final = "tensors.safetensors"
STATE: Final = "state.json"
PREFIX: Final = "checkpoint-"
PARTIAL: Final = ".partial-"

Scalars = dict[str, object]
"""What JSON can hold."""


class Checkpoint(NamedTuple):
    """Saved state: tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    scalars: Scalars


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """The checkpoints of one run; only the newest stay on disk."""

    path: Path
    keep: int = 2
    """Number of checkpoints that stay on disk."""

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        names = [path.name.removeprefix(PREFIX) for path in self.path.glob(f"{PREFIX}*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def place(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.path / f"{PREFIX}{step:08d}"

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then delete old ones.

        Raises:
            RunError: the disk is full or not writable; older checkpoints are untouched.
        """
        partial = self.path / f"{PARTIAL}{step}"
        try:
            self._write(partial, step, checkpoint)
            return self._put_in_place(partial, step)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(partial, ignore_errors=True)  # a full disk needs the room
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise RunError(
                f"{self.place(step)}: the checkpoint cannot be written ({reason}); make room, then go on "
                "with --resume"
            ) from error

    def _write(self, partial: Path, step: int, checkpoint: Checkpoint) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        self._clear_partial()
        partial.mkdir()
        save_file(checkpoint.tensors, partial / TENSORS)
        body = checkpoint.scalars | {
            "version": VERSION,
            "step": step,
            "tensors_sha256": _sha256(partial / TENSORS),
        }
        text = json.dumps({"sha256": _digest(body), "state": body}, indent=1)
        (partial / STATE).write_text(text, encoding="utf-8")
        shutil.copymode(partial / STATE, partial / TENSORS)  # safetensors itself sets 0600
        for path in (partial / TENSORS, partial / STATE, partial):
            fsync_path(path)

    def _put_in_place(self, partial: Path, step: int) -> Path:
        # Checkpoints at or after this step are damaged, or newer than the checkpoint that was resumed.
        for stale in [later for later in self.steps() if later >= step]:
            self._delete(stale)
        partial.rename(self.place(step))
        fsync_path(self.path)
        for old in self.steps()[: -self.keep]:
            self._delete(old)
        return self.place(step)

    def _delete(self, step: int) -> None:
        # Renamed first, so that an interrupted deletion leaves no incomplete checkpoint.
        partial = self.path / f"{PARTIAL}old-{step}"
        self.place(step).rename(partial)
        shutil.rmtree(partial)

    def _clear_partial(self) -> None:
        for leftover in self.path.glob(f"{PARTIAL}*"):
            shutil.rmtree(leftover)

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest intact checkpoint; None if there are no checkpoints. Each damaged one gives a warning.

        Raises:
            RunError: every checkpoint is damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self.load(step)
            except CheckpointError as error:
                warn(f"{error}; going back to the checkpoint before {self.place(step).name}")
        if steps:
            raise RunError(f"{self.path}: every checkpoint is damaged; delete the folder to start over")
        return None

    def load(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
            CheckpointError: it is missing or damaged.
        """
        folder, scalars = self.place(step), self._scalars(step)
        try:
            if _sha256(folder / TENSORS) != scalars["tensors_sha256"]:
                raise CheckpointError(f"{folder}: {TENSORS} is damaged")
            return Checkpoint(load_file(folder / TENSORS), scalars)
        except (OSError, SafetensorError, KeyError) as error:
            raise CheckpointError(f"{folder}: {TENSORS} is damaged or missing") from error

    def _scalars(self, step: int) -> Scalars:
        folder = self.place(step)
        try:
            content = cast(Mapping[str, object], read_json_file(folder / STATE))
            expected, body = content["sha256"], content["state"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{folder}: {STATE} is damaged or missing") from error
        if not isinstance(body, dict) or _digest(cast(Scalars, body)) != expected:
            raise CheckpointError(f"{folder}: {STATE} is damaged")
        scalars = cast(Scalars, body)
        version = scalars.get("version")
        if version != VERSION:
            raise RunError(
                f"{folder}: expected a checkpoint of version {VERSION}, found {version!r}; finish "
                "the run with the wirebert that started it, or start a new run"
            )
        return scalars


def _digest(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with open_plain_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
