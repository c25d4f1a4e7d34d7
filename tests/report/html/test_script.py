import base64
import hashlib
import json
import re
from pathlib import Path

import pytest
import vl_convert

from wirebert.report.html.script import data_element, policy, script


def test_the_policy_names_the_script_and_lets_no_code_be_made() -> None:
    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    given = policy(script())
    assert f"script-src 'sha256-{digest}'" in given
    assert "default-src 'none'" in given
    assert "unsafe-eval" not in given
    assert "http" not in given


def test_a_page_without_a_script_may_run_none() -> None:
    assert "script-src" not in policy()
    assert "default-src 'none'" in policy()


def test_the_script_has_our_lines_and_the_library_and_can_not_end_its_element() -> None:
    text = script()
    assert "IntersectionObserver" in text
    assert "BSD-3-Clause" in text
    assert "</script" not in text.lower()
    assert len(text) < 1_500_000


def test_no_text_of_the_data_leaves_its_element() -> None:
    specs = {"a": {"name": "</script><b>&\u2028"}}
    element = data_element(specs)  # type: ignore[arg-type]
    inner = re.fullmatch(r'<script type="application/json" id="specs">(.*)</script>', element)
    assert inner is not None
    assert "<" not in inner[1]
    assert json.loads(inner[1]) == specs


def test_what_controls_a_terminal_or_the_direction_of_text_is_escaped_as_json_writes_it() -> None:
    hostile = "a\x01\x7f\x9b\u202e\u2028<"
    element = data_element({"x": hostile})  # type: ignore[dict-item]
    assert "\\u0001\\u007f\\u009b\\u202e\\u2028\\u003c" in element
    assert json.loads(element[element.index(">") + 1 : element.rindex("<")]) == {"x": hostile}


def bundled(_: str) -> str:
    return "bundled"


def test_the_script_is_bundled_once_per_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = script()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", bundled)
    script.cache_clear()
    try:
        assert script().endswith("bundled")
        (kept,) = (tmp_path / "wirebert").iterdir()
        monkeypatch.delattr(vl_convert, "javascript_bundle")
        script.cache_clear()
        assert script() == kept.read_text(encoding="utf-8")
    finally:
        monkeypatch.undo()
        script.cache_clear()
    assert script() == first


def test_a_folder_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wirebert").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(vl_convert, "javascript_bundle", bundled)
    script.cache_clear()
    try:
        assert script().endswith("bundled")
    finally:
        monkeypatch.undo()
        script.cache_clear()
