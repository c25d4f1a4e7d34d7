from wirebert.encoding.ports import SERVICES


def test_ports_are_ports_and_names_are_unique_words():
    assert all(0 <= port < 1 << 16 for port in SERVICES)
    assert len(set(SERVICES.values())) == len(SERVICES)
    assert all(name.replace("_", "").isalnum() for name in SERVICES.values())
    assert (SERVICES[443], SERVICES[53], SERVICES[3389]) == ("https", "dns", "rdp")
