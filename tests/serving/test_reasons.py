import numpy as np
import pyarrow as pa
import pytest

from wirebert.model.attribution import Attributions
from wirebert.serving.artifact import Artifact
from wirebert.serving.reasons import reasons


@pytest.fixture
def found(artifact: Artifact, table: pa.Table) -> Attributions:
    """Two flows: `service` and `bytes` speak for the first one's class, nothing for the second one's."""
    from wirebert.model.attribution import slot_tokens

    tokenizer = artifact.tokenizer
    contributions = np.full((2, len(tokenizer.slots)), -1, np.float32)
    contributions[0, tokenizer.slot_names.index("service")] = 0.5
    contributions[0, tokenizer.slot_names.index("bytes")] = 1.25
    tokens = slot_tokens(tokenizer, tokenizer.encode(table.slice(1, 2)))
    return Attributions(contributions, tokens, np.array([1, 0]))


def test_the_loudest_features_are_named_with_their_values(
    artifact: Artifact, table: pa.Table, found: Attributions
):
    tokenizer = artifact.tokenizer
    said = tokenizer.decode(tokenizer.encode(table.slice(1, 1)).ids)
    first, second = reasons(found, tokenizer).to_pylist()
    assert first == [f"bytes:{said['bytes']} (+1.25)", f"service:{said['service']} (+0.50)"]
    assert second == []


def test_only_so_many_are_named(artifact: Artifact, found: Attributions):
    texts = reasons(found, artifact.tokenizer, num_reasons=1).to_pylist()
    assert [len(each or []) for each in texts] == [1, 0]


def test_flows_that_are_not_explained_have_null(artifact: Artifact, found: Attributions):
    is_explained = np.array([False, True, False, True])
    texts = reasons(found, artifact.tokenizer, is_explained).to_pylist()
    assert [None if each is None else len(each) for each in texts] == [None, 2, None, 0]


def test_nothing_explained_is_all_null(artifact: Artifact, table: pa.Table):
    none = Attributions(
        np.empty((0, len(artifact.tokenizer.slots)), np.float32),
        np.empty((0, len(artifact.tokenizer.slots)), np.int64),
        np.empty(0, np.int64),
    )
    assert reasons(none, artifact.tokenizer, np.zeros(3, np.bool_)).to_pylist() == [None] * 3
