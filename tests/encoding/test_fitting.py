import pyarrow as pa

from wirebert.data.schema.schema import (FlowSchema)
from wirebert.encoding.fitting import fit_columns
from wirebert.encoding.settings import EncodingConfig


def test_columns_are_fitted_over_all_blocks_whatever_their_order(web_schema: FlowSchema):
    blocks = [
        pa.table({"duration": [0.0, 1.5], "service": ["http", "dns"], "uri": ["/a b", None]}),
        pa.table({"duration": [2.5, None], "service": ["dns", "http"], "uri": ["/c", "/a b"]}),
    ]
    config = EncodingConfig(num_pieces=300)
    fitted = fit_columns(web_schema.features, blocks, config)
    again = fit_columns(web_schema.features, lambda: reversed(blocks), config)
    assert fitted == again
    assert [encoder.column for encoder in fitted.encoders] == [
        "duration",
        "service",
        "dst_port",
        "src_ip",
        "tcp_flags",
    ]
    assert fitted.pieces is not None


def test_a_table_without_text_columns_has_no_pieces(web_schema: FlowSchema):
    fitted = fit_columns(web_schema.features[:2], [], EncodingConfig())
    assert fitted.pieces is None
    assert len(fitted.encoders) == 2
