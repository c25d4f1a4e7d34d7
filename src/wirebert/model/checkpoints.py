"""Models in Hugging Face's format: weights under its names, and pretrained models to start from.

A pretrained model is a folder with `config.json`, `model.safetensors` and a vocabulary, or a name on the hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from wirebert.errors import CheckpointError
from wirebert.model.config import Architecture, ModelConfig, read_settings, resolve
from wirebert.model.distilbert import DistilBert
from wirebert.model.initialization import TokenLayout, initialize_embeddings
from wirebert.model.undrawn import Undrawn
from wirebert.shapes import Int

_LAYER, _EMBEDDINGS = "distilbert.transformer.layer.", "distilbert.embeddings."
_WORDS, _POSITIONS = _EMBEDDINGS + "word_embeddings.weight", _EMBEDDINGS + "position_embeddings.weight"
_HEADS = ("pre_classifier.", "classifier.", "vocab_")
_OTHER_HEADS = ("vocab_", "qa_outputs.")
_RENAMED = {"out_lin": "attention.out_lin", "lin1": "ffn.lin1", "lin2": "ffn.lin2"}
_MASKED_NAMES = {"vocab_bias": "vocab_projector.bias"}
_FILES = ("config.json", "model.safetensors", "tokenizer.json", "vocab.txt")


def build(
    config: ModelConfig, layout: TokenLayout, *, classes: tuple[str, ...] = (), seed: int, max_masked: int = 0
) -> DistilBert:
    """A classifier for `layout` and `classes`, or a masked language model, initialised as set in `config`.

    A pretrained model provides the blocks, the embeddings of the tokens in its vocabulary, and the head if it
    has the same classes in the same order. Everything else is initialised from `seed`.

    Args:
        num_asked: maximum masked tokens per row of a masked language model; 0: a classifier.

    Raises:
        CheckpointError: The pretrained model is missing or cannot be used.
        ConfigError: A setting contradicts the pretrained model.
    """
    pretrained = None if config.init_from == "scratch" else read_pretrained(config.init_from)
    architecture = resolve(
        config,
        vocab_size=len(layout.vocabulary),
        num_classes=len(layout.vocabulary) if max_masked else len(classes),
        positions=layout.positions,
        num_columns=layout.num_slots,
        pad_id=layout.pad_id,
        max_masked=max_masked,
        pretrained=None if pretrained is None else pretrained.architecture,
    )
    generator = torch.Generator().manual_seed(seed)
    model = DistilBert(
        architecture,
        token_slots=torch.from_numpy(layout.token_slots).long(),
        token_groups=torch.from_numpy(layout.token_groups).long(),
        token_masks=torch.from_numpy(layout.token_masks) if max_masked else None,
        attention=config.attention,
        gradient_checkpointing=config.gradient_checkpointing,
        generator=generator,
    )
    if len(layout.new_tokens) == 0:
        initialize_embeddings(model, layout, generator)
    if pretrained is not None:  # replaces the rows of the tokens in its vocabulary
        state = _fitted_state(pretrained, model, layout, classes)
        load_hugging_face_state(model, state, where=pretrained.name)
    if (
        len(layout.new_tokens) > 0
    ):  # every feature token is new, and made of pieces that had to be there before
        initialize_embeddings(model, layout, generator)
    return model


def numpy_state(model: DistilBert) -> dict[str, np.ndarray]:
    """`hugging_face_state` as float32 arrays."""
    state = hugging_face_state(model)
    return {name: weight.detach().cpu().float().contiguous().numpy() for name, weight in state.items()}


def hugging_face_state(model: DistilBert) -> dict[str, Tensor]:
    """The weights under Hugging Face's names; a stock model with them gives the same logits.

    Query, key and value are split, and column embeddings are added to the word embeddings. The output
    projection of a masked language model is left out, since it is tied to these embeddings. The tensors may
    share memory with the model.
    """
    state: dict[str, Tensor] = {}
    for name, weight in model.state_dict().items():
        part, _, rest = name.partition(".")
        if part == "layer":
            index, brick, kind = rest.split(".")
            if brick == "qkv_lin":
                for letter, piece in zip("qkv", weight.chunk(3), strict=True):
                    state[f"{_LAYER}{index}.attention.{letter}_lin.{kind}"] = piece
            else:
                state[f"{_LAYER}{index}.{_RENAMED.get(brick, brick)}.{kind}"] = weight
        elif part == "masked":
            if rest != "shown_ids":
                state[_MASKED_NAMES.get(rest, rest)] = weight
        elif part != "embeddings":
            state[name] = weight
        elif rest not in ("column_embeddings.weight", "token_slots"):
            state[_EMBEDDINGS + rest] = weight
    state[_WORDS] = model.embeddings.folded().detach()
    return state


def restored(
    architecture: Architecture, state: Mapping[str, Tensor], *, where: str, device: str = "cpu"
) -> DistilBert:
    """A model with these weights (see `load_hugging_face_state`), built without random initialisation.

    Raises:
        CheckpointError: A weight is missing, unknown, or of another shape.
    """
    with torch.device(device), Undrawn():
        model = DistilBert(architecture)
    load_hugging_face_state(model, state, where=where)
    return model


@torch.no_grad()
def load_hugging_face_state(model: DistilBert, state: Mapping[str, Tensor], *, where: str) -> None:
    """Copy weights with Hugging Face's names into `model`; column embeddings become zero.

    Every weight must be present in the right shape, with or without the prefix `distilbert.`. Weights of
    other heads are ignored. `where` names the source in error messages.

    Raises:
        CheckpointError: A weight is missing, unknown, or of another shape; the model is then unchanged.
    """
    targets = hugging_face_state(model)
    given = _full_names(state)
    given |= {name: weight for name, weight in state.items() if name.startswith("vocab_") and name in targets}
    targets[_WORDS] = model.embeddings.word_embeddings.weight
    if not model.architecture.positions:  # zero and frozen, regardless of the source
        given[_POSITIONS] = targets[_POSITIONS]
    if "token_groups" in targets:  # a pretrained model has no columns
        given.setdefault("token_groups", targets["token_groups"])
    for name in sorted(targets.keys() ^ given.keys()):
        problem = "is missing" if name in targets else "belongs to no DistilBERT classifier of this size"
        raise CheckpointError(f"{where}: weight {name!r} {problem}; use a complete DistilBERT checkpoint")
    for name, target in targets.items():
        if target.shape != given[name].shape:
            raise CheckpointError(
                f"{where}: weight {name!r} must have shape {tuple(target.shape)}, got "
                f"{tuple(given[name].shape)}; "
                "use a checkpoint of this size"
            )
    if model.embeddings.column_embeddings is not None:
        model.embeddings.column_embeddings.weight.zero_()
    for name, target in targets.items():
        target.copy_(given[name])  # targets are views of the model's memory


def _full_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with the prefix `distilbert.` and without the heads of other tasks."""
    return {
        f"distilbert.{name}" if name.startswith(("embeddings.", "transformer.")) else name: weight
        for name, weight in state.items()
        if not name.startswith(_OTHER_HEADS)
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class Pretrained:
    """A model read from a folder."""

    name: str
    architecture: Architecture
    classes: tuple[str, ...]
    vocabulary: dict[str, int]
    """Token text to id; empty if the folder holds no vocabulary."""

    state: dict[str, Tensor]
    """Weights under Hugging Face's full names."""


def read_pretrained(start: str) -> Pretrained:
    """The pretrained DistilBERT in the folder `start`, or with that name on the hub.

    Raises:
        CheckpointError: It does not exist, or is not a DistilBERT in safetensors format.
    """
    folder = Path(start) if Path(start).is_dir() else _download(start)
    for name in ("config.json", "model.safetensors"):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"{start}: expected a file {name} in the same folder, found none; save the model there"
            )
    settings = read_settings(folder / "config.json")
    architecture = Architecture.from_hugging_face(settings, where=f"{start}/config.json")
    try:
        state = load_file(folder / "model.safetensors")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{start}/model.safetensors: not a readable safetensors file ({error})"
        ) from error
    names = settings.get("id2label")
    return Pretrained(
        name=start,
        architecture=architecture,
        classes=tuple(str(label) for label in names.values()) if isinstance(names, dict) else (),
        vocabulary=_read_vocabulary(folder),
        state=_full_names(state),
    )


def _download(name: str) -> Path:
    """The local copy of a model from the hub; without a network, an earlier download."""
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:
        raise CheckpointError(f"model.init_from={name!r}: there is no such folder; check the path")
    # Imported here, since the import is slow and a saved model never needs it.
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(_FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise CheckpointError(
            f"model.init_from={name!r}: no such folder, and it cannot be downloaded from the Hugging Face "
            f"hub ({reason}); without a network pass a folder with config.json and model.safetensors, or use "
            "model.init_from=scratch"
        ) from error


def _read_vocabulary(folder: Path) -> dict[str, int]:
    """Token text to id, from `tokenizer.json` or `vocab.txt`; empty without either."""
    if (folder / "tokenizer.json").is_file():
        return Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    if (folder / "vocab.txt").is_file():
        lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
        return {token: index for index, token in enumerate(lines)}
    return {}


def _fitted_state(
    pretrained: Pretrained, model: DistilBert, layout: TokenLayout, classes: tuple[str, ...]
) -> dict[str, Tensor]:
    """The pretrained weights, with the model's rows for new tokens and its head for new classes."""
    initial = hugging_face_state(model)
    state = dict(pretrained.state)
    head = [name for name in initial if name.startswith(_HEADS)]
    if pretrained.classes != classes or any(name not in state for name in head):
        state = {name: weight for name, weight in state.items() if not name.startswith(_HEADS)}
        state |= {name: initial[name] for name in head}
    if _WORDS in state:
        words = model.embeddings.word_embeddings.weight.detach().clone()
        ours, theirs = _shared_tokens(pretrained, layout)
        words[ours] = state[_WORDS][theirs].to(words.dtype)
        state[_WORDS] = words
    return state


def _shared_tokens(
    pretrained: Pretrained, layout: TokenLayout
) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"]]:
    """Ids of the common tokens in our vocabulary, and in the pretrained one.

    A vocabulary that extends the pretrained one has the same ids; any other is matched by the tokens' text.
    """
    num_known = pretrained.architecture.vocab_size
    if len(layout.new_tokens) > 0:
        if int(layout.new_tokens.min()) != num_known:
            raise CheckpointError(
                f"{pretrained.name}: has {num_known} tokens, but the vocabulary being extended has "
                f"{layout.new_tokens.min()}; set encoding.wordpieces to the vocabulary of model.init_from"
            )
        ids = torch.arange(num_known)
        return ids, ids
    pairs = [
        (index, pretrained.vocabulary[text])
        for index, text in enumerate(layout.vocabulary)
        if pretrained.vocabulary.get(text, num_known) < num_known
    ]
    both = torch.tensor(pairs, dtype=torch.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]
