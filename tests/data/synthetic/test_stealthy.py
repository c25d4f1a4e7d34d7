# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.metrics import f1_score

from wirebert.baselines.fitted import fit_columns
from wirebert.data.checks.profile import profile_table
from wirebert.data.config import DataConfig
from wirebert.data.flows import open_flows
from wirebert.data.labels import fit_classes
from wirebert.data.synthetic import generate, write_csv
from wirebert.data.synthetic.network import Network
from wirebert.data.synthetic.stealthy import STEALTHY_ATTACKS, beacon, brute_force, scan, slow_exfiltration
from wirebert.data.synthetic.wire import Scene


def scene() -> Scene:
    return Scene(Network(0), np.random.default_rng(0), 1 / 3, 2 / 3)


@pytest.mark.parametrize("attack", STEALTHY_ATTACKS)
@pytest.mark.parametrize("count", [0, 1, 7, 300])
def test_as_many_flows_as_asked_for_within_the_span(attack: Callable[[Scene, int], pa.Table], count: int):
    found = attack(scene(), count)
    start_s, stop_s = scene().span_s
    assert found.num_rows == count
    if count:
        assert start_s <= pc.min(found["time_s"]).as_py() <= pc.max(found["time_s"]).as_py() < stop_s


def test_a_scan_is_one_source_at_many_hosts_within_minutes():
    found = scan(scene(), 50)
    assert pc.count_distinct(found["source"]).as_py() == 1
    assert pc.count_distinct(found["destination"]).as_py() > 35
    assert np.ptp(found["time_s"].to_numpy()) < 300


def test_brute_force_and_exfiltration_keep_to_one_host():
    for attack, count in ((brute_force, 40), (slow_exfiltration, 20)):
        found = attack(scene(), count)
        assert (
            pc.count_distinct(found["source"]).as_py() == pc.count_distinct(found["destination"]).as_py() == 1
        )


def test_a_beacon_keeps_its_beat():
    gaps_s = np.diff(beacon(scene(), 40)["time_s"].to_numpy())
    assert gaps_s.std() < 0.1 * gaps_s.mean()


def test_quiet_traffic_holds_quiet_attacks_alone():
    labels = pc.value_counts(next(generate(16_000, seed=0, stealthy=True))["label"]).to_pylist()
    counts = {row["values"]: row["counts"] for row in labels}
    assert set(counts) == {"benign", *(attack.__name__ for attack in STEALTHY_ATTACKS)}
    assert counts["scan"] == 2 * 56


def attack_f1(folder: Path, *, context: bool) -> float:
    """Macro-F1 over the attacks, of boosted trees on another network's traffic."""
    config = DataConfig(context=context)
    trained = open_flows(folder / "train.csv", config)
    classes = fit_classes(trained.schema, profile_table(trained).label_counts, config, None)
    blocks = ((table, classes.encode(table.column("label"))) for table in trained.blocks())
    trees = fit_columns("gbdt", {}, blocks, trained.schema, len(classes.classes), seed=0, max_rows=100_000)
    test = list(open_flows(folder / "test.csv", config, schema=trained.schema).blocks())
    true_ids = np.concatenate([classes.encode(table.column("label")) for table in test])
    found_ids = np.concatenate([trees.predict_proba(table).argmax(axis=1) for table in test])
    return float(np.mean(f1_score(true_ids, found_ids, labels=range(1, len(classes.classes)), average=None)))


@pytest.mark.soak
def test_context_finds_what_single_flows_do_not_show(tmp_path: Path):
    for name, seed in (("train", 1), ("test", 2)):
        write_csv(tmp_path / f"{name}.csv", 32_000, seed, stealthy=True)
    assert attack_f1(tmp_path, context=False) < 0.3
    assert attack_f1(tmp_path, context=True) > 0.7
