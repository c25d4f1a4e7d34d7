"""Tokenizer and schema of a pretrained model, which a training takes over along with the weights.

The embedding of `src_bytes:q17` stands for the values of that bin in pretraining. A newly fitted tokenizer
would have other bins under the same names.
"""

from dataclasses import replace
from pathlib import Path

from wirebert.config import RunConfig
from wirebert.data.flows import Flows
from wirebert.data.labels import with_mapped_labels
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ConfigError, SchemaError
from wirebert.inference.artifact import MANIFEST, is_pretrained, load_artifact


def is_wirebert_model(start: str) -> bool:
    """Whether `model.init_from` names a folder that `wirebert pretrain` wrote.

    Raises:
        ArtifactError: the folder is damaged.
    """
    return (Path(start) / MANIFEST).is_file() and is_pretrained(Path(start))


def pretrained_tokenizer(run: RunConfig) -> FlowTokenizer | None:
    """The tokenizer of the pretrained model in `model.init_from`; None without one: the run fits a tokenizer.

    Raises:
        ArtifactError: the pretrained model is damaged.
        ConfigError: a setting asks for another tokenizer.
    """
    folder = Path(run.model.init_from)
    if not is_wirebert_model(run.model.init_from):
        return None
    tokenizer = load_artifact(folder, pretrained=True).tokenizer
    if run.encoding not in (EncodingConfig(), tokenizer.config):
        raise ConfigError(
            f"{folder} brings its tokenizer, so the settings of section encoding must be left as they are, "
            "got another value; pretrain with them"
        )
    if run.data.schema not in (None, tokenizer.schema.name):
        raise ConfigError(
            f"{folder} brings its schema, {tokenizer.schema.name!r}, so data.schema must be left out, got "
            f"{run.data.schema!r}"
        )
    return tokenizer


def align_schema(flows: Flows, tokenizer: FlowTokenizer) -> Flows:
    """The flows, opened under the tokenizer's schema, with the label and benign class that the settings name.

    Raises:
        SchemaError: a column is a feature here but not in pretraining, or the reverse.
    """
    config, schema = flows.config, flows.schema
    if config.label is not None:
        if config.label not in schema.names:  # rows that were pretrained on had no label
            label = Column(name=config.label, kind=ColumnKind.LABEL, is_feature=False)
            columns = tuple(column for column in schema.columns if column.kind is not ColumnKind.LABEL)
            schema = replace(schema, columns=(*columns, label), label_map={}, benign=None)
        schema = schema.with_label(config.label)
    schema = schema.without(config.drop)
    if config.benign is not None:
        schema = replace(schema, benign=config.benign)
    if config.label_map:
        schema = replace(schema, label_map=with_mapped_labels(schema.label_map, config.label_map))
    differing = _features(schema) ^ _features(tokenizer.schema)
    if differing:
        raise SchemaError(
            f"{flows.name}: expected the features of the pretrained model, found a difference at "
            f"{min(differing)!r}; pretrain with the same --label and --drop"
        )
    return replace(flows, schema=schema)


def _features(schema: FlowSchema) -> set[str]:
    return {column.name for column in schema.features}
