"""Tokenizers and encoded flows that are found again, by the content of the data and the settings that made them."""

import fcntl
import hashlib
import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from wirebert.data.schema.schema import (FlowSchema)
from wirebert.encoding.settings import EncodingConfig
from wirebert.encoding.store import EncodedFlows, StoreWriter
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import DataError
from wirebert.files import write_whole
from wirebert.serialization import (to_mapping)

VERSION = 1
"""Raised when the same rows and the same tokenizer give other ids than before."""


def tokenizer_key(
    fingerprint: str, schema: FlowSchema, config: EncodingConfig, *arrays: Shaped[np.ndarray, "..."]
) -> str:
    """The name of the tokenizer that is fitted on these flows; `arrays` say which rows are taken."""
    state = {"schema": schema.to_dict(), "config": to_mapping(config)}
    return _digest(fingerprint, json.dumps(state, sort_keys=True), arrays)


def store_key(
    fingerprint: str, tokenizer: FlowTokenizer, *arrays: Shaped[np.ndarray, "..."], note: str = ""
) -> str:
    """The name of the store that holds these flows as this tokenizer encodes them.

    Args:
        fingerprint: that of the files, see `Flows.fingerprint`.
        tokenizer: its whole state counts: schema, settings, what it was fitted on.
        arrays: what else decides the content, such as which rows are taken and their classes.
        note: the same in words, such as class names.
    """
    return _digest(fingerprint, note + json.dumps(tokenizer.to_dict(), sort_keys=True), arrays)


def _digest(fingerprint: str, state: str, arrays: Sequence[Shaped[np.ndarray, "..."]]) -> str:
    digest = hashlib.sha256(f"{VERSION}\n{fingerprint}\n{state}".encode())
    for array in arrays:
        digest.update(f"\n{array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def find_or_fit(cache: Path, key: str, fit: Callable[[], FlowTokenizer]) -> FlowTokenizer:
    """The tokenizer of this key; if there is none (or a damaged one), `fit` makes it."""
    path = cache / f"{key}.tokenizer.json"
    with _one_at_a_time(cache, key):
        if path.is_file():
            try:
                return FlowTokenizer.from_dict(json.loads(path.read_text(encoding="utf-8")))
            except (ValueError, KeyError, TypeError):
                pass  # written anew below
        tokenizer = fit()
        write_whole(path, json.dumps(tokenizer.to_dict()))
    return tokenizer


def find_or_encode(
    cache: Path, key: str, tokenizer: FlowTokenizer, write: Callable[[StoreWriter], None]
) -> tuple[EncodedFlows, bool]:
    """The store of this key, and whether it was there; if not, `write` fills it.

    A store appears whole or not at all: what an interrupted run left is written anew, and a damaged one too.
    """
    folder = cache / key
    with _one_at_a_time(cache, key):
        if folder.is_dir():
            try:
                return EncodedFlows.open(folder), True
            except DataError:
                pass  # written anew below, which replaces it
        with StoreWriter(folder, tokenizer.dtype) as store:
            write(store)
    return EncodedFlows.open(folder), False


@contextmanager
def _one_at_a_time(cache: Path, key: str) -> Generator[None]:
    """Runs that share a cache and want the same at once: one makes it, the others wait and find it."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f".{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed, also by the end of the process
        yield
