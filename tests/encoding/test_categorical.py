import numpy as np
import pyarrow as pa

from wirebert.encoding.categorical import CategoryEncoder, ValueCounts


def fit(values: list[str | None], max_categories: int = 1000) -> CategoryEncoder:
    counts = ValueCounts()
    counts.add(values, np.ones(len(values), np.int64))
    return CategoryEncoder.fit("c", counts, max_categories)


def texts(encoder: CategoryEncoder, values: list[str | None]) -> list[str]:
    tokens = encoder.encode(pa.array(values, pa.string()))[:, 0].tolist()
    return [encoder.slots[0].texts[token] for token in tokens]


def test_unseen_rare_and_missing_categories_get_ids_that_no_known_category_has():
    encoder = fit(["tcp", "tcp", "udp", "icmp"], max_categories=2)
    assert texts(encoder, ["tcp", "icmp", "udp", "sctp", None]) == [
        "tcp",
        "icmp",
        "<rare>",
        "<unseen>",
        "<missing>",
    ]


def test_ten_times_as_many_rare_values_as_known_ones_are_remembered():
    encoder = fit([f"v{index:02}" for index in range(20)], max_categories=1)
    assert texts(encoder, ["v00", "v10", "v11"]) == ["v00", "<rare>", "<unseen>"]


def test_the_default_is_the_most_frequent_value_or_missing():
    assert fit(["a", "b", "b"]).slots[0].texts[fit(["a", "b", "b"]).default] == "b"
    assert fit(["a", None, None]).default == 0
    assert fit([]).default == 0


def test_a_value_that_looks_like_a_mark_has_a_token_of_its_own():
    encoder = fit(["<unseen>", "x"])
    assert len(set(encoder.slots[0].tokens)) == len(encoder.slots[0])
    assert encoder.encode(pa.array(["<unseen>", "y"]))[0, 0] != encoder.encode(pa.array(["y"]))[0, 0]


def test_too_many_values_are_counted_in_bounded_memory_and_the_frequent_ones_stay():
    counts = ValueCounts(max_distinct=100)
    for start in range(0, 1000, 50):
        counts.add([f"x{index}" for index in range(start, start + 50)] + ["often"], np.ones(51, np.int64))
    assert len(counts.counts_) <= 100
    assert CategoryEncoder.fit("c", counts, 1).known == ("often",)


def test_no_values_give_no_tokens():
    assert fit(["a"]).encode(pa.array([], pa.string())).shape == (0, 1)


def test_a_new_value_in_another_spelling_has_the_token_of_the_known_one():
    encoder = CategoryEncoder(column="service", known=("http", "DNS", "dns"), rare=("Smtp",), default=4)
    values = pa.array(["http", "HTTP", " http", "Dns", "SMTP", "ftp", None])
    assert encoder.encode(values).ravel().tolist() == [4, 4, 4, 1, 3, 1, 0]
    assert encoder.matched(["HTTP", "Dns", "6"]) == {"HTTP": "http"}


def test_numbers_and_names_of_a_protocol_are_one_in_a_column_of_protocols_alone():
    names = CategoryEncoder(column="protocol_type", known=("tcp", "icmp"), rare=(), default=4)
    numbers = CategoryEncoder(column="PROTOCOL", known=("6", "58"), rare=(), default=4)
    other = CategoryEncoder(column="state", known=("6",), rare=(), default=4)
    assert names.matched(["6", "1", "17"]) == {"6": "tcp", "1": "icmp"}
    assert numbers.matched(["TCP", "ipv6-icmp", "icmp"]) == {"TCP": "6", "ipv6-icmp": "58"}
    assert other.matched(["tcp"]) == {}
