from pathlib import Path

import pytest

from wirebert.config import resolve_run
from wirebert.data.config import DataConfig
from wirebert.data.flows import open_flows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.errors import SchemaError
from wirebert.workflows.pretrained import open_aligned, pretrained_tokenizer

ROWS = "proto,bytes,label\n" + "".join(
    f"{'tcp' if n % 3 else 'udp'},{n % 7},{'normal' if n % 2 else 'dos'}\n" for n in range(60)
)


def write(path: Path, text: str = ROWS) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def without_label(path: Path) -> Path:
    return write(path, "\n".join(line.rpartition(",")[0] for line in ROWS.splitlines()) + "\n")


def tokenizer_of(path: Path) -> FlowTokenizer:
    flows = open_flows(path)
    return FlowTokenizer.fit(flows.schema, flows.blocks)


def test_a_run_that_starts_from_scratch_or_from_another_kind_of_model_keeps_no_tokenizer(tmp_path: Path):
    assert pretrained_tokenizer(resolve_run()) is None
    assert pretrained_tokenizer(resolve_run(given={"model": {"init_from": str(tmp_path)}})) is None


def test_rows_learned_from_without_a_label_get_the_one_that_is_named(tmp_path: Path):
    tokenizer = tokenizer_of(without_label(tmp_path / "bare.csv"))
    config = DataConfig(label="label", benign="normal")
    found = open_aligned(str(write(tmp_path / "full.csv")), config, tokenizer)
    assert (found.require_label(), found.schema.benign) == ("label", "normal")
    assert next(iter(found.blocks())).column("label").to_pylist()[:2] == ["dos", "normal"]
    assert [column.name for column in found.schema.features] == ["proto", "bytes"]


def test_rows_learned_from_without_a_label_get_the_one_that_the_labelled_file_shows(tmp_path: Path):
    tokenizer = tokenizer_of(without_label(tmp_path / "bare.csv"))
    assert open_aligned(str(write(tmp_path / "full.csv")), DataConfig(), tokenizer).require_label() == "label"
    assert open_aligned(str(tmp_path / "bare.csv"), DataConfig(), tokenizer).schema.label is None


def test_a_feature_of_the_start_model_can_not_become_the_label(tmp_path: Path):
    tokenizer = tokenizer_of(write(tmp_path / "full.csv"))
    with pytest.raises(SchemaError, match=r"difference at 'proto'; use the same --label and --drop for both"):
        open_aligned(str(tmp_path / "full.csv"), DataConfig(label="proto"), tokenizer)
