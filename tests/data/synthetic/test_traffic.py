# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import accuracy_score, f1_score
from sklearn.tree import DecisionTreeClassifier

from wirebert.data.checks.profile import profile_table
from wirebert.data.flows import open_flows
from wirebert.data.labels import ClassMap
from wirebert.data.schema.library import known_schemas
from wirebert.data.synthetic import generate, write_csv
from wirebert.data.synthetic.traffic import FLOWS_PER_BLOCK

ATTACKS = {
    "horizontal_scan",
    "vertical_scan",
    "syn_flood",
    "udp_amplification",
    "ssh_brute_force",
    "sql_injection",
    "xss",
    "beaconing",
    "exfiltration",
}


def flows(num_rows: int, seed: int = 0, block_rows: int = 50_000) -> pa.Table:
    return pa.concat_tables(generate(num_rows, seed, block_rows))


@pytest.fixture(scope="module")
def day() -> pa.Table:
    return flows(3 * FLOWS_PER_BLOCK)


def test_columns_are_those_of_the_schema(day: pa.Table):
    assert tuple(day.column_names) == known_schemas()["synthetic"].names


def test_the_same_seed_gives_the_same_flows_and_another_seed_others():
    assert flows(500).equals(flows(500))
    assert not flows(500).equals(flows(500, seed=1))


def test_the_first_rows_do_not_depend_on_how_many_are_asked_for_or_on_the_block_size():
    many = flows(2 * FLOWS_PER_BLOCK, block_rows=3_000)
    assert many.slice(0, FLOWS_PER_BLOCK + 10).equals(flows(FLOWS_PER_BLOCK + 10))


def test_blocks_are_full_except_the_last():
    assert [table.num_rows for table in generate(7_000, 0, 3_000)] == [3_000, 3_000, 1_000]
    assert list(generate(0, 0)) == []


def test_four_flows_in_five_are_benign_and_the_rarest_attack_is_one_in_two_hundred(day: pa.Table):
    counts = {
        row["values"]: row["counts"] / day.num_rows for row in pc.value_counts(day["label"]).to_pylist()
    }
    assert set(counts) == {"benign", *ATTACKS}
    assert counts["benign"] == pytest.approx(0.8, abs=0.02)
    assert min(counts.values()) == pytest.approx(0.006, abs=0.002)


def test_times_rise_and_people_work_by_day(day: pa.Table):
    times = day["ts"].to_pylist()
    assert times == sorted(times)
    hours = np.array([int(time[11:13]) for time in times])
    assert (hours == 10).sum() > 3 * (hours == 3).sum()


def test_uids_are_different(day: pa.Table):
    assert pc.count_distinct(day["uid"]).as_py() == day.num_rows


def test_a_connection_without_answer_has_no_service_and_no_request(day: pa.Table):
    silent = day.filter(
        pc.and_(pc.equal(day["protocol"], "tcp"), pc.is_in(day["conn_state"], pa.array(["S0", "REJ"])))
    )
    assert silent.num_rows > 1_000
    assert silent["service"].null_count == silent["uri"].null_count == silent.num_rows


def test_most_sources_of_attacks_send_benign_flows_too(day: pa.Table):
    benign = pc.unique(day.filter(pc.equal(day["label"], "benign"))["src_ip"])
    for label in ("sql_injection", "beaconing", "exfiltration", "ssh_brute_force"):
        sources = day.filter(pc.equal(day["label"], label))["src_ip"]
        assert pc.mean(pc.cast(pc.is_in(sources, benign), pa.float64())).as_py() > 0.5


def test_the_file_reads_back_as_written(tmp_path: Path):
    path = tmp_path / "flows.csv"
    write_csv(path, 9_000, seed=0)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    expected = flows(9_000)
    assert len(rows) == 9_000
    for name in ("uri", "user_agent", "service", "label", "src_ip", "ts"):
        assert [row[name] for row in rows] == [value or "-" for value in expected[name].to_pylist()]
    sizes = [None if row["src_payload_bytes"] == "-" else float(row["src_payload_bytes"]) for row in rows]
    assert sizes == expected["src_payload_bytes"].to_pylist()


def test_the_file_is_recognised_and_all_its_values_fit(tmp_path: Path):
    write_csv(tmp_path / "flows.csv", 4_000, seed=0)
    opened = open_flows(tmp_path / "flows.csv")
    assert opened.schema == known_schemas()["synthetic"]
    seen = profile_table(opened)
    assert seen.num_rows == 4_000
    assert ClassMap.fit(opened.schema, seen.label_counts).benign == "benign"


@pytest.mark.soak
def test_a_good_model_beats_a_lazy_one_and_none_is_perfect():
    table = flows(20_000, seed=5)
    labels = table["label"].to_numpy(zero_copy_only=False).astype(str)
    features = plain_features(table)
    order = np.random.default_rng(0).permutation(table.num_rows)
    train, test = order[:14_000], order[14_000:]

    def scores(
        model: DecisionTreeClassifier | HistGradientBoostingClassifier, chosen: list[int]
    ) -> tuple[float, float]:
        predicted = model.fit(features[train][:, chosen], labels[train]).predict(features[test][:, chosen])
        return accuracy_score(labels[test], predicted), f1_score(
            labels[test], predicted, average="macro", zero_division=0
        )

    columns = list(range(features.shape[1]))
    best = scores(HistGradientBoostingClassifier(max_iter=40, random_state=0), columns)
    single = max(
        scores(DecisionTreeClassifier(max_leaf_nodes=16, random_state=0), [column])[1] for column in columns
    )
    shallow = scores(DecisionTreeClassifier(max_depth=4, random_state=0), columns)
    assert 0.92 < best[0] < 0.98
    assert best[1] > 0.75
    assert single < 0.45
    assert shallow[1] < best[1] - 0.15


def plain_features(table: pa.Table) -> np.ndarray:
    """Numbers as they are, categories as codes, and how often some marks occur in the request."""
    numbers = (
        "dst_port",
        "duration_s",
        "src_payload_bytes",
        "dst_payload_bytes",
        "src_packets",
        "dst_packets",
    )
    columns = [table[name].to_numpy().astype(float) for name in numbers]
    for name in ("protocol", "service", "conn_state", "tcp_flags"):
        codes = table[name].combine_chunks().dictionary_encode().indices.fill_null(-1)
        columns.append(codes.to_numpy(zero_copy_only=False).astype(float))
    columns += [pc.starts_with(table[name], "10.").to_numpy().astype(float) for name in ("src_ip", "dst_ip")]
    requests = pc.fill_null(pc.utf8_lower(table["uri"]), "")
    marks = (
        "'",
        "%27",
        "%25",
        "<",
        "%3c",
        "select",
        "script",
        "--",
        "=",
        "(",
        "%28",
        "on",
        "*",
        ";",
        "%3b",
        "%22",
    )
    columns += [pc.count_substring(requests, mark).to_numpy().astype(float) for mark in marks]
    return np.nan_to_num(np.stack(columns, axis=1), nan=-1.0)
