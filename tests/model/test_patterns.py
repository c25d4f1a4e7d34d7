"""Who sees whom under each pattern, by hand, and that the model keeps to it."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from wirebert.encoding.token_rows import JaggedRows
from wirebert.errors import ConfigError
from wirebert.model.batches import class_logits, pack
from wirebert.model.checkpoints import hugging_face_state, load_hugging_face_state
from wirebert.model.config import Architecture, ModelConfig
from wirebert.model.distilbert import DistilBert
from wirebert.model.pattern_names import import_pattern
from wirebert.model.patterns import Tokens, allowed, columns, find_pattern, window

IDS = torch.tensor(
    [[1, 10, 20, 11, 0]]
)  # [CLS], two tokens of group 0 with one of group 1 between them, padding
GROUPS = torch.full((30,), -1)
GROUPS[10:20], GROUPS[20:] = 0, 1
MASK = torch.tensor([[True, True, True, True, False]])
TINY = Architecture(vocab_size=30, num_classes=3, dim=16, num_layers=2, num_heads=2, hidden_dim=32)


def table(text: str) -> Tensor:
    return torch.tensor([[mark == "x" for mark in row] for row in text.split()])[None]


def later_ones(asks: Tokens, answers: Tokens) -> Tensor:
    """A user's own pattern: a token sees itself and what comes before it."""
    return answers.place <= asks.place


def patterned(pattern: str, **settings: object) -> DistilBert:
    architecture = replace(TINY, attention_pattern=pattern, **settings)  # pyright: ignore[reportArgumentType]
    return DistilBert(architecture, token_groups=GROUPS, generator=torch.Generator().manual_seed(0)).eval()


def test_columns_see_their_group_and_cls():
    expected = table("xxxx. xx.x. x.x.. xx.x. xxxx.")
    expected[0, 4] = torch.tensor([True, True, True, True, False])  # padding asks in vain, and is never read
    assert torch.equal(allowed(columns, IDS, GROUPS[IDS], MASK), expected)


def test_a_window_sees_neighbours_and_cls():
    assert torch.equal(allowed(window(1), IDS, GROUPS[IDS], None), table("xxxxx xxx.. xxxx. x.xxx x..xx"))


def test_a_function_of_the_user_is_imported_for_settings_and_never_for_a_model_file():
    settings = {"attention_pattern": "bisect:insort"}
    with pytest.raises(ConfigError, match="attention_pattern must be"):
        Architecture.from_hugging_face(settings, where="config.json")
    sys.modules["patterns_of_a_user"] = SimpleNamespace(later_ones=later_ones)  # pyright: ignore[reportArgumentType]
    try:
        import_pattern("patterns_of_a_user:later_ones")
        assert find_pattern("patterns_of_a_user:later_ones") is later_ones
    finally:
        del sys.modules["patterns_of_a_user"]
    sees = allowed(later_ones, IDS, GROUPS[IDS], None)
    assert torch.equal(sees[0, 2], torch.tensor([True, True, True, False, False]))


@pytest.mark.parametrize(
    "name", ["window:0", "window:", "nothing", "os:no_such_function", "no.such.module:f", "sys:path"]
)
def test_a_pattern_that_is_not_there_is_refused(name: str):
    with pytest.raises(ConfigError, match="attention_pattern must be full, columns, window:REACH"):
        ModelConfig(attention_pattern=name)


def test_tokens_of_another_group_reach_a_token_only_through_cls():
    """In the first block a token's state depends on its own group alone; `[CLS]` sums up all."""
    model = patterned("columns")
    other = IDS.clone()
    other[0, 2] = 25
    before, after = (model.hidden_states(ids, MASK)[1][0] for ids in (IDS, other))
    assert torch.equal(before[1], after[1])
    assert torch.equal(before[3], after[3])
    assert not torch.equal(before[0], after[0])


def test_full_attention_is_what_a_pattern_that_allows_all_gives():
    wide, full = patterned("window:99"), patterned("full")
    torch.testing.assert_close(wide(IDS, MASK), full(IDS, MASK))


@pytest.mark.parametrize("pattern", ["columns", "window:2"])
def test_packed_rows_keep_to_the_pattern(pattern: str):
    model = patterned(pattern)
    rows = JaggedRows(np.array([1, 10, 20, 11, 1, 25, 12], np.uint16), np.array([0, 4, 7]))
    batch = pack(rows, np.arange(2), np.zeros(2, np.int64), pad_id=0)
    expected = torch.cat([model(IDS[:, :4]), model(torch.tensor([[1, 25, 12]]))])
    torch.testing.assert_close(class_logits(model, batch)[:2], expected, atol=1e-6, rtol=1e-5)


def test_the_pattern_survives_saving_and_no_stock_model_takes_it_for_its_own():
    model = patterned("columns")
    settings = model.architecture.to_hugging_face(("a", "b", "c"))
    assert settings["model_type"] == "wirebert-distilbert"
    read = DistilBert(Architecture.from_hugging_face(settings, where="config.json")).eval()
    load_hugging_face_state(read, hugging_face_state(model), where="model.safetensors")
    assert torch.equal(read(IDS, MASK), model(IDS, MASK))
    assert patterned("full").architecture.to_hugging_face(("a", "b", "c"))["model_type"] == "distilbert"
