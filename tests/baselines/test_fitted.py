from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv
from sklearn import metrics as sk

from wirebert.baselines import fitted as fitted_module
from wirebert.baselines.fitted import ColumnBaseline, TokenBaseline, fit_columns
from wirebert.baselines.methods import BASELINES, BaselineMethod
from wirebert.baselines.protocol import Baseline
from wirebert.baselines.task import Params, Predict, Rows, Task
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.config import EncodingConfig
from wirebert.encoding.store import EncodedFlows
from wirebert.encoding.token_rows import JaggedRows
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.metrics.class_weights import ClassWeighting


def column(name: str, kind: ColumnKind, *, is_feature: bool = True) -> Column:
    return Column(name=name, kind=kind, is_feature=is_feature)


SCHEMA = FlowSchema(
    name="tiny",
    columns=(
        column("bytes", ColumnKind.COUNT),
        column("service", ColumnKind.CATEGORY),
        column("source", ColumnKind.ADDRESS),
        column("uri", ColumnKind.TEXT),
        column("label", ColumnKind.LABEL, is_feature=False),
    ),
)


def block(num_flows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """0: short web requests; 1: large transfers; 2: web requests full of quotes."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(0, 3, num_flows)
    services = np.where(ids == 1, "ftp", "http")
    uris = [None if i == 1 else "/a?id=1' OR '1'='1" if i == 2 else "/index.html" for i in ids]
    table = pa.table(
        {
            "bytes": pa.array(rng.normal(100 + 900 * (ids == 1), 10)).dictionary_encode(),
            "service": pa.array(services).dictionary_encode(),
            "source": pa.array([f"10.0.0.{i}" for i in ids]),
            "uri": pa.array(uris, pa.string()),
        }
    )
    return table, ids


def fit(num_blocks: int = 3, num_classes: int = 4, **settings: int) -> ColumnBaseline:
    return fit_columns(
        "gbdt", {}, (block(200, seed) for seed in range(num_blocks)), SCHEMA, num_classes, seed=0, **settings
    )


def test_trees_tell_classes_apart_by_numbers_categories_and_text_statistics() -> None:
    table, ids = block(300, seed=99)
    probabilities = fit().predict_proba(table)
    assert probabilities.shape == (300, 4)
    assert (probabilities.argmax(axis=1) == ids).all()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert (probabilities[:, 3] == 0).all()  # a class that the training rows lack


def test_trees_never_see_an_address() -> None:
    trees = fit()
    table, _ = block(50, seed=99)
    other = table.set_column(2, "source", pa.array(["8.8.8.8"] * 50))
    assert (trees.predict_proba(table) == trees.predict_proba(other)).all()
    assert trees.summary["left_out"] == ("source",)


def test_missing_columns_and_unseen_missing_and_infinite_values_are_scored() -> None:
    table = pa.table({"bytes": [None, np.inf, -np.inf], "service": ["gopher", None, "http"]})
    probabilities = fit().predict_proba(table)
    assert np.isfinite(probabilities).all()
    assert fit().predict_proba(table.slice(0, 0)).shape == (0, 4)


def test_the_same_seed_gives_the_same_probabilities() -> None:
    table, _ = block(300, seed=99)
    assert (fit().predict_proba(table) == fit().predict_proba(table)).all()


def test_no_more_rows_than_allowed_are_fitted_and_they_come_from_the_whole_file() -> None:
    tickets: list[int] = []

    def blocks() -> Iterator[tuple[pa.Table, np.ndarray]]:
        for number in range(10):
            table, ids = block(100, number)
            tickets.append(number)
            yield table.set_column(0, "bytes", pa.array(np.full(100, float(number)))), ids

    trees = fit_columns("gbdt", {}, blocks(), SCHEMA, 3, seed=0, max_rows=150)
    assert (trees.summary["num_flows_seen"], trees.summary["num_flows_used"]) == (1000, 150)
    assert tickets == list(range(10))


def test_a_sample_is_uniform_over_the_file() -> None:
    # Class = position in the file; 100 of 1,000 rows each: the chance that any tenth gets none is below 1e-4.
    blocks = ((block(100, number)[0], np.full(100, number)) for number in range(10))
    trees = fit_columns("gbdt", {}, blocks, SCHEMA, 10, seed=0, max_rows=100)
    assert (trees.predict_proba(block(50, 99)[0]) > 0).all()


def test_rows_without_a_label_are_skipped() -> None:
    table, ids = block(100, 0)
    ids = np.where(ids == 2, -1, ids)
    trees = fit_columns("gbdt", {}, [(table, ids)], SCHEMA, 3, seed=0)
    assert (trees.predict_proba(table) > 0).any(axis=0).tolist() == [True, True, False]
    assert trees.summary["num_flows_seen"] == int((ids >= 0).sum())


def test_a_training_set_of_one_class_or_without_columns_gives_a_constant_verdict() -> None:
    table, ids = block(100, 0)
    one = fit_columns("gbdt", {}, [(table, np.zeros_like(ids))], SCHEMA, 2, seed=0)
    assert one.predict_proba(table)[:, 0].tolist() == [1.0] * 100
    bare = FlowSchema(name="bare", columns=(column("source", ColumnKind.ADDRESS),))
    guess = fit_columns("gbdt", {}, [(table, np.array([0] * 40 + [1] * 60))], bare, 2, seed=0)
    assert guess.predict_proba(table)[:, 1].tolist() == [1.0] * 100


@pytest.mark.slow
def test_nsl_kdd_trees_are_as_good_as_xgboost(data_dir: Path) -> None:
    def read(name: str) -> tuple[pa.Table, np.ndarray]:
        table = csv.read_csv(
            data_dir / "nsl-kdd" / name, read_options=csv.ReadOptions(autogenerate_column_names=True)
        )
        names = [f"c{i:02}" for i in range(table.num_columns)]
        columns = {
            name: column if pa.types.is_string(column.type) else column.cast(pa.float64())
            for name, column in zip(names, table.columns, strict=True)
        }
        is_attack = np.array(columns["c41"].to_pylist()) != "normal"
        return pa.table(columns).select(names[:41]), is_attack.astype(np.int64)

    train, ids = read("KDDTrain+.txt.gz")
    kinds = {f"c{i:02}": ColumnKind.CATEGORY if i in (1, 2, 3) else ColumnKind.NUMBER for i in range(41)}
    schema = FlowSchema(name="nsl", columns=tuple(column(name, kind) for name, kind in kinds.items()))
    trees = fit_columns("gbdt", {}, [(train, ids)], schema, 2, seed=0, max_rows=30_000)
    test, true_ids = read("KDDTest+.txt.gz")
    probabilities = trees.predict_proba(test)
    assert sk.accuracy_score(true_ids, probabilities.argmax(axis=1)) > 0.77
    assert sk.roc_auc_score(true_ids, probabilities[:, 1]) > 0.93


TOKEN_SCHEMA = FlowSchema(
    name="test",
    columns=(
        Column(name="proto", kind=ColumnKind.CATEGORY, is_feature=True),
        Column(name="bytes", kind=ColumnKind.COUNT, is_feature=True),
    ),
)


@pytest.fixture(autouse=True)
def _few_trees(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(fitted_module.TEACHER_SETTINGS["gbdt"], "rounds", 30)


def tcp_traffic(num_flows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Class 1 is udp with many bytes, class 3 icmp; all else is class 0, and nothing is class 2."""
    random = np.random.default_rng(seed)
    proto = random.choice(["tcp", "udp", "icmp"], num_flows)
    size = random.integers(0, 1000, num_flows)
    class_ids = np.where(proto == "icmp", 3, ((proto == "udp") & (size > 500)).astype(np.int64))
    return pa.table({"proto": proto.tolist(), "bytes": size}), class_ids


def encoded(tokenizer: FlowTokenizer, table: pa.Table, class_ids: np.ndarray) -> EncodedFlows:
    block = tokenizer.encode(table)
    return EncodedFlows.from_arrays(block.ids, block.offsets, class_ids, np.arange(len(block)))


def fit_teacher(
    tokenizer: FlowTokenizer,
    train: JaggedRows,
    class_ids: np.ndarray,
    valid: EncodedFlows,
    *,
    num_classes: int,
    weights: ClassWeighting,
    seed: int,
) -> TokenBaseline:
    params = fitted_module.TEACHER_SETTINGS["gbdt"] | {"class_weight": weights}
    return TokenBaseline.fit(
        "gbdt", params, tokenizer, train, class_ids, valid, num_classes=num_classes, seed=seed
    )


def fit_tokens(*, seed: int = 1, num_classes: int = 4) -> tuple[FlowTokenizer, TokenBaseline]:
    table, class_ids = tcp_traffic(400, 1)
    tokenizer = FlowTokenizer.fit(TOKEN_SCHEMA, lambda: iter([table]), EncodingConfig())
    valid_table, valid_ids = tcp_traffic(100, 2)
    valid_ids[0] = 2  # which training lacks
    valid = encoded(tokenizer, valid_table, valid_ids)
    block = tokenizer.encode(table)
    trees = fit_teacher(
        tokenizer, block, class_ids, valid, num_classes=num_classes, weights="balanced", seed=seed
    )
    return tokenizer, trees


def test_trees_find_a_rule_over_two_columns():
    tokenizer, trees = fit_tokens()
    table, class_ids = tcp_traffic(500, 3)
    found = trees.predict_encoded(tokenizer.encode(table))
    assert np.mean(found.argmax(axis=1) == class_ids) > 0.97
    assert found.sum(axis=1) == pytest.approx(1)


def test_a_class_without_a_training_flow_has_no_probability():
    tokenizer, trees = fit_tokens()
    found = trees.predict_encoded(tokenizer.encode(tcp_traffic(20, 3)[0]))
    assert found.shape == (20, 4)
    assert not found[:, 2].any()


def test_tokens_that_training_never_shows_are_accepted():
    tokenizer, trees = fit_tokens()
    table = pa.table({"proto": ["sctp", None, "udp"], "bytes": pa.array([None, 5, 10**9], pa.int64())})
    found = trees.predict_encoded(tokenizer.encode(table))
    assert np.isfinite(found).all()
    assert found[2].argmax() == 1  # above all that training shows counts as much


def test_the_same_seed_gives_the_same_trees():
    (tokenizer, one), (_, same) = fit_tokens(), fit_tokens()
    block = tokenizer.encode(tcp_traffic(50, 3)[0])
    assert np.array_equal(one.predict_encoded(block), same.predict_encoded(block))


@pytest.mark.parametrize(("weights", "expected"), [("none", 0.1), ("sqrt", 0.25), ("balanced", 0.5)])
def test_class_weights_decide_how_much_a_rare_class_counts(weights: ClassWeighting, expected: float):
    """Two classes of 900 and 100 flows that cannot be told apart: 1 to 9, 1 to 3 and 1 to 1."""
    table = pa.table({"proto": ["tcp"] * 1000, "bytes": [1] * 1000})
    class_ids = (np.arange(1000) % 10 == 0).astype(np.int64)
    tokenizer = FlowTokenizer.fit(TOKEN_SCHEMA, lambda: iter([table]), EncodingConfig())
    valid = encoded(tokenizer, table, class_ids)
    block = tokenizer.encode(table)
    trees = fit_teacher(tokenizer, block, class_ids, valid, num_classes=2, weights=weights, seed=1)
    assert trees.predict_encoded(block)[0, 1] == pytest.approx(expected, abs=0.02)


def test_rows_of_a_table_are_encoded_first():
    tokenizer, trees = fit_tokens()
    table = tcp_traffic(20, 3)[0]
    assert np.array_equal(trees.predict_proba(table), trees.predict_encoded(tokenizer.encode(table)))


TEXT_SCHEMA = FlowSchema(
    name="test",
    columns=(
        Column(name="uri", kind=ColumnKind.TEXT, is_feature=True),
        Column(name="agent", kind=ColumnKind.TEXT, is_feature=True),
        Column(name="port", kind=ColumnKind.CATEGORY, is_feature=True),
    ),
)


def text_traffic(num_flows: int, seed: int) -> tuple[pa.Table, np.ndarray]:
    """Class 1 asks for a password file, class 3 calls itself a scanner; all else is class 0, and nothing is
    class 2."""
    random = np.random.default_rng(seed)
    class_ids = random.choice([0, 1, 3], num_flows)
    words = ["/index.html", "/img/logo.png", "/search?q=shoes", "/etc.html", "/word"]
    uri = random.choice(words, num_flows).astype(object)
    uri[class_ids == 1] += "?f=../../etc/passwd"
    agent = np.where(class_ids == 3, "sqlmap/1.7", random.choice(["curl/8", "Mozilla/5.0"], num_flows))
    ports = random.choice(["80", "443"], num_flows)
    return pa.table({"uri": uri.tolist(), "agent": agent.tolist(), "port": ports.tolist()}), class_ids


def fit_svm(*, seed: int = 1, mislabelled: float = 0.0) -> tuple[FlowTokenizer, TokenBaseline]:
    """An SVM calibrated on validation flows, this share of which has a class drawn anew."""
    table, class_ids = text_traffic(300, 1)
    tokenizer = FlowTokenizer.fit(TEXT_SCHEMA, lambda: iter([table]), EncodingConfig(subword_vocab_size=400))
    valid_table, valid_ids = text_traffic(200, 2)
    wrong = np.random.default_rng(0).random(200) < mislabelled
    valid_ids[wrong] = np.random.default_rng(1).choice([0, 1, 3], wrong.sum())
    valid_ids[0] = 2  # which training lacks
    valid = encoded(tokenizer, valid_table, valid_ids)
    block = tokenizer.encode(table)
    return tokenizer, TokenBaseline.fit(
        "text_svm",
        fitted_module.TEACHER_SETTINGS["text_svm"],
        *(tokenizer, block, class_ids, valid),
        num_classes=4,
        seed=seed,
    )


def test_an_svm_finds_words_in_either_text():
    tokenizer, svm = fit_svm()
    table, class_ids = text_traffic(500, 3)
    found = svm.predict_encoded(tokenizer.encode(table))
    assert np.mean(found.argmax(axis=1) == class_ids) > 0.98
    assert found.sum(axis=1) == pytest.approx(1)


def test_the_svm_gives_next_to_no_probability_to_a_class_without_a_training_flow():
    tokenizer, svm = fit_svm()
    assert svm.predict_encoded(tokenizer.encode(text_traffic(20, 3)[0]))[:, 2].max() < 1e-9


def test_it_reads_texts_and_nothing_else():
    svm = fit_svm()[1]
    table = text_traffic(50, 3)[0]
    other = table.set_column(2, "port", pa.array(["22"] * 50))
    assert np.array_equal(svm.predict_proba(table), svm.predict_proba(other))
    assert svm.summary["text_columns"] == ["uri", "agent"]


@pytest.mark.parametrize("mislabelled", [0.0, 0.3])
def test_it_is_as_sure_as_validation_flows_bear_out(mislabelled: float):
    """Of 30 % whose class is drawn anew a third is right by chance, so 80 % of what it says is."""
    tokenizer, svm = fit_svm(mislabelled=mislabelled)
    found = svm.predict_encoded(tokenizer.encode(text_traffic(500, 3)[0]))
    assert found.max(axis=1).mean() == pytest.approx(1 - mislabelled * 2 / 3, abs=0.07)


def test_texts_that_training_never_shows_are_accepted():
    svm = fit_svm()[1]
    table = pa.table(
        {
            "uri": ["", None, "/../../../ETC/PASSWD\x00é"],
            "agent": [None, "sqlmap/1.7", ""],
            "port": [None, "1", "2"],
        }
    )
    found = svm.predict_proba(table)
    assert np.isfinite(found).all()
    assert found[1].argmax() == 3
    assert found[2].argmax() == 1  # in whatever case


def test_the_same_seed_gives_the_same_svm():
    (tokenizer, one), (_, same) = fit_svm(), fit_svm()
    block = tokenizer.encode(text_traffic(50, 3)[0])
    assert np.array_equal(one.predict_encoded(block), same.predict_encoded(block))


def test_a_toy_method_is_one_entry_of_the_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """It can then stand beside the model, teach it, and be compared with it."""
    from wirebert.baselines.methods import draw_trials, fit_baseline
    from wirebert.comparison.compare import check_methods
    from wirebert.config import ComparisonConfig, RunConfig

    def fit_prior(task: Task, params: Params, seed: int) -> Predict:
        shares = np.bincount(task.train_ids, minlength=task.num_classes) / len(task.train_ids)
        return lambda rows: np.tile(shares, (len(rows), 1))

    monkeypatch.setitem(BASELINES, "prior", BaselineMethod("class priors", fit_prior, {}))

    table, ids = block(200, 1)
    beside: Baseline = fit_columns("prior", {}, [(table, ids)], SCHEMA, 3, seed=0)
    assert isinstance(beside, Baseline)
    assert beside.predict_proba(table)[0] == pytest.approx(np.bincount(ids) / 200)

    packets, class_ids = tcp_traffic(100, 1)
    tokenizer = FlowTokenizer.fit(TOKEN_SCHEMA, lambda: iter([packets]), EncodingConfig())
    rows = encoded(tokenizer, packets, class_ids)
    teacher = TokenBaseline.fit("prior", {}, tokenizer, rows.block, class_ids, rows, num_classes=4, seed=0)
    assert isinstance(teacher, Baseline)
    assert teacher.predict_proba(packets)[0] == pytest.approx(np.bincount(class_ids, minlength=4) / 100)

    run = RunConfig(comparison=ComparisonConfig(methods=("prior",)))
    assert check_methods(run, has_text=False) == ("prior",)
    assert len(draw_trials(BASELINES["prior"], 2, seed=0)) == 2
    numbers = Rows(np.zeros((4, 1)))
    task = Task(
        train=numbers,
        train_ids=np.array([0, 1, 1, 1]),
        stop=numbers,
        stop_ids=np.array([0, 1, 1, 1]),
        is_categorical=np.zeros(1, dtype=bool),
        num_classes=2,
    )
    assert fit_baseline(BASELINES["prior"], task, {}, 0)(numbers)[0].tolist() == [0.25, 0.75]
