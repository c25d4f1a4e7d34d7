"""Checkpoints written while training goes on: copied now, put on disk by a thread."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import final

from wirebert.training.checkpoint import Checkpoint, CheckpointFolder, Scalars
from wirebert.training.snapshot import CpuCopy


@final
class BackgroundWriter:
    """Writes one checkpoint at a time in a thread. Use it as a context: leaving it waits for what is being written.

    What goes wrong in the thread is raised by whichever method is called next.
    """

    def __init__(self, folder: CheckpointFolder) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[Path] | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(wait=True)

    def start(self, step: int, checkpoint: Checkpoint) -> Path | None:
        """Copy the tensors as they are now and begin to write them; the checkpoint that this had to wait for, if any.

        Raises:
            RunError: the checkpoint before this one could not be written.
        """
        before = self.wait()
        copy = CpuCopy(checkpoint.tensors)
        self._writing = self._thread.submit(self._write, step, copy, checkpoint.scalars)
        return before

    def _write(self, step: int, copy: CpuCopy, scalars: Scalars) -> Path:
        return self._folder.save(step, Checkpoint(copy.wait(), scalars))

    def written(self) -> Path | None:
        """The checkpoint that came on disk since the last question; does not wait.

        Raises:
            RunError: it could not be written.
        """
        return self.wait() if self._writing is not None and self._writing.done() else None

    def wait(self) -> Path | None:
        """The checkpoint that was being written, now on disk; None if there was none.

        Raises:
            RunError: it could not be written.
        """
        if self._writing is None:
            return None
        path = self._writing.result()  # a Ctrl-C in here leaves it to be waited for again
        self._writing = None
        return path
