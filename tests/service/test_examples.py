"""A made-up flow is one that the model knows, and holds nothing that training held of hosts."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema
from wirebert.encoding.tokenizer import FlowTokenizer
from wirebert.inference.detector import Detector
from wirebert.service.bodies import CSV, JSON
from wirebert.service.examples import Examples, as_csv, typical_flow
from wirebert.service.handlers import RequestHandler, ScoreRequest, ScoreResponse
from wirebert.service.limits import Limits

if TYPE_CHECKING:
    from wirebert.inference.artifact import Artifact


def test_every_column_but_identifiers_and_labels_has_a_value_that_the_model_knows(artifact: "Artifact"):
    flow = typical_flow(artifact.tokenizer)
    assert list(flow) == ["ts", "src_ip", "dst_port", "duration", "bytes", "service", "flags"]
    assert flow["src_ip"] == "192.0.2.10"
    assert flow["service"] == "http"
    row = pa.table({name: [value] for name, value in flow.items()})
    assert Detector(artifact).score(row).num_unseen.tolist() == [0]  # pyright: ignore


def test_a_host_an_address_and_a_path_of_training_are_no_example():
    names = ("host", "page")
    columns = tuple(Column(name=name, kind=ColumnKind.CATEGORY, is_feature=True) for name in names)
    table = pa.table({"host": ["mail.example.org", "10.0.0.7"], "page": ["/private/x", "/private/y"]})
    tokenizer = FlowTokenizer.fit(FlowSchema(name="flows", columns=columns), [table])
    assert typical_flow(tokenizer) == {}


@pytest.mark.parametrize("kind", [JSON, CSV])
def test_the_examples_are_answered(artifact: "Artifact", kind: str):
    handler = RequestHandler(Detector(artifact), Limits())
    handler.warm_up()
    assert handler.example_answer is not None
    flow = handler.examples.flow
    body = as_csv(flow) if kind == CSV else handler.examples.requests[422].split("'")[3]
    (answer,) = handler.handle([ScoreRequest(content_type=kind, body=body.encode(), answer_type=JSON)])
    assert isinstance(answer, ScoreResponse)
    assert answer.num_flows == 1


def test_a_cell_with_a_comma_or_a_quote_is_one_cell():
    assert as_csv({"a": 'x,"y"', "b": 1}) == 'a,b\n"x,""y""",1\n'


def test_only_the_example_behind_the_key_names_columns(artifact: "Artifact"):
    requests = Examples.of(artifact.tokenizer, Limits(max_rows=7)).requests
    told = {
        status: any(f'"{name}"' in text for name in artifact.schema.names)
        for status, text in requests.items()
    }
    assert {status for status, names in told.items() if names} == {422}
    assert "head -n 7 " in requests[413]


def test_a_sample_needs_no_context(artifact: "Artifact"):
    from wirebert.data.windows import ContextWindows

    windowed = replace(artifact.schema, context=ContextWindows())
    assert not any(windowed.is_context(name) for name in typical_flow(artifact.tokenizer))
