"""Checkpoints: everything a killed training needs to go on to the same bits.

A checkpoint is a folder `checkpoint-00000123` with two files: `tensors.safetensors` (model, optimizer, best weights) and
`state.json` (everything that is a number, and the sha256 of both). It is written aside, forced to disk and renamed, so
under its own name it is whole or damaged by something else than us; a damaged one is noticed and passed over.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wirebert.errors import CheckpointError, RunError
from wirebert.training.loop import TrainState

VERSION: Final = 1
TENSORS: Final = "tensors.safetensors"
STATE: Final = "state.json"
PREFIX: Final = "checkpoint-"
ASIDE: Final = ".aside-"

Scalars = dict[str, object]
"""What JSON can hold."""


class Checkpoint(NamedTuple):
    """What was saved: tensors by name, and plain values."""

    tensors: dict[str, Tensor]
    scalars: Scalars


@dataclass(frozen=True, slots=True)
class CheckpointFolder:
    """The checkpoints of one run, newest kept."""

    path: Path
    keep: int = 2
    """Newest checkpoints that stay on disk."""

    def steps(self) -> list[int]:
        """Steps that have a checkpoint, oldest first."""
        names = [path.name.removeprefix(PREFIX) for path in self.path.glob(f"{PREFIX}*")]
        return sorted(int(name) for name in names if name.isdecimal())

    def place(self, step: int) -> Path:
        """The folder of a step's checkpoint."""
        return self.path / f"{PREFIX}{step:08d}"

    def save(self, step: int, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then delete those that are too old to keep.

        Raises:
            RunError: the disk is full or can not be written; older checkpoints are untouched.
        """
        try:
            return self._save(step, checkpoint)
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise RunError(
                f"{self.place(step)}: the checkpoint can not be written ({reason}); make room, then go on with --resume"
            ) from error

    def _save(self, step: int, checkpoint: Checkpoint) -> Path:
        self.path.mkdir(parents=True, exist_ok=True)
        self._clear_aside()
        aside, final = self.path / f"{ASIDE}{step}", self.place(step)
        aside.mkdir()
        save_file(checkpoint.tensors, aside / TENSORS)
        body = {
            "version": VERSION,
            "step": step,
            "tensors_sha256": _sha256(aside / TENSORS),
        } | checkpoint.scalars
        text = json.dumps({"sha256": _digest(body), "state": body}, indent=1)
        (aside / STATE).write_text(text, encoding="utf-8")
        for path in (aside / TENSORS, aside / STATE, aside):
            _force_to_disk(path)
        # From this step on, earlier ones were damaged or belong to a future that did not happen.
        for undone in [later for later in self.steps() if later >= step]:
            self._delete(undone)
        aside.rename(final)
        _force_to_disk(self.path)
        for old in self.steps()[: -self.keep]:
            self._delete(old)
        return final

    def _delete(self, step: int) -> None:
        # Renamed first: a kill in the middle must not leave half a checkpoint under a checkpoint's name.
        aside = self.path / f"{ASIDE}old-{step}"
        self.place(step).rename(aside)
        shutil.rmtree(aside)

    def _clear_aside(self) -> None:
        for leftover in self.path.glob(f"{ASIDE}*"):
            shutil.rmtree(leftover)

    def newest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The newest checkpoint that is whole; None if there is none yet. Each damaged one gives a warning.

        Raises:
            RunError: there are checkpoints, and all of them are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return self._load(step)
            except CheckpointError as error:
                warn(f"{error}; going back to the checkpoint before it")
        if steps:
            raise RunError(f"{self.path}: every checkpoint is damaged; delete the folder to start over")
        return None

    def _load(self, step: int) -> Checkpoint:
        place = self.place(step)
        try:
            content = json.loads((place / STATE).read_text(encoding="utf-8"))
            expected, body = content["sha256"], content["state"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(f"{place}: {STATE} is damaged or missing") from error
        if not isinstance(body, dict) or _digest(cast(Scalars, body)) != expected:
            raise CheckpointError(f"{place}: {STATE} is damaged")
        scalars = cast(Scalars, body)
        if scalars["version"] != VERSION:
            raise CheckpointError(f"{place}: expected version {VERSION}, found {scalars['version']!r}")
        try:
            if _sha256(place / TENSORS) != scalars["tensors_sha256"]:
                raise CheckpointError(f"{place}: {TENSORS} is damaged")
            return Checkpoint(load_file(place / TENSORS), scalars)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{place}: {TENSORS} is damaged or missing") from error


def pack_state(state: TrainState) -> Checkpoint:
    """Everything that later steps depend on, on the CPU; waits for the device."""
    tensors = {f"model.{name}": _plain(tensor) for name, tensor in state.model.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = _plain(value)
    return Checkpoint(
        tensors,
        {
            "step": state.step,
            "num_steps": state.num_steps,
            "seed": state.seed,
            "precision": state.precision,
            "micro_batch_tokens": state.micro_batch_tokens,
            "scaler": state.scaler.state_dict(),
        },
    )


def unpack_state(state: TrainState, checkpoint: Checkpoint) -> None:
    """Bring a state that has made no step to where the checkpoint was taken.

    Raises:
        RunError: the checkpoint belongs to another model, seed or length of training.
    """
    scalars = checkpoint.scalars
    for name, ours in {
        "seed": state.seed,
        "num_steps": state.num_steps,
        "precision": state.precision,
    }.items():
        if scalars[name] != ours:
            raise RunError(
                f"the checkpoint was written with {name} {scalars[name]!r}, this run has {ours!r}; "
                "resume with the settings and data that the run started with"
            )
    try:
        state.model.load_state_dict(weights_of(checkpoint, "model."))
    except RuntimeError as error:
        raise RunError(
            "the checkpoint was written for a model of another shape; resume with the settings that the run started with"
        ) from error
    state.optimizer.state.clear()
    is_fused = bool(state.optimizer.defaults["fused"])
    for name, parameter in state.model.named_parameters():
        entries = weights_of(checkpoint, f"optimizer.{name}.")
        if entries:
            # Fused kernels keep the step count beside the weights, the others on the CPU.
            state.optimizer.state[parameter] = {
                key: value.to(parameter.device) if key != "step" or is_fused else value
                for key, value in entries.items()
            }
    state.scaler.load_state_dict(cast(dict[str, object], scalars["scaler"]))
    state.micro_batch_tokens = cast(int, scalars["micro_batch_tokens"])
    state.step = cast(int, scalars["step"])


def weights_of(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    """The tensors whose name starts with `prefix`, under the rest of their name."""
    named = checkpoint.tensors.items()
    return {name.removeprefix(prefix): tensor for name, tensor in named if name.startswith(prefix)}


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()


def _digest(body: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _force_to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
