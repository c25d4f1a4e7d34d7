import ipaddress

import numpy as np

from wirebert.data.synthetic.network import (
    FIRST_GROUP,
    FIRST_OUTSIDE,
    NUM_CLIENTS,
    NUM_OUTSIDE,
    Network,
    busy_time_s,
    server,
)


def test_inside_hosts_are_private_and_outside_hosts_are_public():
    addresses = Network(0).addresses
    assert len(addresses[:FIRST_GROUP]) == FIRST_OUTSIDE + NUM_OUTSIDE
    assert all(ipaddress.ip_address(address).is_private for address in addresses[:FIRST_OUTSIDE])
    assert len(set(addresses[:FIRST_OUTSIDE])) == FIRST_OUTSIDE
    public = [ipaddress.ip_address(address).is_global for address in addresses[FIRST_OUTSIDE:FIRST_GROUP]]
    assert np.mean(public) > 0.99


def test_infected_hosts_are_clients_and_attackers_are_outside():
    network = Network(3)
    assert (network.infected < NUM_CLIENTS).all()
    assert (network.attackers >= FIRST_OUTSIDE).all()
    assert NUM_CLIENTS <= server("legacy") < FIRST_OUTSIDE


def test_the_seed_decides_who_is_who():
    assert Network(1).infected.tolist() == Network(1).infected.tolist()
    assert Network(1).addresses != Network(2).addresses


def test_busy_time_rises_and_ends_each_day_at_midnight():
    times_s = busy_time_s(np.linspace(0, 3, 1_000))
    assert (np.diff(times_s) > 0).all()
    assert busy_time_s(np.array([0.0, 1.0, 2.0])).tolist() == [0.0, 86_400.0, 172_800.0]
