"""DistilBERT's WordPieces, read from a folder or from the hub, and the WordPieces of new tokens."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from wirebert.encoding.text import Subwords
from wirebert.encoding.vocabulary import SPECIAL_TOKENS, Slot
from wirebert.errors import CheckpointError
from wirebert.files import read_json_file, read_plain_file
from wirebert.shapes import Int32

_FILES = ("vocab.txt", "tokenizer.json")


def read_wordpieces(source: str) -> tuple[str, ...]:
    """The WordPieces by id from `source`: a folder with `vocab.txt` or `tokenizer.json`, or a hub name.

    Raises:
        CheckpointError: the folder does not exist and the hub has no such model or is unreachable, or it is
            not a WordPiece vocabulary.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(source)
    for name in _FILES:
        path = folder / name
        if path.is_file():
            return _checked(_read(path), path)
    raise CheckpointError(
        f"{source}: expected vocab.txt or tokenizer.json in this folder, found neither; "
        "set encoding.wordpieces to a folder of a DistilBERT or BERT tokenizer"
    )


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download  # the only network access, on request

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (OSError, ValueError) as error:  # base classes of the hub's errors: no network, no such name
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"encoding.wordpieces: {name!r} is not a folder and could not be fetched from the hub "
            f"({reason}); pass a folder with vocab.txt or tokenizer.json"
        ) from error


def _read(path: Path) -> list[str]:
    try:
        if path.suffix == ".txt":
            return read_plain_file(path).decode().removesuffix("\n").split("\n")
        vocabulary = cast(dict[str, Any], read_json_file(path))["model"]["vocab"]
        by_id = {index: piece for piece, index in vocabulary.items()}
        return [by_id[index] for index in range(len(by_id))]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path}: expected a WordPiece vocabulary, could not read one ({error!r})"
        ) from error


def _checked(pieces: list[str], path: Path) -> tuple[str, ...]:
    lacking = [token for token in SPECIAL_TOKENS if token not in pieces]
    if lacking:
        raise CheckpointError(
            f"{path}: expected a BERT vocabulary with {' '.join(SPECIAL_TOKENS)}, lacks {' '.join(lacking)}; "
            "set encoding.wordpieces to a folder of a DistilBERT or BERT tokenizer"
        )
    if len(set(pieces)) < len(pieces):
        raise CheckpointError(f"{path}: expected each piece once, found some twice")
    return tuple(pieces)


def initial_subwords(slots: Sequence[Slot], pieces: Subwords) -> list[Int32[np.ndarray, " pieces"]]:
    """For every new token, the WordPieces (at least one) whose mean initialises its embedding.

    New tokens are the byte signs that `pieces` appended (they start as `[UNK]`), then the tokens of `slots`:
    `service:http` starts as "service" and "http", a bin as its column's name.
    """
    unknown = np.array([pieces.strings.index("[UNK]")], np.int32)
    num_signs = len(pieces.strings) - pieces.num_given
    words = [_words(slot, index) for slot in slots for index in range(len(slot))]
    cut = pieces.encode([word for group in words for word in group])
    ends = np.cumsum([len(group) for group in words])
    starts: list[Int32[np.ndarray, " pieces"]] = []
    for end, group in zip(ends.tolist(), words, strict=True):
        ids = cut.ids[cut.offsets[end - len(group)] : cut.offsets[end]]
        ids = ids[ids < pieces.num_given]
        starts.append(ids.astype(np.int32) if len(ids) else unknown)
    return [unknown] * num_signs + starts


def _words(slot: Slot, index: int) -> list[str]:
    """The words of a token's name and value; of a bin, only its name's."""
    value = "" if index in slot.bins else (*slot.special_states, *slot.values)[index]
    return re.sub(r"[_:.<>\s]+", " ", f"{slot.name} {value}").split()
