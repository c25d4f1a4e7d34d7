"""Upload a model to the Hugging Face hub, if it holds nothing of the traffic that others must not see."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, cast

from wirebert.data.schema.column_names import plain_name
from wirebert.data.schema.identifying import NAMING_WORDS, identifying_parts
from wirebert.errors import ArtifactError
from wirebert.inference.artifact import Artifact, save_artifact
from wirebert.inference.export import add_default_export
from wirebert.workflows.model_card import model_card

_PATHS: Final = ("train", "test")


def push(
    artifact: Artifact,
    repo: str,
    *,
    private: bool = True,
    token: str | None = None,
    endpoint: str | None = None,
) -> str:
    """Upload the model to `repo`; returns its address. Paths of this machine and notes are left out.

    Args:
        endpoint: address of another hub.

    Raises:
        ArtifactError: the model holds addresses, names, times, payloads or rows of traffic, or the hub
            refuses it.
    """
    require_nothing_private(artifact)
    with tempfile.TemporaryDirectory(prefix="wirebert-") as folder:
        path = Path(folder) / "model"
        public = without_traces(artifact)
        save_artifact(public, path, card=model_card(public))
        add_default_export(path)
        from huggingface_hub import HfApi

        hub = HfApi(endpoint=endpoint, token=token)
        try:
            address = hub.create_repo(repo, private=private, exist_ok=True)
            hub.upload_folder(repo_id=repo, folder_path=path, commit_message="Add a wirebert detector")
        except (OSError, ValueError) as error:  # base classes of the hub's errors
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ArtifactError(
                f"{repo}: the model could not be uploaded ({reason}); check name, token and network"
            ) from error
    return str(address)


def require_nothing_private(artifact: Artifact) -> None:
    """Raise an ArtifactError that names what the model holds of its training traffic, and the way out."""
    for what, way_out in _private(artifact):
        raise ArtifactError(f"the model holds {what}, and is not uploaded; {way_out}")


def without_traces(artifact: Artifact) -> Artifact:
    """The model without paths, names of files and notes on traffic."""
    settings = dict(cast("Mapping[str, object]", artifact.origin.get("settings", {})))
    settings = {name: value for name, value in settings.items() if name not in _PATHS}
    settings = cast("dict[str, object]", _without_paths(settings))
    operating = artifact.operating_point
    return replace(
        artifact,
        origin={**artifact.origin, "settings": settings},
        operating_point=None if operating is None else replace(operating, notes=()),
        exports={},
    )


def _private(artifact: Artifact) -> Iterator[tuple[str, str]]:
    """What the model holds that others must not see, and what to do about it."""
    if artifact.novelty is not None:
        yield "rows of its training traffic, to measure novelty", "train it with novelty_reference_flows=0"
    texts = list(artifact.tokenizer.text_columns)
    if texts and artifact.tokenizer.to_dict()["subwords"]["kind"] == "bpe":
        yield (
            f"fragments of payloads, in the vocabulary of {', '.join(map(repr, texts))}",
            f"train it with drop={texts!r}, or with the vocabulary of a published model (wordpieces)",
        )
    for encoder in cast("Sequence[Mapping[str, object]]", artifact.tokenizer.to_dict()["encoders"]):
        column, way_out = str(encoder["column"]), f"train it with drop=[{str(encoder['column'])!r}]"
        if encoder.get("networks"):
            yield f"addresses of your networks, for column {column!r}", "train it without networks"
        if encoder.get("known") and not NAMING_WORDS.isdisjoint(plain_name(column).split("_")):
            yield f"names, of column {column!r}", way_out
        for text in _texts(encoder):
            for kind in identifying_parts(text):
                yield f"{kind}, {text!r} of column {column!r}", way_out
    for name in artifact.classes.classes:
        for kind in identifying_parts(name):
            yield f"{kind}, in the class {name!r}", "train it with another label_map"


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in cast("Mapping[object, object]", value).items():
            yield from _texts(name)
            yield from _texts(inner)
    elif isinstance(value, Sequence):
        for inner in cast("Sequence[object]", value):
            yield from _texts(inner)


def _without_paths(value: object) -> object:
    """The settings, absolute paths in them cut to their last part."""
    if isinstance(value, str):
        return Path(value).name if Path(value).is_absolute() else value
    if isinstance(value, Mapping):
        return {name: _without_paths(inner) for name, inner in cast("Mapping[str, object]", value).items()}
    if isinstance(value, list | tuple):
        return [_without_paths(inner) for inner in cast("Sequence[object]", value)]
    return value
