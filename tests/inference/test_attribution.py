from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.attribution import explain, log_odds, slot_tokens, with_tokens

KINDS = {"duration": ColumnKind.DURATION, "service": ColumnKind.CATEGORY, "flags": ColumnKind.CATEGORY}
TABLE = pa.table(
    {
        "duration": [0.0, 0.0, 0.0, 5.0, 7.0],
        "service": ["http", "http", "http", "dns", None],
        "flags": ["S", "S", "S", "A", "S"],
        "uri": ["/a", None, "/login.php", "/b", ""],
    }
)


def fit(leave_out: bool | None, *, with_text: bool) -> FlowTokenizer:
    columns = [Column(name=name, kind=kind, is_feature=True) for name, kind in KINDS.items()]
    if with_text:
        columns.append(Column(name="uri", kind=ColumnKind.TEXT, is_feature=True))
    schema = FlowSchema(name="flows", columns=tuple(columns))
    return FlowTokenizer.fit(schema, [TABLE], EncodingConfig(omit_most_frequent=leave_out))


TOKENIZERS = [
    fit(True, with_text=False),
    fit(False, with_text=False),
    fit(False, with_text=True),
    fit(True, with_text=True),
]


def additive(tokenizer: FlowTokenizer, seed: int = 0) -> Callable[[JaggedRows], np.ndarray]:
    """A model whose first class gains what each token is worth; what is left out is worth what its token
    would be.
    """
    worth = np.random.default_rng(seed).normal(size=tokenizer.num_tokens)

    def logits(block: JaggedRows) -> np.ndarray:
        sums = worth[slot_tokens(tokenizer, block)].sum(axis=1)
        return np.stack([sums, np.zeros(len(block))], axis=1).astype(np.float32)

    logits.worth = worth  # pyright: ignore[reportFunctionMemberAccess]
    return logits


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_sum_is_split_into_its_terms(tokenizer: FlowTokenizer):
    """Where each feature adds its own worth, taking it away costs that worth less the worth of what stands
    instead.
    """
    model, block = additive(tokenizer), tokenizer.encode(TABLE)
    worth = model.worth  # pyright: ignore[reportFunctionMemberAccess]
    found = explain(model, tokenizer, block, np.zeros(5, np.int64))
    own = worth[slot_tokens(tokenizer, block)]
    absent, default = worth[tokenizer.slot_special[:, 2]], worth[tokenizer.default_ids]
    np.testing.assert_allclose(found.contributions, (2 * own - absent - default) / 2, atol=1e-5)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_a_column_that_is_not_there_contributes_nothing_by_that(tokenizer: FlowTokenizer):
    block = tokenizer.encode(TABLE.drop_columns(["service"]))
    slot = tokenizer.slot_names.index("service")
    model = additive(tokenizer)
    found = explain(model, tokenizer, block, np.zeros(5, np.int64))
    worth = model.worth  # pyright: ignore[reportFunctionMemberAccess]
    alone = worth[tokenizer.slot_special[slot, 2]] - worth[tokenizer.default_ids[slot]]
    np.testing.assert_allclose(found.contributions[:, slot], alone / 2, atol=1e-5)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_the_other_class_has_the_opposite_contributions(tokenizer: FlowTokenizer):
    model, block = additive(tokenizer), tokenizer.encode(TABLE)
    first, second = (explain(model, tokenizer, block, np.full(5, at)).contributions for at in (0, 1))
    np.testing.assert_allclose(first, -second, atol=1e-5)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("name", ["duration", "service", "flags"])
def test_a_row_with_a_feature_taken_away_is_that_of_a_table_without_it(tokenizer: FlowTokenizer, name: str):
    """The encoder's own row of a table that lacks the column is the reference; only order may differ where it
    is free.
    """
    slot = tokenizer.slot_names.index(name)
    rows = np.arange(5)
    absent = np.full(5, tokenizer.slot_special[slot, 2], np.int64)
    found = with_tokens(tokenizer, tokenizer.encode(TABLE), rows, np.full(5, slot), absent)
    expected = tokenizer.encode(TABLE.drop_columns([name]))
    assert found.offsets.tolist() == expected.offsets.tolist()
    for first, last in zip(found.offsets[:-1], found.offsets[1:], strict=True):
        ours, theirs = found.ids[first:last].tolist(), expected.ids[first:last].tolist()
        assert (sorted(ours) == sorted(theirs)) if tokenizer.omits_most_frequent else (ours == theirs)


def test_a_text_goes_as_a_whole():
    tokenizer = fit(False, with_text=True)
    slot = tokenizer.slot_names.index("uri")
    absent = np.full(5, tokenizer.slot_special[slot, 2], np.int64)
    found = with_tokens(tokenizer, tokenizer.encode(TABLE), np.arange(5), np.full(5, slot), absent)
    expected = tokenizer.encode(TABLE.drop_columns(["uri"]))
    assert found.ids.tolist() == expected.ids.tolist()


def test_the_pieces_of_work_change_nothing(monkeypatch: pytest.MonkeyPatch):
    tokenizer = TOKENIZERS[0]
    model, block = additive(tokenizer), tokenizer.encode(TABLE)
    whole = explain(model, tokenizer, block, np.zeros(5, np.int64)).contributions
    monkeypatch.setattr("wirebert.inference.attribution.TOKENS_AT_ONCE", 1)
    np.testing.assert_array_equal(
        explain(model, tokenizer, block, np.zeros(5, np.int64)).contributions, whole
    )


def test_no_flows_have_no_contributions():
    tokenizer = TOKENIZERS[0]
    block = tokenizer.encode(TABLE.slice(0, 0))
    found = explain(additive(tokenizer), tokenizer, block, np.empty(0, np.int64))
    assert found.contributions.shape == found.tokens.shape == (0, 3)


def test_the_strongest_come_first():
    tokenizer = TOKENIZERS[0]
    found = explain(additive(tokenizer), tokenizer, tokenizer.encode(TABLE), np.zeros(5, np.int64))
    ordered = np.take_along_axis(found.contributions, found.strongest(3), axis=1)
    assert (np.diff(ordered, axis=1) <= 0).all()
    assert found.strongest(2).tolist() == found.strongest(3)[:, :2].tolist()


def test_log_odds_keep_growing_where_probabilities_have_reached_one():
    logits = np.array([[40.0, 0.0, 0.0], [80.0, 0.0, 0.0], [0.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(
        log_odds(logits, np.zeros(3, np.int64)), [40 - np.log(2), 80 - np.log(2), -np.log(2)]
    )
