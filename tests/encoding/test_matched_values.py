import pyarrow as pa

from wirebert.data.checks.reading import noted_findings
from wirebert.data.schema.conversion import InvalidValues
from wirebert.encoding.categorical import CategoryEncoder
from wirebert.encoding.matched_values import note_matched_values


def test_rows_with_another_spelling_are_counted_and_told():
    encoders = [CategoryEncoder(column="proto", known=("tcp", "udp"), rare=(), default=4)]
    invalid = InvalidValues(num_rows=8)
    for values in (["TCP", "tcp", "TCP", None], ["17", "sctp", "tcp", "tcp"]):
        note_matched_values(encoders, pa.table({"proto": values}), invalid)
    assert invalid.noted == {"values_matched": {"proto": (3, "'TCP' as 'tcp'")}}
    (told,) = noted_findings(invalid)
    assert (told.code, told.severity, told.count) == ("values_matched", "info", 3)
    assert "3 of 8 rows (37.5 %), such as 'TCP' as 'tcp'" in told.message


def test_absent_columns_and_other_encoders_are_left_out():
    invalid = InvalidValues()
    encoders = [CategoryEncoder(column="proto", known=("tcp",), rare=(), default=4)]
    note_matched_values(encoders, pa.table({"other": ["TCP"]}), invalid)
    assert invalid.noted == {}
