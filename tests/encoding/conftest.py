"""Small tables that are told cell by cell, and the real ones."""

import pytest

from wirebert.data.schema.schema import Column, ColumnKind, FlowSchema


@pytest.fixture(scope="session")
def web_schema() -> FlowSchema:
    """A table with one column of every kind of feature."""
    kinds = {
        "duration": ColumnKind.DURATION,
        "service": ColumnKind.CATEGORY,
        "dst_port": ColumnKind.PORT,
        "src_ip": ColumnKind.ADDRESS,
        "tcp_flags": ColumnKind.FLAGS,
        "uri": ColumnKind.TEXT,
    }
    columns = [Column(name=name, kind=kind, is_feature=True) for name, kind in kinds.items()]
    return FlowSchema(name="web", columns=tuple(columns))
