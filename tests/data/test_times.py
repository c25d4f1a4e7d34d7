import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.times import plain_times, seconds_of, time_unit


@pytest.mark.parametrize(
    "text",
    [
        "1500000000",
        "1500000000.0",
        "1.5e9",
        "2017-07-14T02:40:00",
        "2017-07-14 02:40:00.000000",
        "2017-07-14T02:40:00.000000Z",
        "2017/07/14 02:40:00",
        "2017-07-14 02:40",
        "2017-07-14T04:40:00+02:00",
        "2017-07-13 22:40 -0400",
        "14/07/2017 02:40:00",
        "14/07/2017 02:40",
    ],
)
def test_the_same_instant_in_many_spellings(text: str):
    assert seconds_of(pa.array([text])).tolist() == [1_500_000_000.0]


def test_fractions_are_kept_and_what_is_no_time_is_nan():
    found = seconds_of(pa.chunked_array([["2017-07-14T02:40:00.25", None], ["noon", ""]]))
    assert found[0] == 1_500_000_000.25
    assert np.isnan(found[1:]).all()


def test_numbers_and_dictionaries_are_read_too():
    assert seconds_of(pa.array([1.5, 2.5])).tolist() == [1.5, 2.5]
    assert seconds_of(pa.array(["7", "8", "7"]).dictionary_encode()).tolist() == [7.0, 8.0, 7.0]
    assert len(seconds_of(pa.array([], pa.string()))) == 0


def test_a_whole_number_beyond_what_a_float_holds_exactly_is_rounded():
    assert seconds_of(pa.array([1_772_409_600_000_000_001])).tolist() == [1_772_409_600_000_000_001.0]


def test_a_day_that_does_not_exist_is_no_time():
    found = seconds_of(pa.array(["2017-07-56T02:40:00", "2017-07-14T02:40:00"]))
    assert np.isnan(found[0])
    assert found[1] == 1_500_000_000.0


@pytest.mark.parametrize(
    "text",
    [
        "14.07.2017 02:40:00",
        "14-07-17 02:40",
        "7/14/2017 2:40:00 AM",
        "Jul 14, 2017 02:40:00.000000000 UTC",
        "Fri Jul 14, 2017 02:40:00",
        "14/Jul/2017:04:40:00 +0200",
        "14 July 2017 02:40:00",
        "2017.07.14 02:40:00",
    ],
)
def test_dates_in_any_writing_are_read(text: str):
    texts = pa.array([text])
    assert seconds_of(texts).tolist() == [1_500_000_000.0]
    (plain,) = plain_times(texts, time_unit(texts)).to_pylist()
    assert plain == "2017-07-14 02:40:00"


def test_noon_and_midnight_of_12_hour_clocks():
    found = seconds_of(pa.array(["1/13/1970 12:00:00 AM", "1/13/1970 12:00:00 PM", "1/13/1970 01:00 pm"]))
    assert (found - 12 * 86_400).tolist() == [0.0, 43_200.0, 46_800.0]


def test_the_order_of_a_column_is_one_for_all_its_dates():
    read = seconds_of(pa.array(["1/2/1970 0:00", "13/2/1970 0:00", "2/13/1970 0:00", "3/2/1970 0:00"]))
    assert np.isnan(read).tolist() == [False, False, True, False]  # day first reads most
    assert (read[[0, 1, 3]] / 86_400).tolist() == [31.0, 43.0, 33.0]


def test_among_orders_that_read_all_the_usual_one_counts_and_then_the_shorter_span():
    texts = pa.array([f"{day}/7/2017 10:00" for day in range(3, 8)])
    assert time_unit(texts) == "dmy"
    assert time_unit(texts, "mdy") == "mdy"
    assert time_unit(pa.array([f"7/{day}/2017 10:00" for day in range(3, 8)])) == "mdy"


@pytest.mark.parametrize("text", ["30/02/2018 00:00", "26/02/2018 24:30", "2/2/2/2", "1.2", "99/99/9999"])
def test_what_is_no_date_is_no_date(text: str):
    texts = pa.array([text, "26/02/2018 00:00"])
    assert np.isfinite(seconds_of(texts)).tolist() == [text == "1.2", True]


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)])
def test_epochs_are_scaled_by_their_size_and_whole_numbers_exactly(unit: str, factor: int):
    texts = pa.array([str(1_700_000_013 * factor), str(1_700_000_014 * factor)])
    assert time_unit(texts) == unit
    assert seconds_of(plain_times(texts, unit)).tolist() == [1_700_000_013.0, 1_700_000_014.0]
    assert plain_times(pa.array(["1700000013794180123"]), "ns").to_pylist() == ["1700000013.794180"]


def test_a_clock_that_starts_elsewhere_keeps_its_unit():
    texts = pa.array(["5", "1200"])
    assert (time_unit(texts), time_unit(texts, "ms")) == ("s", "ms")
    assert plain_times(texts, "s").to_pylist() == ["5", "1200"]
    assert plain_times(texts, "ms").to_pylist() == ["0.005000", "1.200000"]


def test_times_in_standard_form_are_left_as_they_are():
    texts = pa.array(["1700000013.5", "2017-07-14T02:40:00Z", None, "02:40:00"])
    assert plain_times(texts, "s").equals(texts)
