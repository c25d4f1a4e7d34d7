import pyarrow as pa

from wirebert.data.arrow_columns import epoch_texts, epoch_us, to_integers


def test_microseconds_and_back():
    us = epoch_us(pa.array(["2017-07-14T02:40:00.25Z", "2017-02-30T00:00:00", None]))
    assert us.to_pylist() == [1_500_000_000_250_000, None, None]
    assert epoch_texts(us).to_pylist() == ["1500000000.250000", None, None]


def test_whole_numbers_alone_are_integers():
    assert to_integers(pa.array([" 7 ", "7.5", "-", "1" * 19])).to_pylist() == [7, None, None, None]
