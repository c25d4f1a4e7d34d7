"""A training's state as named tensors and plain values, and back; asynchronous checkpoints.

`checkpoint` defines the file format. A thread writes the copied state while training continues.
"""

from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, cast, final

import torch
from torch import Tensor

from wirebert.errors import RunError
from wirebert.training.checkpoint import Checkpoint, CheckpointFolder, Scalars
from wirebert.training.loop import TrainState
from wirebert.training.optimizer import ClippingAdamW
from wirebert.training.parallel.fsdp import load_weights, part_like, whole

BEST: Final = "best."
"""Prefix of the names of the best weights so far."""


def pack_state(state: TrainState, best: Mapping[str, Tensor]) -> Checkpoint:
    """Everything that later steps depend on, and the `best` weights so far.

    The tensors are not copies: the next step changes them. All ranks call this to gather sharded tensors, so
    a checkpoint does not depend on the number of ranks.
    """
    tensors = {f"model.{name}": whole(tensor) for name, tensor in state.model.state_dict().items()}
    tensors |= {f"{BEST}{name}": whole(tensor) for name, tensor in best.items()}
    for name, parameter in state.model.named_parameters():
        for key, value in state.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{name}.{key}"] = whole(value)
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
    """Restore the checkpoint into a state that has not made a step.

    Raises:
        RunError: the checkpoint has another model, seed, precision or number of steps.
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
        load_weights(state.model, model_weights(checkpoint))
    except RuntimeError as error:
        raise RunError(
            "the checkpoint was written for a model of another shape; resume with the settings that the run "
            "started with"
        ) from error
    state.optimizer.state.clear()
    is_fused = bool(state.optimizer.defaults["fused"])
    for name, parameter in state.model.named_parameters():
        entries = _under(checkpoint, f"optimizer.{name}.")
        if entries:
            # Fused kernels keep the step count on the weights' device, others on the CPU.
            state.optimizer.state[parameter] = {
                key: part_like(parameter, value.to(parameter.device)) if key != "step" or is_fused else value
                for key, value in entries.items()
            }
    if isinstance(state.optimizer, ClippingAdamW):
        state.optimizer.renew_copies()
    state.scaler.load_state_dict(cast(dict[str, object], scalars["scaler"]))
    state.micro_batch_tokens = cast(int, scalars["micro_batch_tokens"])
    state.step = cast(int, scalars["step"])


def model_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The model's weights at the checkpoint's step, by name."""
    return _under(checkpoint, "model.")


def best_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """The best weights so far, by name; none before the first evaluation."""
    return _under(checkpoint, BEST)


def _under(checkpoint: Checkpoint, prefix: str) -> dict[str, Tensor]:
    named = checkpoint.tensors.items()
    return {name.removeprefix(prefix): tensor for name, tensor in named if name.startswith(prefix)}


@final
class CpuCopy:
    """CPU copies of the current values of tensors.

    GPU tensors are copied through pinned memory on a separate stream while the next steps run. Until then the
    GPU holds a second set of the tensors; if its memory is too small for that, the copy is synchronous.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._arrived: torch.cuda.Event | None = None
        self._held: dict[str, Tensor] = {}
        self._copies: dict[str, Tensor] = {}
        for name, tensor in tensors.items():
            if not tensor.is_cuda:
                self._copies[name] = tensor.clone(memory_format=torch.contiguous_format)
        on_device = {name: tensor for name, tensor in tensors.items() if tensor.is_cuda}
        if on_device:
            self._copy_aside(on_device)

    def _copy_aside(self, tensors: Mapping[str, Tensor]) -> None:
        try:
            self._held = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        except torch.OutOfMemoryError:
            self._held = {}
            self._copies |= {name: tensor.to("cpu").contiguous() for name, tensor in tensors.items()}
            return
        device = next(iter(tensors.values())).device
        copy_stream = torch.cuda.Stream(device)
        copy_stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(copy_stream):
            self._copies |= {name: tensor.to("cpu", non_blocking=True) for name, tensor in self._held.items()}
        self._arrived = torch.cuda.Event()
        self._arrived.record(copy_stream)

    def wait(self) -> dict[str, Tensor]:
        """The copies, once complete. May be called from another thread."""
        if self._arrived is not None:
            self._arrived.synchronize()
            self._arrived = None
            self._held.clear()  # not earlier: freed memory could be overwritten during the copy
        return self._copies


@final
class BackgroundWriter:
    """Writes one checkpoint at a time in a thread; a context manager, whose exit waits for the write.

    An error in the thread is raised by the next method call.
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
        """Copy the tensors and begin to write them; return the path of the checkpoint before, if any.

        Raises:
            RunError: the checkpoint before could not be written.
        """
        before = self.wait()
        copy = CpuCopy(checkpoint.tensors)
        self._writing = self._thread.submit(self._write, step, copy, checkpoint.scalars)
        return before

    def _write(self, step: int, copy: CpuCopy, scalars: Scalars) -> Path:
        return self._folder.save(step, Checkpoint(copy.wait(), scalars))

    def written(self) -> Path | None:
        """The path of a checkpoint completed since the last call, or None; does not wait.

        Raises:
            RunError: the checkpoint could not be written.
        """
        return self.wait() if self._writing is not None and self._writing.done() else None

    def wait(self) -> Path | None:
        """Wait for the current write and return its path; None if nothing is being written.

        Raises:
            RunError: the checkpoint could not be written.
        """
        if self._writing is None:
            return None
        path = self._writing.result()  # after a Ctrl-C here, the next call waits again
        self._writing = None
        return path
