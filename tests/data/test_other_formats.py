import pytest

from wirebert.data.other_formats import refuse_other_formats
from wirebert.errors import DataError


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b'{"ts": 1}\n', "JSON; convert it to one of these"),
        (b"#separator \\x09\n", "a Zeek log"),
        (
            b"\xd4\xc3\xb2\xa1\x02\x00",
            "a packet capture; have a sensor such as Zeek or Suricata make flows of it",
        ),
        (b"\r\n<!DOCTYPE html>\n<html>", "a web page; download the file itself"),
        (bytes(range(256)) * 8, "binary data; convert it to one of these"),
    ],
)
def test_what_is_no_table_is_named_with_the_way_out(head: bytes, found: str):
    with pytest.raises(DataError) as caught:
        refuse_other_formats(head, "utf-8", "flows.csv")
    message = "flows.csv: expected delimited text, key-value or JSON lines, Parquet or Arrow, found "
    assert str(caught.value).startswith(message + found)


def test_text_that_the_user_calls_a_table_is_one_whatever_it_begins_with():
    with pytest.raises(DataError):
        refuse_other_formats(b"#separator,a\n", "utf-8", "flows.csv")
    refuse_other_formats(b"#separator,a\n", "utf-8", "flows.csv", is_table=True)
