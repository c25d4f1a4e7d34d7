import numpy as np
import pyarrow as pa
import pytest

from wirebert.baselines.text_svm import TextSvm
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.tokenizer import FlowTokenizer

NUM_FLOWS = 300
SCHEMA = FlowSchema(
    name="test",
    columns=(
        Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),
        Column(name="agent", kind=ColumnKind.TEXT, is_feature=True),
        Column(name="port", kind=ColumnKind.CATEGORY, is_feature=True),
    ),
)


def traffic(num_flows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Class 1 asks for a password file, class 3 calls itself a scanner; all else is class 0, and nothing is class 2."""
    random = np.random.default_rng(seed)
    class_ids = random.choice([0, 1, 3], num_flows)
    words = ["/index.html", "/img/logo.png", "/search?q=shoes", "/etc.html", "/word"]
    uri = random.choice(words, num_flows).astype(object)
    uri[class_ids == 1] += "?f=../../etc/passwd"
    agent = np.where(class_ids == 3, "sqlmap/1.7", random.choice(["curl/8", "Mozilla/5.0"], num_flows))
    ports = random.choice(["80", "443"], num_flows)
    return pa.table({"uri": uri.tolist(), "agent": agent.tolist(), "port": ports.tolist()}), class_ids


def encoded(tokenizer: FlowTokenizer, table: pa.Table, class_ids: np.ndarray) -> EncodedFlows:
    block = tokenizer.encode(table)
    return EncodedFlows.from_arrays(block.ids, block.offsets, class_ids, np.arange(len(block)))


def fitted(*, seed: int = 1, mislabelled: float = 0.0) -> tuple[FlowTokenizer, TextSvm]:
    """A machine calibrated on validation flows, this share of which has a class drawn anew."""
    table, class_ids = traffic(NUM_FLOWS, 1)
    tokenizer = FlowTokenizer.fit(SCHEMA, lambda: iter([table]), EncodingConfig(subword_vocab_size=400))
    valid_table, valid_ids = traffic(200, 2)
    wrong = np.random.default_rng(0).random(200) < mislabelled
    valid_ids[wrong] = np.random.default_rng(1).choice([0, 1, 3], wrong.sum())
    valid_ids[0] = 2  # which training lacks
    valid = encoded(tokenizer, valid_table, valid_ids)
    block = tokenizer.encode(table)
    return tokenizer, TextSvm.fit(tokenizer, block, class_ids, valid, num_classes=4, seed=seed)


def test_a_machine_finds_words_in_either_text():
    tokenizer, machine = fitted()
    table, class_ids = traffic(500, 3)
    found = machine.predict_log_proba(tokenizer.encode(table))
    assert np.mean(found.argmax(axis=1) == class_ids) > 0.98
    assert found.sum(axis=1) == pytest.approx(1)


def test_a_class_without_a_training_flow_has_next_to_no_probability():
    tokenizer, machine = fitted()
    assert machine.predict_log_proba(tokenizer.encode(traffic(20, 3)[0]))[:, 2].max() < 1e-9


def test_it_reads_texts_and_nothing_else():
    machine = fitted()[1]
    table = traffic(50, 3)[0]
    other = table.set_column(2, "port", pa.array(["22"] * 50))
    assert np.array_equal(machine.predict_proba(table), machine.predict_proba(other))
    assert machine.summary["text_columns"] == ["uri", "agent"]


@pytest.mark.parametrize("mislabelled", [0.0, 0.3])
def test_it_is_as_sure_as_validation_flows_bear_out(mislabelled: float):
    """Of 30 % whose class is drawn anew a third is right by chance, so 80 % of what it says is."""
    tokenizer, machine = fitted(mislabelled=mislabelled)
    found = machine.predict_log_proba(tokenizer.encode(traffic(500, 3)[0]))
    assert found.max(axis=1).mean() == pytest.approx(1 - mislabelled * 2 / 3, abs=0.07)


def test_values_that_training_never_shows_are_welcome():
    machine = fitted()[1]
    table = pa.table(
        {
            "uri": ["", None, "/../../../ETC/PASSWD\x00é"],
            "agent": [None, "sqlmap/1.7", ""],
            "port": [None, "1", "2"],
        }
    )
    found = machine.predict_proba(table)
    assert np.isfinite(found).all()
    assert found[1].argmax() == 3
    assert found[2].argmax() == 1  # in whatever case


def test_the_same_seed_gives_the_same_machine():
    (tokenizer, one), (_, same) = fitted(), fitted()
    block = tokenizer.encode(traffic(50, 3)[0])
    assert np.array_equal(one.predict_log_proba(block), same.predict_log_proba(block))
