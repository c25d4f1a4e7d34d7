import re

from wirebert.service.web_page import POLICY, resources


def test_the_page_names_nothing_from_elsewhere():
    for path, (content, _) in resources().items():
        assert not re.search(rb"https?://|//[a-z]|@import|url\(", content.replace(b'"data:,"', b"")), path


def test_what_the_page_names_is_there():
    page = resources()["/"][0].decode()
    assert set(re.findall(r'(?:src|href)="(/[^"]*)"', page)) == {*resources(), "/docs"} - {"/"}


def test_the_page_needs_no_inline_script_or_style():
    page = resources()["/"][0].decode()
    assert not re.search(r"<script(?![^>]*src=)|<style|\son\w+=|\sstyle=|javascript:", page)
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'")


def test_text_of_others_never_becomes_markup():
    script = resources()["/front.js"][0].decode()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", script
    )
