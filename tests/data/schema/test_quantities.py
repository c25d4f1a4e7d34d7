import pytest

from wirebert.data.schema.quantities import quantity


@pytest.mark.parametrize(
    ("text", "number", "what"),
    [
        ("1.9 M", 1_900_000.0, "amount"),
        ("34.2k", 34_200.0, "amount"),
        ("4.1 kB", 4_100.0, "amount"),
        ("4.2 KiB", 4_300.8, "amount"),
        ("2G", 2e9, "amount"),
        ("1 Mbit/s", 1e6, "amount"),
        ("46 B", 46.0, "amount"),
        ("12 packets", 12.0, "amount"),
        ("1,234,567.5", 1_234_567.5, "amount"),
        ("-14.5 %", -14.5, "amount"),
        ("0X2E", 46.0, "amount"),
        ("30s", 30.0, "time"),
        ("250 ms", 0.25, "time"),
        ("5 min", 300.0, "time"),
        ("00:00:30", 30.0, "time"),
        ("1:02:03.5", 3_723.5, "time"),
        ("1 day, 0:00:30", 86_430.0, "time"),
        ("0 days 00:00:30.25", 30.25, "time"),
    ],
)
def test_a_quantity_is_read(text: str, number: float, what: str):
    assert quantity(text) == (pytest.approx(number, rel=1e-12), what)


def test_times_are_in_the_unit_of_their_column():
    assert quantity("1.5 s", "ms") == (1_500.0, "time")
    assert quantity("00:01:00", "us") == (6e7, "time")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "1.5",
        "inf",
        "1,5",
        "12,34",
        "1,2345",
        "5 m",
        "5q",
        "M",
        "1.2.3",
        "0x",
        "tcp",
        "fe80::1",
        "12:30",
    ],
)
def test_other_texts_are_no_quantities(text: str):
    assert quantity(text) is None
