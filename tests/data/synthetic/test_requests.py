# The pyarrow stubs lack type arguments, and know neither plain values as arguments nor columns without null.
# pyright: reportMissingTypeArgument=false, reportUnknownParameterType=false, reportUnknownLambdaType=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
# pyright: reportOptionalMemberAccess=false, reportOptionalSubscript=false, reportReturnType=false
# pyright: reportOperatorIssue=false

import numpy as np
import pyarrow as pa
import pytest

from wirebert.data.synthetic.requests import (
    benign_uris,
    cross_site_scripting_uris,
    sql_injection_uris,
    user_agents,
)
from wirebert.data.synthetic.text import TextGrammar

GRAMMARS: list[TextGrammar] = [benign_uris, sql_injection_uris, cross_site_scripting_uris]


def texts(grammar: TextGrammar, count: int = 3_000) -> list[str]:
    return grammar(np.random.default_rng(0), count).to_pylist()


@pytest.mark.parametrize("grammar", GRAMMARS)
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_as_many_requests_as_asked_for(grammar: TextGrammar, count: int):
    found = grammar(np.random.default_rng(0), count)
    assert len(found) == count
    assert found.null_count == 0


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_requests_are_paths_of_one_line_without_spaces(grammar: TextGrammar):
    for text in texts(grammar):
        assert text.startswith("/")
        assert not set(text) & set(" \t\r\n#")


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_most_requests_are_different(grammar: TextGrammar):
    assert len(set(texts(grammar))) > 2_700


def test_benign_requests_hold_what_attacks_hold():
    joined = "\n".join(texts(benign_uris)).lower()
    for mark in ("o%27brien", "o'brien", "select", "union", "script", "%3cscript%3e", "'"):
        assert mark in joined


def test_some_attacks_look_like_visits():
    for grammar in (sql_injection_uris, cross_site_scripting_uris):
        plain = [
            text
            for text in texts(grammar)
            if not any(mark in text.lower() for mark in ("(", "%28", "=", "%3d"))
        ]
        assert len(plain) < 300
        short = [text for text in texts(grammar) if len(text.split("=", 1)[1]) < 25]
        assert len(short) > 100


def test_attacks_are_encoded_and_disguised_in_many_ways():
    joined = texts(sql_injection_uris)
    for mark in ("%27", "%2527", "'", "/**/", "%20", "+", "union", "UNION"):
        assert any(mark in text for text in joined)
    assert any("union" in text.lower() and "union" not in text and "UNION" not in text for text in joined)


def test_user_agents_come_from_browsers_programs_and_scanners():
    found = user_agents(np.random.default_rng(0), 1_000, programs=0.5, scanners=0.1)
    names = pa.array(found).to_pylist()
    assert sum("sqlmap" in name for name in names) > 5
    assert sum("Chrome" in name or "Firefox" in name for name in names) == pytest.approx(400, abs=60)
    assert not any(
        "sqlmap" in name for name in user_agents(np.random.default_rng(0), 500, programs=0.5).to_pylist()
    )
