"""Tokenizer and schema of an earlier model, which a training takes over along with the weights.

The embedding of `src_bytes:q17` stands for the values of that bin in that model. A newly fitted tokenizer
would have other bins under the same names.
"""

from dataclasses import replace
from pathlib import Path

from wirebert.config import RunConfig
from wirebert.data.config import DataConfig
from wirebert.data.flows import Flows, open_flows
from wirebert.data.labels import with_mapped_labels
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import ConfigError, SchemaError
from wirebert.inference.artifact import MANIFEST, load_artifact


def is_wirebert_model(start: str) -> bool:
    """Whether `model.init_from` names a model folder of wirebert."""
    return (Path(start) / MANIFEST).is_file()


def pretrained_tokenizer(run: RunConfig) -> FlowTokenizer | None:
    """The tokenizer of the model of wirebert in `model.init_from`; None: the run fits one.

    Raises:
        ArtifactError: the model is damaged.
        ConfigError: a setting asks for another tokenizer.
    """
    folder = Path(run.model.init_from)
    if not is_wirebert_model(run.model.init_from):
        return None
    tokenizer = load_artifact(folder).tokenizer
    if run.encoding not in (EncodingConfig(), tokenizer.config):
        raise ConfigError(
            f"{folder} brings its tokenizer, so the settings of section encoding must be left as they are, "
            "got another value; make that model with them"
        )
    if run.data.schema not in (None, tokenizer.schema.name):
        raise ConfigError(
            f"{folder} brings its schema, {tokenizer.schema.name!r}, so data.schema must be left out, got "
            f"{run.data.schema!r}"
        )
    return tokenizer


def open_aligned(data: str, config: DataConfig, tokenizer: FlowTokenizer) -> Flows:
    """The flows under the tokenizer's schema, with the label and benign class that the settings name.

    Without such a setting, and where the model learned from rows without labels, the label is the column that
    the file itself shows.

    Raises:
        SchemaError: a column is a feature here but not of the model, or the reverse.
    """
    flows = open_flows(data, config, schema=tokenizer.schema)
    schema = flows.schema
    if config.label is None and schema.label is None:
        config = replace(config, label=open_flows(data, config).schema.label)
    if config.label is not None:
        if config.label not in schema.names:  # rows that were learned from had no label
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
            f"{flows.name}: expected the features of the model to start from, found a difference at "
            f"{min(differing)!r}; use the same --label and --drop for both"
        )
    return replace(flows, schema=schema)


def _features(schema: FlowSchema) -> set[str]:
    return {column.name for column in schema.features}
