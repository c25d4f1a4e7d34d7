import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.times import seconds_of


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


def test_a_day_that_does_not_exist_is_no_time():
    found = seconds_of(pa.array(["2017-07-56T02:40:00", "2017-07-14T02:40:00"]))
    assert np.isnan(found[0])
    assert found[1] == 1_500_000_000.0
