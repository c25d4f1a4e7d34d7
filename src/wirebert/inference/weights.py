"""Arrays in safetensors files: written with the usual permissions, and read on access."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol, final, runtime_checkable

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from wirebert.errors import ArtifactError

_AGAIN: Final = "train the model again"


@runtime_checkable
class Weights(Protocol):
    """Arrays by name: a dict or a lazily read file. Not a Mapping: type checks must not read the file."""

    def __getitem__(self, name: str, /) -> np.ndarray: ...

    def __iter__(self) -> Iterator[str]: ...

    def __len__(self) -> int: ...

    def keys(self) -> Iterable[str]:
        """The names."""
        ...

    def items(self) -> Iterable[tuple[str, np.ndarray]]:
        """Names and arrays."""
        ...


@final
class LazyWeights:
    """The arrays of a safetensors file by name. The first access checks the file and maps it into memory.

    Args:
        check: raises an ArtifactError if the file is not the one that was written.
    """

    def __init__(self, path: Path, check: Callable[[], object]) -> None:
        self._path, self._check = path, check

    @cached_property
    def _file(self) -> Any:
        self._check()
        try:
            return safe_open(self._path, framework="numpy")
        except (SafetensorError, OSError) as error:
            raise ArtifactError(
                f"{self._path}: expected safetensors, found something else ({error}); {_AGAIN}"
            ) from error

    @cached_property
    def _names(self) -> tuple[str, ...]:
        return tuple(self._file.keys())

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise KeyError(name)
        array = self._file.get_tensor(name)
        if not np.isfinite(array).all():
            raise ArtifactError(
                f"{self._path}: expected finite weights, found NaN or infinity in {name}; {_AGAIN}"
            )
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def keys(self) -> tuple[str, ...]:
        """The names."""
        return self._names

    def items(self) -> Iterator[tuple[str, np.ndarray]]:
        """Names and arrays, each read when it is reached."""
        return ((name, self[name]) for name in self._names)


def save_arrays(arrays: Weights, path: Path, *, like: Path) -> None:
    """Write a safetensors file with the permissions of `like` (safetensors itself sets 0600)."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(contiguous, path, metadata={"format": "pt"})
    shutil.copymode(like, path)
