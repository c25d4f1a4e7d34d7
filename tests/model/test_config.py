import json
from pathlib import Path

import pytest
from transformers import DistilBertConfig

from wirebert.errors import ConfigError
from wirebert.model.config import Architecture, ModelConfig, read_architecture, resolve


def write_config(folder: Path, **changes: object) -> str:
    settings = {**DistilBertConfig(dim=24, n_heads=3, n_layers=1, hidden_dim=48).to_dict(), **changes}
    path = folder / "config.json"
    path.write_text(json.dumps(settings))
    return str(path)


def test_base_and_mini_are_the_sizes_they_are_known_for():
    base = resolve(ModelConfig(), vocab_size=30_522, num_classes=2)
    assert (base.num_layers, base.dim, base.num_heads, base.hidden_dim) == (6, 768, 12, 3072)
    mini = resolve(ModelConfig(size="mini"), vocab_size=30_522, num_classes=2)
    assert (mini.num_layers, mini.dim, mini.num_heads, mini.hidden_dim) == (2, 128, 4, 512)


def test_a_config_file_sets_shapes_and_rates(tmp_path: Path):
    path = write_config(tmp_path, dropout=0.3, attention_dropout=0.4, seq_classif_dropout=0.5)
    given = resolve(ModelConfig(size=path), vocab_size=99, num_classes=4)
    assert (given.dim, given.num_heads, given.num_layers, given.hidden_dim) == (24, 3, 1, 48)
    assert (given.dropout, given.attention_dropout, given.head_dropout) == (0.3, 0.4, 0.5)
    assert (given.vocab_size, given.num_classes) == (99, 4)


def test_a_setting_beats_the_config_file(tmp_path: Path):
    config = ModelConfig(size=write_config(tmp_path, dropout=0.3), dropout=0.0, hidden_dim=12)
    given = resolve(config, vocab_size=99, num_classes=4)
    assert (given.dropout, given.hidden_dim) == (0.0, 12)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"activation": "silu"}, "activation must be 'gelu', got 'silu'"),
        ({"sinusoidal_pos_embds": True}, "sinusoidal_pos_embds must be False, got True"),
        ({"model_type": "bert"}, "expected model_type 'distilbert', got 'bert'"),
        ({"dim": 0}, "dim must be a whole number of at least 1, got 0"),
        ({"dim": "wide"}, "dim must be a whole number of at least 1, got 'wide'"),
        ({"dropout": 1}, r"dropout must be a number in \[0, 1\), got 1"),
        ({"n_heads": 5}, "model.dim must be a multiple of model.num_heads, got 24 and 5"),
    ],
)
def test_a_config_file_of_another_kind_is_refused_in_one_sentence(
    tmp_path: Path, changes: dict[str, object], said: str
):
    with pytest.raises(ConfigError, match=said):
        read_architecture(Path(write_config(tmp_path, **changes)))


@pytest.mark.parametrize("text", ["{", "[1]", None])
def test_a_size_that_is_no_config_file_is_refused(tmp_path: Path, text: str | None):
    path = tmp_path / "config.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.json: expected a"):
        resolve(ModelConfig(size=str(path)), vocab_size=10, num_classes=2)


@pytest.mark.parametrize(
    "settings", [{"dim": 0}, {"num_layers": -1}, {"dropout": 1.0}, {"head_dropout": -0.1}, {"init_from": ""}]
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, int]):
    with pytest.raises(ConfigError, match=r"model\."):
        ModelConfig(**settings)  # pyright: ignore[reportArgumentType]  # wrong on purpose


def test_written_config_reads_back_here_and_in_transformers(tmp_path: Path):
    mini = resolve(ModelConfig(size="mini", dropout=0.2), vocab_size=77, num_classes=3, pad_id=4)
    settings = mini.to_hugging_face(("normal", "dos", "probe"))
    assert Architecture.from_hugging_face(settings, where="here") == mini
    (tmp_path / "config.json").write_text(json.dumps(settings))
    theirs = DistilBertConfig.from_pretrained(tmp_path)
    assert (theirs.dim, theirs.n_layers, theirs.vocab_size, theirs.pad_token_id) == (128, 2, 77, 4)
    assert theirs.id2label == {0: "normal", 1: "dos", 2: "probe"}
