"""Tables for notebooks."""

from wirebert.data.findings import Finding
from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.report.html.notebook import html_of_facts, html_of_schema


def test_texts_of_the_traffic_are_escaped():
    schema = FlowSchema(name="f", columns=(Column(name="<b>", kind=ColumnKind.COUNT, is_feature=True),))
    finding = Finding(
        code="odd_column_name", severity="info", column="<b>", count=1, example="", message="<script>"
    )
    html = html_of_schema("flows <1>", schema, [finding])
    assert "<b>" not in html
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_facts_are_rows():
    assert '<th scope="row">classes</th><td class="text">a, b</td>' in html_of_facts(
        "Detector", {"classes": "a, b"}
    )
