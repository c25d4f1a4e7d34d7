import math

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from wirebert.encoding.numeric import NumberCounts, NumberEncoder, bin_starts, write_number

NUMBERS = st.lists(
    st.none() | st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0, -1.0, 0.5]), max_size=40
)


def fit(values: list[float | None], num_bins: int = 64) -> NumberEncoder:
    counts = NumberCounts()
    array = np.array([math.nan if value is None else value for value in values], np.float64)
    counts.add(array, np.ones(len(array), np.int64))
    return NumberEncoder.fit("n", counts, num_bins)


def texts(encoder: NumberEncoder, values: list[float | None]) -> list[str]:
    slot = encoder.slots[0]
    tokens = encoder.encode(pa.array(values, pa.float64()))[:, 0]
    return [(*slot.special_states, *slot.values)[token] for token in tokens.tolist()]


def test_zero_and_the_most_frequent_value_have_their_own_tokens():
    encoder = fit([0, 5, 5, 5, 1, 2, 9])
    assert encoder.slots[0].values[:2] == ("0", "5")
    assert texts(encoder, [0, 5, 1, 2, 9]) == ["0", "5", "q0", "q1", "q2"]


def test_negative_infinite_out_of_range_and_missing_differ():
    encoder = fit([1, 1, 2, 3])
    asked: list[float | None] = [-4, math.inf, -math.inf, 0.5, 7, None, math.nan]
    marks = ["<negative>", "<infinite>", "<infinite>", "<below>", "<above>", "<missing>", "<missing>"]
    assert texts(encoder, asked) == marks


def test_negative_numbers_are_ordinary_where_training_had_them():
    encoder = fit([-3, -2, -1, -1])
    assert texts(encoder, [-3, -1, -9, 4]) == ["q0", "-1", "<below>", "<above>"]


def test_a_column_that_training_never_filled_still_places_every_number():
    encoder = fit([None, None])
    assert texts(encoder, [0, 5, -5, math.inf, None]) == [
        "<above>",
        "<above>",
        "<negative>",
        "<infinite>",
        "<missing>",
    ]


def test_a_number_between_two_exact_ones_falls_into_the_bin_between():
    encoder = fit([0, 1, 1])
    assert texts(encoder, [0, 0.5, 1]) == ["0", "q0", "1"]


def test_the_default_is_the_most_frequent_of_values_and_missing():
    assert fit([None, None, 1]).default == 0
    encoder = fit([None, 7, 7, 7, 1])
    assert encoder.slots[0].texts[encoder.default] == "7"


def counted(*runs: tuple[float, int]) -> NumberCounts:
    """Counts of each value."""
    counts = NumberCounts()
    values, times = zip(*runs, strict=True)
    counts.add(np.array(values, float), np.array(times))
    return counts


def test_frequent_values_among_many_have_tokens_of_their_own():
    rare = [(float(value), 1) for value in range(100, 200)]
    encoder = NumberEncoder.fit(
        "n", counted((48.0, 500), (52.0, 300), (44.0, 200), *rare), 4, frequent_values=2
    )
    assert encoder.exact == (48.0, 52.0)


def test_what_holds_less_than_a_thousandth_of_the_flows_is_not_frequent():
    rare = [(float(value), 1) for value in range(100, 200)]
    encoder = NumberEncoder.fit("n", counted((48.0, 3000), (52.0, 3), *rare), 4, frequent_values=16)
    assert encoder.exact == (48.0,)


def test_values_that_bins_tell_apart_need_no_tokens_of_their_own():
    encoder = NumberEncoder.fit("n", counted((1.0, 5), (2.0, 4), (3.0, 4)), 4, frequent_values=16)
    assert encoder.exact == (1.0,)


def test_values_between_frequent_ones_fall_into_bins():
    rare = [(float(value), 1) for value in range(10)]
    encoder = NumberEncoder.fit("n", counted((4.5, 50), (5.5, 40), *rare), 4, frequent_values=2)
    slot, tokens = encoder.slots[0], encoder.encode(pa.array([4.5, 4.6, 5.5]))[:, 0].tolist()
    assert [token in slot.bins for token in tokens] == [False, True, False]


def test_numbers_are_ordered_by_value_across_bins_and_exact_values():
    rare = [(float(value), 1) for value in range(10)]
    encoder = NumberEncoder.fit("n", counted((4.5, 50), (5.5, 40), *rare), 4, frequent_values=2)
    (slot,) = encoder.slots
    starts = [float(text.split("[")[-1].split(",")[0]) for text in slot.shown]
    in_order = [starts[token - len(slot.special_states)] for token in slot.ordered]
    assert in_order == sorted(starts)


def test_bins_hold_about_as_many_distinct_values_each():
    values = np.arange(1, 101, dtype=np.float64) ** 3
    starts = bin_starts(values, 10)
    assert np.histogram(values, [*starts, np.inf])[0].tolist() == [10] * 10


def test_a_bin_start_lies_between_neighbours_even_at_the_ends_of_float64():
    values = np.array([-1.7e308, 1.7e308, np.nextafter(1.7e308, np.inf)])
    starts = bin_starts(values, 3)
    assert starts.tolist() == [-1.7e308, 0.0, values[2]]


def test_the_largest_float_is_a_number_like_any_other():
    largest = 1.7976931348623157e308
    assert texts(fit([0, 0, 1, largest]), [largest, math.inf, 1]) == ["q1", "<infinite>", "q0"]
    assert texts(fit([largest, largest]), [largest, math.inf]) == [write_number(largest), "<infinite>"]


@given(NUMBERS, NUMBERS, st.integers(1, 8))
def test_every_number_gets_the_token_that_a_slow_reading_of_the_rules_gives(
    training: list[float | None], asked: list[float | None], num_bins: int
):
    encoder = fit(training, num_bins)
    finite = [value for value in training if value is not None and math.isfinite(value)]
    values = [*asked, *training, None, math.inf, -0.0]
    for value, text in zip(values, texts(encoder, values), strict=True):
        assert text == slowly(encoder, finite, value)


def slowly(encoder: NumberEncoder, training: list[float], value: float | None) -> str:
    if value is None:
        return "<missing>"
    if math.isinf(value):
        return "<infinite>"
    if value in encoder.exact:
        return write_number(value)
    if value < 0 and not any(number < 0 for number in training):
        return "<negative>"
    if not training or value > max(training):
        return "<above>"
    if value < min(training):
        return "<below>"
    return f"q{sum(start <= value for start in encoder.starts[1:])}"


@given(NUMBERS, st.integers(1, 8))
def test_a_value_lies_in_the_interval_that_people_read(training: list[float | None], num_bins: int):
    encoder = fit(training, num_bins)
    slot = encoder.slots[0]
    for value, token in zip(
        training, encoder.encode(pa.array(training, pa.float64()))[:, 0].tolist(), strict=True
    ):
        if value is not None and token in slot.bins:
            low, high = slot.texts[token].split(" ", 1)[1].strip("[)]").split(", ")
            assert float(low) <= value <= float(high)


def test_fitting_does_not_depend_on_the_order_of_the_blocks():
    rng = np.random.default_rng(0)
    values = rng.normal(size=3000).round(2)
    one, other = NumberCounts(max_distinct=100), NumberCounts(max_distinct=100)
    for block in np.split(values, 30):
        one.add(block, np.ones(100, np.int64))
    for block in np.split(values[::-1], 10):
        other.add(block, np.ones(300, np.int64))
    merged = NumberCounts(max_distinct=100)
    for block in np.split(values, 3):
        part = NumberCounts(max_distinct=100)
        part.add(np.append(block, [np.nan, np.inf]), np.ones(1002, np.int64))
        merged.merge(part)
    assert 50 < len(one.sample) <= 100
    assert one.sample.tolist() == other.sample.tolist() == merged.sample.tolist()
    assert (one.low_, one.high_) == (merged.low_, merged.high_) == (values.min(), values.max())
    assert (merged.num_missing_, merged.num_infinite_, merged.num_values_) == (3, 3, 3000)


def test_bins_of_a_sample_are_off_by_no_more_than_its_size_allows():
    """A rank q of k sampled values is off by less than 3 sqrt(q (1 - q) / k), 997 times in 1,000."""
    counts = NumberCounts(max_distinct=20_000)
    for block in np.split(np.arange(1.0, 200_001.0), 20):
        counts.add(block, np.ones(len(block), np.int64))
    ranks = np.array(NumberEncoder.fit("n", counts, 10).starts) / 200_000
    wanted = np.arange(10) / 10
    assert (np.abs(ranks - wanted) < 3 * np.sqrt(wanted * (1 - wanted) / len(counts.sample)) + 1e-3).all()


def test_a_sample_of_too_many_values_still_cuts_them_evenly_and_keeps_the_most_frequent():
    counts = NumberCounts(max_distinct=5000)
    values = np.random.default_rng(0).permutation(np.arange(1.0, 100_001.0))
    for block in np.split(values, 10):
        counts.add(block, np.ones(len(block), np.int64))
        counts.add(np.array([77.5]), np.array([50]))
    assert len(counts.values_) <= 5000 + 1024
    encoder = NumberEncoder.fit("n", counts, 10)
    assert encoder.exact == (77.5,)
    assert np.allclose(encoder.starts, np.arange(0, 100_000, 10_000), atol=3500)


def test_numbers_are_written_so_that_they_read_back():
    for value in (0.1, 1e22, 5e-324, 123456789.0, -2.5):
        assert float(write_number(value)) == value
