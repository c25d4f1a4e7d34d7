"""The folder of a run: its layout, creation, locking and inputs."""

import fcntl
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from wirebert.errors import RunError, UserError
from wirebert.files import read_json_file, remove_folder, try_lock, write_atomic

MANIFEST: Final = "wirebert.json"
"""Manifest of a model folder; its presence means that there is a model."""


BUILT_IN: Final = Path(__file__).with_name("builtin")
"""The model in the box, which the name `builtin` stands for."""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Paths of all files that one run writes."""

    path: Path

    @property
    def run_toml(self) -> Path:
        """The resolved settings."""
        return self.path / "run.toml"

    @property
    def recipe_toml(self) -> Path:
        """An unchanged copy of the recipe that the run was started with."""
        return self.path / "recipe.toml"

    @property
    def inputs_json(self) -> Path:
        """Fingerprint of the training data, so that a resumed run reads the same data."""
        return self.path / "inputs.json"

    @property
    def metrics(self) -> Path:
        """Training events, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Checkpoints, from which an interrupted run continues."""
        return self.path / "checkpoints"

    @property
    def encoded(self) -> Path:
        """Typed rows of the training file, and token ids of its training and validation flows."""
        return self.path / "encoded"

    @property
    def model(self) -> Path:
        """The model folder (artifact)."""
        return self.path / "model"

    @property
    def plots(self) -> Path:
        """Charts as SVG and PNG."""
        return self.path / "plots"

    @property
    def report_json(self) -> Path:
        """The report as JSON; its presence means that the run is finished."""
        return self.path / "report.json"

    @property
    def split_manifest(self) -> Path:
        """Hashes of the rows of every split."""
        return self.path / "split_manifest.json"

    @property
    def report_html(self) -> Path:
        """The report as a page."""
        return self.path / "report.html"

    @property
    def teacher(self) -> "RunFolder":
        """Predictions of the model's teacher, if it has one."""
        return RunFolder(self.path / "teacher")

    @property
    def pretraining(self) -> "RunFolder":
        """Metrics and checkpoints of the masked language model that `wirebert learn` trains first."""
        return RunFolder(self.path / "pretraining")

    def predictions(self, split: str) -> Path:
        """Class probabilities of every evaluated flow of a split."""
        return self.path / "predictions" / f"{split}.parquet"

    def discard_working_files(self) -> None:
        """Delete what a finished run no longer needs: typed rows, encoded flows and checkpoints.

        A cache outside the folder stays; the best weights are in the artifact.
        """
        remove_folder(self.encoded)
        remove_folder(self.checkpoints)
        remove_folder(self.path / "pretraining" / "checkpoints")

    @property
    def has_trained(self) -> bool:
        """Whether training has begun, so that the folder is worth keeping."""
        written = (self.metrics, self.path / "pretraining" / self.metrics.name)
        return any(metrics.exists() and metrics.stat().st_size > 0 for metrics in written)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to resume."""
        return self.report_json.exists()


def create_run_folder(path: Path, *, goes_on: bool = False) -> RunFolder:
    """A new, empty run folder; or, where it goes on, one that is not finished.

    Raises:
        RunError: the folder exists and is not empty, or finished; nothing in it is changed.
    """
    is_ours = goes_on and not RunFolder(path).is_finished
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not is_ours)):
        resume = f"continue it with --resume {path}, or " if (path / "run.toml").exists() else ""
        raise RunError(
            f"output folder {path}: expected a new or empty folder, found one in use; {resume}choose "
            "another --out"
        )
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"output folder {path}: cannot be created ({error.strerror}); choose another --out"
        ) from error
    return RunFolder(path)


@contextmanager
def new_run_folder(path: Path, *, goes_on: bool = False) -> Generator[RunFolder]:
    """A new, empty, locked run folder; it is removed again on an input error before training begins.

    Args:
        goes_on: an earlier start has begun to write it, and was killed.

    Raises:
        RunError: the folder exists and is not empty, or finished; nothing in it is changed.
    """
    created = [folder for folder in (path, *path.parents) if not folder.exists()]
    folder = create_run_folder(path, goes_on=goes_on)
    with locked(folder):
        try:
            yield folder
        except UserError:
            if not (folder.has_trained or goes_on):
                _remove(path, created)
            raise


def _remove(path: Path, created: list[Path]) -> None:
    import shutil

    for entry in path.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    with suppress(OSError):  # another process has put something into a parent folder
        for folder in created:
            folder.rmdir()


def open_run_folder(path: Path) -> RunFolder:
    """The folder of an earlier run.

    Raises:
        RunError: this is not a run folder.
    """
    folder = RunFolder(path)
    if not folder.run_toml.exists():
        raise RunError(
            f"{path}: expected the folder of a run, found no run.toml in it; give the folder that `wirebert "
            "train` printed"
        )
    return folder


def model_folder(path: Path, data: str | None = None, command: str = "predict") -> Path:
    """The model folder that `path` names: itself, the model of this run folder, or `builtin`.

    Args:
        data: The other argument of the command, which may have been swapped with the model.

    Raises:
        RunError: `data` is the model, and `path` is not.
    """
    if str(path) == "builtin" and not path.exists():
        return BUILT_IN
    if (path / MANIFEST).exists() or not (RunFolder(path).model / MANIFEST).exists():
        other = None if data is None else model_folder(Path(data))
        if other is not None and (other / MANIFEST).exists() and not (path / MANIFEST).exists():
            raise RunError(
                f"{path}: expected a model folder, found one as the second argument ({data}); the model "
                f"comes first: `wirebert {command} {data} {path}`"
            )
        return path
    return RunFolder(path).model


def model_name(folder: Path) -> str:
    """What people call the model of a folder: its name, or that of its run.

    >>> model_name(Path("/runs/demo/model")), model_name(Path("/etc/mine"))
    ('demo', 'mine')
    """
    whole = folder.resolve()
    return whole.parent.name if whole.name == "model" and whole.parent.name else whole.name


def next_run_path(stem: str, parent: Path = Path("runs")) -> Path:
    """The first of `runs/STEM`, `runs/STEM-2`, `runs/STEM-3`, ... that does not exist."""
    number = 1
    while (path := parent / (stem if number == 1 else f"{stem}-{number}")).exists():
        number += 1
    return path


@contextmanager
def locked(folder: RunFolder) -> Generator[None]:
    """Keep other processes out of the folder; the lock is released when the process ends, however it ends.

    Raises:
        RunError: another process is working on this run.
    """
    try:
        lock = (folder.path / ".lock").open("w")
    except OSError as error:
        raise RunError(
            f"{folder.path}: the folder is not writable ({error.strerror}); change its permissions or copy it"
        ) from error
    with lock:
        if not try_lock(lock):
            raise RunError(
                f"{folder.path}: another process is working on this run; wait for it or stop it first"
            )
        yield


def is_at_work(folder: RunFolder) -> bool:
    """Whether a process is working on this run."""
    try:
        with (folder.path / ".lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False  # there is no lock file, or it cannot be read
    return False


def check_inputs(
    folder: RunFolder,
    fingerprint: str,
    detected: Mapping[str, object] | None = None,
    others: Mapping[str, str] | None = None,
) -> None:
    """Save the training data's fingerprint and detected format; on a resumed run, refuse changed data.

    Args:
        others: Fingerprints of other inputs (teacher, unlabelled data), by their description.

    Raises:
        RunError: the data changed since the run started.
    """
    now = {"train_sha256": fingerprint, "detected": dict(detected or {}), "others": dict(others or {})}
    if not folder.inputs_json.exists():
        write_atomic(folder.inputs_json, json.dumps(now) + "\n")
        return
    try:
        before = cast(dict[str, Any], read_json_file(folder.inputs_json))
        old_fingerprint, old_others = before["train_sha256"], dict(before.get("others", {}))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise RunError(
            f"{folder.inputs_json}: expected the inputs of this run, could not read them ({error}); start a "
            "new run instead of --resume"
        ) from error
    changed = ["training data"] if old_fingerprint != fingerprint else []
    changed += [name for name, sha256 in (others or {}).items() if old_others.get(name) != sha256]
    if changed:
        raise RunError(
            f"{folder.path}: the {changed[0]} changed since this run started; start a new run instead of "
            "--resume"
        )
