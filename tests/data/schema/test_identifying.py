import pytest

from wirebert.data.schema.identifying import identifies, identifying_parts


@pytest.mark.parametrize(
    ("column", "kind"),
    [
        ("anything", "address"), ("anything", "identifier"), ("anything", "text"), ("ts", "time"),
        ("http.host", "category"), ("server_name", "category"), ("User Name", "category"),
        ("uri", "category"), ("uid", "category"), ("dns_query", "category"),
    ],
)  # fmt: skip
def test_columns_of_hosts_people_and_payloads_identify(column: str, kind: str):
    assert identifies(column, kind)


@pytest.mark.parametrize("column", ["service", "proto", "bytes", "dst_port", "flags", "count"])
def test_others_do_not(column: str):
    assert not identifies(column, "category")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("10.1.2.3", "an IP address"), ("fe80::1:2:3", "an IP address"), ("a@b.org", "an e-mail address"),
        ("00:11:22:33:44:55", "a hardware address"), ("mail.corp.local", "a host name"),
        ("/etc/passwd", "a path"), ("2026-01-02", "a time"),
    ],
)  # fmt: skip
def test_values_are_known_by_their_form(text: str, what: str):
    assert what in list(identifying_parts(text))
    assert list(identifying_parts("tcp")) == []
